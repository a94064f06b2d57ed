"""Penstock's router, run as in production: its own processes, a real nats-server, keys checked.

The records of api, scheduler and node agent are written once by this process, which then is silent;
no other service runs. One nats-server carries three routers: `penstock-1` is one process,
`penstock-2` two on one port with a worker each, `penstock-2-shared` the same two before one worker.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from benchmarks.router.children import ChildError, Children, free_ports
from benchmarks.router.client import answered
from benchmarks.router.targets import COMPLETION, KEY, Peer, Target, Workers
from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.nats import streams
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_common.settings import NatsSettings
from tests.fakes.router_world import World
from tests.support.nats_server import nats_server_binary

#: Slots of a worker that is to be no limit, and of one that two routers share.
MANY_SLOTS: Final = 8_192
SHARED_SLOTS: Final = 512
_CLOCK: Final = SystemClock()
#: Connections that must all be answered before two processes on one port count as ready: the
#: kernel spreads them by a hash, so that none of 24 meets one of the two in 1 of 16 million cases.
_CHECKS: Final = 24


@asynccontextmanager
async def running_penstock(children: Children, workers: Workers) -> AsyncIterator[list[Peer]]:
    """The three arrangements, warm.

    Raises:
        ChildError: a process did not start, or an endpoint did not answer within 20 s.
    """
    nats_port, one, two = free_ports(3)
    nats_url = f"nats://127.0.0.1:{nats_port}"
    nats = await _start_nats(children, nats_port)
    rt_1, rt_2a, rt_2b = [
        await _start_router(children, name, nats_url, port)
        for name, port in (("rt-1", one), ("rt-2a", two), ("rt-2b", two))
    ]
    bus = await Bus.connect(NatsSettings(nats_url=nats_url), name="bench", clock=_CLOCK)
    try:
        await _write_records(bus, workers)
        name = f"penstock-router {version('penstock-router')}"
        pair = (rt_2a, rt_2b, nats)
        peers = [
            Peer("penstock-1", name, Target(one, "/one"), (rt_1, nats), Target(one, "/queue-one")),
            Peer("penstock-2", name, Target(two, "/two"), pair, Target(two, "/queue-two")),
            Peer("penstock-2-shared", name, Target(two, "/shared"), pair, slots=SHARED_SLOTS),
        ]
        await _wait_until_warm(bus, peers)
        yield peers
    finally:
        await bus.close()


async def _start_nats(children: Children, port: int) -> int:
    """A server that syncs what it acknowledges, as `penstock up` starts it."""
    config = children.folder / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f'jetstream {{ store_dir: "{children.folder / "nats"}", sync_interval: always }}\n'
    )
    return await children.start("nats", [nats_server_binary(), "-c", str(config)], port=port)


async def _start_router(children: Children, router_id: str, nats_url: str, port: int) -> int:
    env = {
        "PENSTOCK_ROUTER_NATS_URL": nats_url,
        "PENSTOCK_ROUTER_PORT": str(port),
        "PENSTOCK_ROUTER_REUSE_PORT": "true",
        "PENSTOCK_ROUTER_ROUTER_ID": router_id,
        "PENSTOCK_ROUTER_LOG_LEVEL": "warning",
        "PENSTOCK_ROUTER_CLIENT_KEEPALIVE_S": "300",
    }
    argv = [sys.executable, "-m", "penstock_router"]
    return await children.start(router_id, argv, port=port, env=env)


async def _write_records(bus: Bus, workers: Workers) -> None:
    """What api, scheduler and node agent would have written."""
    await streams.ensure_streams(bus)
    world = World(bus)
    await world.put_key(KEY)
    for app, slots, port, drivers in (
        ("one", MANY_SLOTS, workers.port, ["rt-1"]),
        ("two", MANY_SLOTS, workers.port, ["rt-2a", "rt-2b"]),
        ("shared", SHARED_SLOTS, workers.port, ["rt-2a"]),
        ("queue-one", workers.queue_slots, workers.queue_port, ["rt-1"]),
        ("queue-two", workers.queue_slots, workers.queue_port, ["rt-2a"]),
    ):
        endpoint_id = await world.put_endpoint(
            app, public=False, workers={"max_concurrency": slots}, queue={"max_waiting": 5_000}
        )
        for driver in drivers:
            worker_id = f"wk-{app}-{driver}"
            await world.assign(endpoint_id, worker_id, driver)
            await world.put_worker_status(worker_id, port)


async def _wait_until_warm(bus: Bus, peers: list[Peer]) -> None:
    routers = Bucket(bus, subjects.ROUTERS)
    try:
        async with asyncio.timeout(20):
            for router_id in ("rt-1", "rt-2a", "rt-2b"):
                while await routers.get(router_id) is None:  # noqa: ASYNC110 - a plain read
                    await asyncio.sleep(0.05)
            for target in (t for peer in peers for t in (peer.target, peer.queue) if t):
                for _ in range(_CHECKS):
                    await answered(target, COMPLETION)
    except TimeoutError:
        raise ChildError("Penstock did not answer within 20 s") from None
