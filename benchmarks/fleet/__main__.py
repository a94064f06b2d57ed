"""The control plane over 100, 300 and 1,000 simulated nodes and as many endpoints.

make bench-fleet             # python -m benchmarks.fleet --sizes 100 300 1000
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import aiohttp

from benchmarks.fleet.simulated import Fleet
from benchmarks.processes import cpu_s, rss_mib
from penstock_common.clock import SystemClock
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import ensure_streams
from penstock_common.settings import NatsSettings
from tests.support.nats_server import NatsServer

RESULTS: Final = Path(__file__).parents[1] / "results"
CLOCK: Final = SystemClock()
CONNECTIONS: Final = 8
REACTIONS: Final = 30


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used in one phase."""

    scheduler_cores: float
    nats_cores: float
    nats_bytes_per_node_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """One size."""

    size: int
    workers: int
    idle: Usage
    scaling: Usage
    n_reactions: int
    reaction_p50_ms: float
    reaction_p99_ms: float
    scheduler_mib: float
    nats_mib: float


async def nats_bytes(url: str) -> int:
    """Bytes in and out of the server so far."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/varz") as answer:
        varz = await answer.json()
    return int(varz["in_bytes"]) + int(varz["out_bytes"])


@asynccontextmanager
async def scheduler(server: NatsServer, log: Path) -> AsyncIterator[int]:
    """The real scheduler in a process of its own; gives its pid."""
    env = {**os.environ, "PENSTOCK_SCHEDULER_NATS_URL": server.url}
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220  # started once, before anything is measured
            [sys.executable, "-m", "penstock_scheduler"], env=env, stdout=out, stderr=out
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


class Meter:
    """CPU and bytes of one phase."""

    def __init__(self, server: NatsServer, pid: int, size: int) -> None:
        self._server, self._pid, self._size = server, pid, size

    async def over(self, seconds: float) -> Usage:
        """Wait so long, and say what was used meanwhile."""
        at, before = CLOCK.monotonic(), await self._read()
        await asyncio.sleep(seconds)
        after, took_s = await self._read(), CLOCK.monotonic() - at
        ours, nats, traffic = (b - a for a, b in zip(before, after, strict=True))
        return Usage(ours / took_s, nats / took_s, traffic / took_s / self._size)

    async def _read(self) -> tuple[float, float, float]:
        return (
            cpu_s(self._pid),
            cpu_s(self._server.pid),
            float(await nats_bytes(self._server.monitor_url)),
        )


async def measure(size: int, folder: Path, *, idle_s: float, scaling_s: float) -> Result:
    """One size: idle, then a tenth of the endpoints a minute, then one cold request at a time."""
    server = NatsServer(folder)
    server.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            settings = NatsSettings(nats_url=server.url)
            buses = []
            for n in range(CONNECTIONS):
                bus = await Bus.connect(settings, name=f"fleet-{n}", clock=CLOCK)
                stack.push_async_callback(bus.close)
                buses.append(bus)
            await ensure_streams(buses[0])
            fleet = Fleet(buses, CLOCK, size)
            await fleet.begin()
            stack.push_async_callback(fleet.assignments.stop)
            pid = await stack.enter_async_context(scheduler(server, folder / "scheduler.log"))
            task = asyncio.create_task(fleet.run(), name="fleet")
            try:
                return await asyncio.wait_for(
                    _phases(fleet, Meter(server, pid, size), server, pid, idle_s, scaling_s), 90
                )
            finally:
                task.cancel()
                await asyncio.wait({task})
    finally:
        server.kill()


async def _phases(
    fleet: Fleet, meter: Meter, server: NatsServer, pid: int, idle_s: float, scaling_s: float
) -> Result:
    size = len(fleet.nodes)
    while fleet.n_running < size // 2:  # noqa: ASYNC110  # bounded by the caller
        await asyncio.sleep(0.1)
    await asyncio.sleep(6.0)  # the scheduler's view has settled
    workers = fleet.n_running
    idle = await meter.over(idle_s)
    churn = asyncio.create_task(_ask(fleet, 60.0 / (size * 0.1)), name="churn")
    scaling = await meter.over(scaling_s)
    churn.cancel()
    await asyncio.wait({churn})
    asking = asyncio.create_task(_ask(fleet, 0.1, first=size // 2), name="reactions")
    wanted = len(fleet.reactions_s) + REACTIONS
    while len(fleet.reactions_s) < wanted:  # noqa: ASYNC110  # bounded by the caller
        await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.wait({asking})
    cuts = quantiles(fleet.reactions_s, n=100, method="inclusive")
    return Result(
        size=size,
        workers=workers,
        idle=idle,
        scaling=scaling,
        n_reactions=len(fleet.reactions_s),
        reaction_p50_ms=cuts[49] * 1000,
        reaction_p99_ms=cuts[98] * 1000,
        scheduler_mib=rss_mib(pid),
        nats_mib=rss_mib(server.pid),
    )


async def _ask(fleet: Fleet, every_s: float, *, first: int = 0) -> None:
    """Cold requests, one every so often, at endpoints that are at zero (the odd ones)."""
    size = len(fleet.endpoints)
    for n in range(size):
        await fleet.ask((first + 2 * n) % size | 1)
        await asyncio.sleep(every_s)


def table(results: list[Result]) -> str:
    """The results as Markdown."""
    lines = [
        (
            "| nodes = endpoints | workers | idle: scheduler / nats | scaling: scheduler / nats "
            "| reaction p50 / p99 | bytes per node and s, idle / scaling "
            "| memory: scheduler / nats |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        (
            f"| {r.size:,} | {r.workers} | {r.idle.scheduler_cores:.2f} / {r.idle.nats_cores:.2f} cores "
            f"| {r.scaling.scheduler_cores:.2f} / {r.scaling.nats_cores:.2f} cores "
            f"| {r.reaction_p50_ms:.0f} / {r.reaction_p99_ms:.0f} ms (n={r.n_reactions}) "
            f"| {r.idle.nats_bytes_per_node_s:,.0f} / {r.scaling.nats_bytes_per_node_s:,.0f} "
            f"| {r.scheduler_mib:.0f} / {r.nats_mib:.0f} MiB |"
        )
        for r in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1_000])
    parser.add_argument("--idle-s", type=float, default=15.0)
    parser.add_argument("--scaling-s", type=float, default=20.0)
    options = parser.parse_args()
    results = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="penstock-fleet-") as folder:
            results.append(
                asyncio.run(
                    measure(size, Path(folder), idle_s=options.idle_s, scaling_s=options.scaling_s)
                )
            )
        print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fleet.json").write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
