"""The questions: one function each, which puts one load on one peer and gives figures.

A figure is one number with all that names it; the report puts them side by side.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.router.cpu import cpu_s, memory_bytes
from benchmarks.router.load import (
    ClosedLoop,
    LoadError,
    closed_loop,
    connections_of,
    event_streams,
    fetch_json,
    open_loop,
    percentile,
)
from benchmarks.router.targets import COMPLETION, Ask, Peer, Workers

#: Events per second over all streams together, so that more streams mean slower ones, not more.
EVENTS_PER_S: Final = 5_000
#: Work of a queued request: none shows what the queue passes; the other leaves every proxy time
#: to spare, so that it shows how soon a freed slot is filled.
PASSING_MS: Final = 0
HANDOFF_MS: Final = 20
#: Clients at the worker with few slots.
QUEUE_CLIENTS: Final = 64


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    peer: str
    #: what was done, e.g. `closed loop, 32 connections`
    case: str
    #: what is counted, with its unit, e.g. `CPU µs/request`
    measure: str
    value: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much; every number bounds something."""

    #: of each closed loop, whole seconds of at least 1 (wrk's unit)
    closed_s: float
    connections: tuple[int, ...]
    stream_s: float
    streams: tuple[int, ...]
    open_s: float
    queue_s: float
    #: idle connections, and queued requests, whose memory is measured
    memory_clients: int
    #: times that everything but memory is done, all peers in turn
    rounds: int


async def idle_memory(peer: Peer, plan: Plan) -> Iterator[Figure]:
    """Memory that connections cost which were answered once and are silent since."""
    if not peer.pids:
        return iter(())
    async with connections_of(peer.target, 32, COMPLETION):
        pass  # what the first requests allocate is not the connections'
    await asyncio.sleep(0.3)
    before = memory_bytes(peer.pids)
    async with connections_of(peer.target, plan.memory_clients, COMPLETION):
        await asyncio.sleep(0.3)
        added = memory_bytes(peer.pids) - before
    case = "memory, idle connections"
    per_thousand = added / plan.memory_clients * 1000 / 1e6
    return iter(
        [
            Figure(peer.name, case, "MB/1,000", per_thousand),
            Figure(peer.name, case, "MB before", before / 1e6),
        ]
    )


async def queued_memory(peer: Peer, plan: Plan) -> Iterator[Figure]:
    """Memory that requests cost which wait for a slot."""
    if not peer.pids or peer.queue is None:
        return iter(())
    async with connections_of(peer.queue, plan.memory_clients, Ask("/work?ms=0")) as opened:
        await asyncio.sleep(0.3)
        before = memory_bytes(peer.pids)
        waiting = [
            connection.send(peer.queue.request(Ask("/work?ms=3000"))) for connection in opened
        ]
        await asyncio.sleep(1)
        added = memory_bytes(peer.pids) - before
        for answer in waiting:
            answer.cancel()
    per_thousand = added / plan.memory_clients * 1000 / 1e6
    return iter([Figure(peer.name, "memory, queued requests", "MB/1,000", per_thousand)])


def _loop_figures(peer: Peer, case: str, loop: ClosedLoop, used_s: float) -> Iterator[Figure]:
    yield Figure(peer.name, case, "requests/s", loop.requests_per_s)
    yield Figure(peer.name, case, "p50 ms", loop.p50_ms)
    yield Figure(peer.name, case, "p99 ms", loop.p99_ms)
    yield Figure(peer.name, case, "errors", loop.errors)
    if peer.pids and loop.requests:
        yield Figure(peer.name, case, "CPU µs/request", used_s / loop.requests * 1e6)


async def warm_requests(peer: Peer, connections: int, plan: Plan, folder: Path) -> Iterator[Figure]:
    """As many requests as so many connections can have answered."""
    before_s = cpu_s(peer.pids)
    loop = await closed_loop(
        peer.target, COMPLETION, connections=connections, duration_s=plan.closed_s, folder=folder
    )
    used_s = cpu_s(peer.pids) - before_s
    return _loop_figures(peer, closed_case(connections), loop, used_s)


def closed_case(connections: int) -> str:
    """Name of the case with so many connections."""
    return f"closed loop, {connections} connection{'' if connections == 1 else 's'}"


async def forwarded_events(peer: Peer, streams: int, plan: Plan) -> Iterator[Figure]:
    """Server-sent events over so many streams, together `EVENTS_PER_S`."""
    if not peer.generic or (peer.slots is not None and peer.slots < streams):
        return iter(())
    every_ms = streams / EVENTS_PER_S * 1000
    async with event_streams(peer.target, f"/sse?every_ms={every_ms:g}", streams) as opened:
        events = sum(stream.events for stream in opened)
        reads = sum(stream.reads for stream in opened)
        before_s, began = cpu_s(peer.pids), time.perf_counter()
        await asyncio.sleep(plan.stream_s)
        used_s, took_s = cpu_s(peer.pids) - before_s, time.perf_counter() - began
        events = sum(stream.events for stream in opened) - events
        reads = sum(stream.reads for stream in opened) - reads
        ended = sum(stream.ended for stream in opened)
    case = f"events, {streams} streams"
    figures = [
        Figure(peer.name, case, "events/s", events / took_s),
        Figure(peer.name, case, "reads/event", reads / max(1, events)),
        Figure(peer.name, case, "errors", ended),
    ]
    if peer.pids and events:
        figures.append(Figure(peer.name, case, "CPU µs/event", used_s / events * 1e6))
    return iter(figures)


async def slow_rate(peer: Peer, rate_per_s: float, plan: Plan, seed: int) -> list[float]:
    """Latencies in ms at a fixed low rate; infinite where no good answer came."""
    result = await open_loop(
        peer.target, COMPLETION, rate_per_s=rate_per_s, duration_s=plan.open_s, seed=seed
    )
    return result.latencies_ms + [float("inf")] * result.errors


@dataclass(frozen=True, slots=True)
class QueueRun:
    """One load on a worker with few slots."""

    figures: tuple[Figure, ...]
    #: ms from each answer to the request that took its slot, as the worker saw both
    gaps_ms: tuple[float, ...]


async def queued_requests(
    peer: Peer, service_ms: int, plan: Plan, workers: Workers, folder: Path
) -> QueueRun | None:
    """`QUEUE_CLIENTS` clients, few slots: what the queue passes and how soon it fills a slot."""
    if peer.queue is None:
        return None
    handoffs = f"/handoffs?slots={workers.queue_slots}"
    await _until_idle(workers.queue_port, handoffs)
    before_s = cpu_s(peer.pids)
    load = asyncio.create_task(
        closed_loop(
            peer.queue,
            Ask(f"/work?ms={service_ms}"),
            connections=QUEUE_CLIENTS,
            duration_s=plan.queue_s,
            folder=folder,
        ),
        name="queue-load",
    )
    try:
        # At the end clients leave, and slots are freed in a way that no worker can date.
        await asyncio.sleep(plan.queue_s * 0.9)
        seen = await fetch_json(workers.queue_port, handoffs)
        loop = await load
    finally:
        load.cancel()
    used_s = cpu_s(peer.pids) - before_s
    gaps, most = seen["gaps_ms"], seen["most_in_flight"]
    assert isinstance(gaps, list)
    assert isinstance(most, int)
    case = queue_case(service_ms)
    figures = (
        *_loop_figures(peer, case, loop, used_s),
        Figure(peer.name, case, "most in flight", most),
    )
    return QueueRun(figures, tuple(gaps))


async def _until_idle(port: int, handoffs: str) -> None:
    """Return once the worker is done with what the last load left there."""
    for _ in range(50):
        if (await fetch_json(port, handoffs))["in_flight"] == 0:
            return
        await asyncio.sleep(0.1)
    raise LoadError("the worker is still busy with requests of earlier clients")


def queue_case(service_ms: int) -> str:
    """Name of the case with this service time."""
    return f"queue, {service_ms} ms of work"


def spread(peer: str, case: str, values_ms: list[float]) -> Iterator[Figure]:
    """Median and 99th percentile of these."""
    yield Figure(peer, case, "p50 ms", percentile(values_ms, 50))
    yield Figure(peer, case, "p99 ms", percentile(values_ms, 99))
    yield Figure(peer, case, "samples", len(values_ms))
