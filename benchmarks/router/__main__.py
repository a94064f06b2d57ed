"""The router beside other reverse proxies, in one run.

make bench-router                       # all of it, under seven minutes
python -m benchmarks.router --quick     # under one minute, coarse
python -m benchmarks.router --only direct haproxy penstock --streams 500
"""

import argparse
import asyncio
import dataclasses
import gc
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.router.children import ChildError, Children
from benchmarks.router.cpu import Neighbours
from benchmarks.router.load import LoadError
from benchmarks.router.measures import (
    HANDOFF_MS,
    PASSING_MS,
    Plan,
    closed_case,
    forwarded_events,
    idle_memory,
    queue_case,
    queued_memory,
    queued_requests,
    slow_rate,
    warm_requests,
)
from benchmarks.router.peers import NAMES, ROOT, Lineup, running_peers
from benchmarks.router.report import text, write_json, write_plot
from benchmarks.router.results import OPEN_LOOP, Results, handoff_case
from benchmarks.router.targets import Peer

RESULTS: Final = ROOT / "benchmarks/results"
FULL: Final = Plan(
    closed_s=2,
    connections=(1, 32, 256),
    stream_s=2.5,
    streams=(200, 2_000),
    open_s=2,
    queue_s=2,
    memory_clients=1_000,
    rounds=2,
)
QUICK: Final = Plan(
    closed_s=1,
    connections=(32,),
    stream_s=1,
    streams=(200,),
    open_s=1,
    queue_s=1,
    memory_clients=300,
    rounds=1,
)
#: A run whose measuring takes longer is cut there, and says so; starting and ending take 10 s.
LIMIT_S: Final = {FULL: 380.0, QUICK: 50.0}
#: What this process can send without being the bottleneck itself.
HIGHEST_OPEN_RATE_PER_S: Final = 3_000.0


class Run:
    """The measures over a line-up, in turn."""

    def __init__(self, lineup: Lineup, plan: Plan, folder: Path, results: Results) -> None:
        self._peers = lineup.peers
        self._workers = lineup.workers
        self._plan = plan
        self._folder = folder
        self._results = results

    async def whole(self) -> None:
        """Memory first, while the processes are fresh; then everything else in rounds."""
        await self._each("memory", self._memory, 0)
        for number in range(self._plan.rounds):
            for connections in self._plan.connections:
                name = closed_case(connections)
                await self._each(name, partial(self._warm, connections), number)
            for streams in self._plan.streams:
                name = f"events, {streams} streams"
                await self._each(name, partial(self._events, streams), number)
            if self._choose_rate():
                await self._each(OPEN_LOOP, partial(self._slow, number), number)
            for service_ms in (PASSING_MS, HANDOFF_MS):
                await self._each(queue_case(service_ms), partial(self._queue, service_ms), number)

    async def _each(self, name: str, step: Callable[[Peer], Awaitable[None]], number: int) -> None:
        """One step for every peer; every other round goes backwards, so that drift is fair."""
        for peer in self._peers if number % 2 == 0 else reversed(self._peers):
            show(f"round {number + 1} of {self._plan.rounds}: {name}: {peer.name}")
            try:
                await step(peer)
            except LoadError as error:
                self._results.failures.append(f"{peer.name}, {name}: {error}")

    async def _memory(self, peer: Peer) -> None:
        if not any(other.pids == peer.pids for other in self._peers[: self._peers.index(peer)]):
            self._results.add(await idle_memory(peer, self._plan))
            self._results.add(await queued_memory(peer, self._plan))

    async def _warm(self, connections: int, peer: Peer) -> None:
        self._results.add(await warm_requests(peer, connections, self._plan, self._folder))

    async def _events(self, streams: int, peer: Peer) -> None:
        self._results.add(await forwarded_events(peer, streams, self._plan))

    def _choose_rate(self) -> bool:
        """Fix the open loop's rate in the first round; whether there is one."""
        results = self._results
        if not results.open_rate_per_s:
            names = [peer.name for peer in self._peers]
            ours = [name for name in names if name == "penstock-1"]
            saturation = results.slowest_saturation_per_s(ours or names)
            if saturation:
                results.open_rate_per_s = min(saturation / 10, HIGHEST_OPEN_RATE_PER_S)
        return results.open_rate_per_s > 0

    async def _slow(self, number: int, peer: Peer) -> None:
        rate = self._results.open_rate_per_s
        times_ms = await slow_rate(peer, rate, self._plan, seed=number)
        self._results.add_times(peer.name, OPEN_LOOP, times_ms)

    async def _queue(self, service_ms: int, peer: Peer) -> None:
        run = await queued_requests(peer, service_ms, self._plan, self._workers, self._folder)
        if run is not None:
            self._results.add(run.figures)
            case = handoff_case(queue_case(service_ms))
            self._results.add_times(peer.name, case, run.gaps_ms)


def show(line: str) -> None:
    """What is done now, over the last such line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def machine(neighbours: Neighbours, took_s: float) -> dict[str, object]:
    """What the figures depend on beside the programs."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "took_s": round(took_s, 1),
        "cores_used_by_others": round(neighbours.used_s() / took_s, 2),
    }


async def run(arguments: argparse.Namespace) -> None:
    """Start everything, measure, stop everything, report."""
    plan: Plan = QUICK if arguments.quick else FULL
    limit_s: float = arguments.limit_s or LIMIT_S[plan]
    if arguments.streams:
        plan = dataclasses.replace(plan, streams=tuple(arguments.streams))
    results = Results()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        async with (
            Children(Path(name)) as children,
            running_peers(children, arguments.only) as lineup,
        ):
            if not arguments.limit_s:  # the optional peers have time of their own
                limit_s *= 1 + sum(not peer.generic for peer in lineup.peers) / 8
            began, neighbours = time.monotonic(), Neighbours()
            gc.freeze()  # what is loaded by now is no work for the collector any more
            try:
                async with asyncio.timeout(limit_s):
                    await Run(lineup, plan, Path(name), results).whole()
            except TimeoutError:
                results.failures.append(f"the run was cut after {limit_s:g} s")
            surroundings = machine(neighbours, time.monotonic() - began)
    show("")
    report(results, plan, surroundings, lineup)


def report(results: Results, plan: Plan, surroundings: dict[str, object], lineup: Lineup) -> None:
    """Print the tables; write JSON and plot."""
    names = [peer.name for peer in lineup.peers]
    print(", ".join(f"{key} {value}" for key, value in surroundings.items()))
    for peer in lineup.peers:
        print(f"{peer.name}: {peer.version}")
    for name, reason in lineup.missing.items():
        print(f"{name}: MISSING ({reason})")
    for failure in results.failures:
        print(f"FAILED: {failure}")
    print()
    print(text(results, names))
    RESULTS.mkdir(exist_ok=True)
    about: dict[str, object] = {
        "machine": surroundings,
        "plan": dataclasses.asdict(plan),
        "peers": {peer.name: peer.version for peer in lineup.peers},
        "missing": lineup.missing,
    }
    write_json(RESULTS / "router.json", results, about)
    write_plot(RESULTS / "router.svg", results, names)
    print("written: benchmarks/results/router.json, benchmarks/results/router.svg")


def main() -> int:
    """The command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, coarse")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="PEER")
    parser.add_argument(
        "--streams", nargs="+", type=int, metavar="N", help="default: 200 2000, quick 200"
    )
    parser.add_argument("--limit-s", type=float, metavar="S", help="default: 380, quick 50")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_signal(arguments))
        except asyncio.CancelledError:
            return 130
        except (ChildError, LoadError) as error:
            print(f"benchmark: {error}", file=sys.stderr)
            return 1
    return 0


async def _until_signal(arguments: argparse.Namespace) -> None:
    """Run; the first SIGINT or SIGTERM ends it in order, further ones change nothing."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _cancel_once(task))
    await run(arguments)


def _cancel_once(task: asyncio.Task[None]) -> Callable[[], None]:
    def cancel() -> None:
        if not task.cancelling():
            task.cancel()

    return cancel


if __name__ == "__main__":
    sys.exit(main())
