"""Three nats-servers, one of which is killed (SIGKILL): nothing is lost, doubled or stopped."""

import asyncio
import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    NoRespondersError,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.nats.streams import STREAMS, ensure_streams
from penstock_common.subjects import kv_stream
from tests.support.cluster_site import ClusterSite, running_site
from tests.support.installation import ROOT, eventually
from tests.support.nats_cluster import NAMES, running_cluster

WORKERS = kv_stream(subjects.WORKERS)
#: What a question may meet while leaders change.
AWAY = (BusDisconnectedError, BusTimeoutError, BusRefusedError, NoRespondersError)
#: What a whole path needs in every moment, and what makes a mass stop when it is taken for lost.
BUSY = (WORKERS, kv_stream(subjects.NODES), kv_stream(subjects.ROUTERS), subjects.TICKETS)

pytestmark = [pytest.mark.nats, pytest.mark.timeout(480)]


async def asked(bus: Bus, verb: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """JetStream's answer; {} = none, as while leaders change."""
    try:
        return await bus.api(verb, body, timeout_s=1)
    except AWAY:
        return {}


async def told(bus: Bus, verb: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """JetStream's answer to a question, asked again while leaders change."""
    return await eventually(lambda: asked(bus, verb, body), verb, within_s=60)


async def placed(bus: Bus, stream: str) -> Mapping[str, Any]:
    """Where a stream lies: `leader`, and `replicas`, the others; {} = nobody answers."""
    found: Mapping[str, Any] = (await asked(bus, f"STREAM.INFO.{stream}")).get("cluster", {})
    return found


async def lead(bus: Bus, stream: str, server: str) -> None:
    """Have this server lead the stream."""

    async def leads() -> bool:
        leader = (await placed(bus, stream)).get("leader")
        if leader != server:
            body = {"placement": {"preferred": server}}
            await asked(bus, f"STREAM.LEADER.STEPDOWN.{stream}", body)
        return bool(leader == server)

    await eventually(leads, f"{server} leads {stream}", within_s=60)


async def copies_are_current(bus: Bus) -> bool:
    """Whether each server has a copy of every stream that lacks nothing."""
    for declared in STREAMS:
        where = await placed(bus, declared["name"])
        copies = [r for r in where.get("replicas", ()) if r.get("current") and not r.get("offline")]
        if {where.get("leader"), *(copy["name"] for copy in copies)} != set(NAMES):
            return False
    return True


async def test_every_stream_has_a_copy_on_each_server(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "nats") as cluster, cluster.connected("api") as bus:
        await ensure_streams(bus, replicas=1, may_change=True)
        await ensure_streams(bus, replicas=3, may_change=True)  # as an installation that grew
        logs = await told(bus, f"STREAM.INFO.{subjects.LOGS}")
        assert logs["config"]["num_replicas"] == 1, "docs/operations.md says that the logs keep one"
        async with cluster.connected() as operator:
            await operator.api(f"STREAM.DELETE.{subjects.LOGS}", timeout_s=30)
        await ensure_streams(bus, replicas=3, may_change=True)
        await eventually(lambda: copies_are_current(bus), "three copies of each", within_s=120)
        before = {}
        for declared in STREAMS:
            info = await told(bus, f"STREAM.INFO.{declared['name']}")
            assert info["config"]["num_replicas"] == 3
            before[declared["name"]] = (info["created"], info["config"])
        await ensure_streams(bus, replicas=3, may_change=True)
        for name, same in before.items():
            info = await told(bus, f"STREAM.INFO.{name}")
            assert (info["created"], info["config"]) == same


async def test_a_table_takes_nothing_from_a_server_that_lags_behind(tmp_path: Path) -> None:
    """A server that was just started would serve a watch with an empty bucket."""
    keys = [f"k{i}" for i in range(1_000)]
    declared = next(d for d in STREAMS if d["name"] == WORKERS)
    async with running_cluster(tmp_path / "nats") as cluster, cluster.connected() as operator:
        create = f"STREAM.CREATE.{WORKERS}"
        await operator.api(create, {**declared, "num_replicas": 3}, timeout_s=30)

        async def led() -> Mapping[str, Any]:
            where = await placed(operator, WORKERS)
            return where if where.get("leader") and len(where.get("replicas", ())) == 2 else {}

        where = await eventually(led, "the stream has a leader and two others", within_s=60)
        meta = await cluster.leader()
        late = next(r["name"] for r in where["replicas"] if r["name"] != meta)
        async with cluster.connected(server=where["leader"]) as bus:
            bucket = Bucket(bus, subjects.WORKERS)
            cluster.servers[late].kill()

            async def write(key: str) -> None:
                """Until it is acknowledged, however often leaders change."""

                async def written() -> bool:
                    with contextlib.suppress(*AWAY):
                        return await bucket.put(key, b"x" * 600) > 0
                    return False

                await eventually(written, f"{key} is written", within_s=60)

            for i in range(0, len(keys), 50):
                await asyncio.gather(*(write(key) for key in keys[i : i + 50]))
            await asyncio.to_thread(cluster.servers[late].start)
            listed: Counter[int] = Counter()

            async def list_once() -> None:
                # Where a watch is served is the server's choice: many of them meet the late one.
                table = WatchedTable(
                    bus, subjects.WORKERS, bytes, on_synced=lambda: listed.update([len(table.rows)])
                )
                await table.start(wait_s=60)
                await table.stop()

            for _ in range(3):
                await asyncio.gather(*(list_once() for _ in range(10)))
            assert set(listed) == {len(keys)}


@asynccontextmanager
async def asking(
    site: ClusterSite, app: str, answers: list[tuple[int, Any]]
) -> AsyncIterator[None]:
    """One request after the other, each with a path of its own."""
    ended = asyncio.Event()

    async def ask() -> None:
        for n in itertools.count():
            if ended.is_set():
                return
            answers.append(await site.get(app, f"/{app}-{n}"))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        try:
            yield
        finally:
            ended.set()


async def test_requests_are_served_while_a_server_is_down(tmp_path: Path) -> None:
    served = tmp_path / "served"
    command = f"{sys.executable} {ROOT}/tests/support/counting_worker.py {served}"
    warm: list[tuple[int, Any]] = []
    cold: dict[str, list[tuple[int, Any]]] = {}
    async with (
        running_cluster(tmp_path / "nats") as cluster,
        cluster.connected() as operator,
        running_site(cluster, tmp_path / "site") as site,
    ):

        async def burst(app: str) -> None:
            """Requests to an endpoint that has no worker yet, more than a worker takes at once."""
            paths = [f"/{app}-{n}" for n in range(6)]
            cold[app] = list(await asyncio.gather(*(site.get(app, path) for path in paths)))

        async def back(server: str) -> None:
            """Start a server that was killed; it has caught up with the others."""
            await asyncio.to_thread(cluster.servers[server].start)
            await cluster.agree()
            await eventually(lambda: copies_are_current(operator), "three copies", within_s=120)

        for app in ("follower", "election", "elected", "again"):
            one = {"min": 0, "max": 1, "max_concurrency": 2}
            await site.deploy(app, command, workers=one, queue={"max_wait_s": 60})
        await site.deploy("warm", command, workers={"min": 1, "max": 1, "max_concurrency": 8})
        await site.get("warm", "/first")
        async with asking(site, "warm", warm):
            leader = await cluster.leader()
            for stream in BUSY:
                await lead(operator, stream, leader)

            follower = next(name for name in NAMES if name != leader)
            cluster.servers[follower].kill()
            await burst("follower")
            await back(follower)

            cluster.servers[leader].kill()
            await burst("election")  # nobody leads anything that a start of a worker takes
            await burst("elected")
            await back(leader)
            await lead(operator, WORKERS, leader)  # it is as good as the others again
            await burst("again")

        assert {status for status, _ in warm} == {200}
        assert len({answer["worker"] for _, answer in warm}) == 1, "the warm worker was replaced"
        for app, answers in cold.items():
            assert [status for status, _ in answers] == [200] * 6, app
            assert len({answer["worker"] for _, answer in answers}) == 1, app
            assert len(await site.workers(app)) <= 1
        verb = f"STREAM.INFO.{subjects.EVENTS}"
        info = await told(operator, verb, {"subjects_filter": "penstock.v1.events.node.>"})
        assert not [s for s in info["state"]["subjects"] if s.endswith(".lost")]
        assert not site.said("nats_denied")
    sent = [
        "/first",
        *(a["path"] for _, a in warm),
        *(a["path"] for c in cold.values() for _, a in c),
    ]
    assert Counter(served.read_text().split()) == Counter(sent)
