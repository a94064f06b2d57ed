"""The load: closed loop by wrk, open loop and streams by the small client of `client.py`."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.router.children import find_program
from benchmarks.router.client import Connection, EventStream
from benchmarks.router.targets import HEADERS, Ask, Target

#: Connections that an open loop holds; so many requests may be under way at once.
_OPEN_LOOP_CONNECTIONS: Final = 64
#: Connections that are opened at once.
_BATCH: Final = 32
_MARK: Final = "RESULT "
_SCRIPT: Final = f"""\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{_MARK}{{"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"errors":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
#: %s is a string in quotes; those of JSON and Lua are the same for printable ASCII.
_POST: Final = 'wrk.method = "POST"\nwrk.body = %s\n'


class LoadError(Exception):
    """The load could not be made."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What wrk counted."""

    requests: int
    duration_s: float
    p50_ms: float
    p99_ms: float
    #: no connection, cut, timed out, or a status that is not 2xx or 3xx
    errors: int

    @property
    def requests_per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.duration_s


async def closed_loop(
    target: Target, ask: Ask, *, connections: int, duration_s: float, folder: Path
) -> ClosedLoop:
    """Every connection sends its next request when its last one is answered, for `duration_s`.

    Raises:
        LoadError: wrk is missing or has failed.
    """
    program = find_program("wrk")
    if program is None:
        raise LoadError("wrk is not installed: apt-get install wrk")
    script = folder / "wrk.lua"
    script.write_text(_SCRIPT + (_POST % json.dumps(ask.body.decode()) if ask.body else ""))
    headers = [word for name, value in HEADERS for word in ("-H", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        program,
        *("-t", "1", "-c", str(connections), "-d", f"{max(1, round(duration_s))}s"),
        *("--timeout", "10s", "-s", str(script), *headers, target.url(ask.path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), duration_s + 20)
    except TimeoutError:
        raise LoadError(f"wrk did not end: {target.url(ask.path)}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for line in output.decode().splitlines():
        if line.startswith(_MARK):
            found = json.loads(line.removeprefix(_MARK))
            return ClosedLoop(
                requests=found["requests"],
                duration_s=found["duration_us"] / 1e6,
                p50_ms=found["p50_us"] / 1000,
                p99_ms=found["p99_us"] / 1000,
                errors=found["errors"],
            )
    raise LoadError(f"wrk gave no result: {output.decode()[-500:]}")


@dataclass(slots=True)
class OpenLoop:
    """Latencies at a fixed rate."""

    latencies_ms: list[float]
    #: another status than 200, a cut connection, or no connection free
    errors: int = 0


async def open_loop(
    target: Target, ask: Ask, *, rate_per_s: float, duration_s: float, seed: int
) -> OpenLoop:
    """Requests at random instants, whether or not earlier ones are answered.

    Each goes out on a connection of its own among those that are free, so a slow answer delays no
    other request; the time counts from its sending.

    Args:
        target: where to.
        ask: for what.
        rate_per_s: mean rate of the Poisson arrivals.
        duration_s: of the whole.
        seed: same seed, same instants.
    """
    loop = asyncio.get_running_loop()
    request = target.request(ask)
    result = OpenLoop([])
    async with connections_of(target, _OPEN_LOOP_CONNECTIONS, ask) as free:

        async def send() -> None:
            if not free:
                result.errors += 1
                return
            connection = free.pop()
            sent_at = time.perf_counter()
            try:
                status = await connection.ask(request)
            except (ConnectionError, TimeoutError):
                result.errors += 1
                return
            result.latencies_ms.append((time.perf_counter() - sent_at) * 1000)
            result.errors += status != 200
            free.append(connection)

        rng = random.Random(seed)
        due = loop.time()
        end = due + duration_s
        async with asyncio.TaskGroup() as group:
            while (due := due + rng.expovariate(rate_per_s)) < end:
                await asyncio.sleep(due - loop.time())
                group.create_task(send())
    return result


@asynccontextmanager
async def connections_of(target: Target, count: int, ask: Ask) -> AsyncIterator[list[Connection]]:
    """Open connections that have been answered once; closed at the end.

    Raises:
        LoadError: one was refused, cut or not answered with 200.
    """
    opened: list[Connection] = []

    async def open_one() -> None:
        connection = await Connection.open(target.port)
        opened.append(connection)
        status = await connection.ask(target.request(ask))
        if status != 200:
            raise LoadError(f"{target.url(ask.path)} answered {status}")

    try:
        for begin in range(0, count, _BATCH):
            await asyncio.gather(*(open_one() for _ in range(min(_BATCH, count - begin))))
        yield list(opened)
    except (OSError, TimeoutError) as error:
        raise LoadError(f"{target.url(ask.path)}: {error}") from error
    finally:
        for connection in opened:
            connection.close()


@asynccontextmanager
async def event_streams(target: Target, path: str, count: int) -> AsyncIterator[list[EventStream]]:
    """Streams that all have had their first event; closed at the end.

    Raises:
        LoadError: one was refused or cut, or had no event within 15 s.
    """
    loop = asyncio.get_running_loop()
    streams: list[EventStream] = []
    request = target.request(Ask(path))
    try:
        async with asyncio.timeout(15):
            for begin in range(0, count, _BATCH):
                opened = await asyncio.gather(
                    *(
                        loop.create_connection(
                            lambda: EventStream(request), "127.0.0.1", target.port
                        )
                        for _ in range(min(_BATCH, count - begin))
                    )
                )
                streams += [stream for _, stream in opened]
            while not all(stream.events for stream in streams):
                if any(stream.ended for stream in streams):
                    raise LoadError(f"{target.url(path)}: a stream ended")
                await asyncio.sleep(0.02)
        yield streams
    except (OSError, TimeoutError) as error:
        raise LoadError(f"{target.url(path)}: {error!r}") from error
    finally:
        for stream in streams:
            stream.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while not all(stream.ended for stream in streams):  # noqa: ASYNC110 - see `ended`
                    await asyncio.sleep(0.02)


async def fetch_json(port: int, path: str) -> dict[str, object]:
    """The JSON that the worker on this port answers.

    Raises:
        LoadError: it does not.
    """
    async with connections_of(Target(port), 1, Ask(path)) as opened:
        found: dict[str, object] = json.loads(opened[0].body)
        return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of a hundred do not exceed; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
