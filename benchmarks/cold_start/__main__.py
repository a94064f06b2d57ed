"""Cold start through Penstock against the same command started by hand, in one run.

By hand: start the process (or `docker run -d`), ask its health path every millisecond until 200, send
the request. Through Penstock: the same request to an endpoint with zero workers. Both end at the
answer's last byte; they alternate, so that both see the same machine. Written into
benchmarks/results: every figure (JSON), and where the time goes, phase by phase (SVG).

    make bench-cold-start                  # python -m benchmarks.cold_start --rounds 20
    make bench-cold-start RUNTIME=docker   # builds examples/openai_echo first
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import aiohttp

from benchmarks.cold_start.plot import PHASES, draw
from penstock_common.clock import SystemClock
from tests.support.installation import ROOT, Installation
from tests.support.ports import free_port

CLOCK = SystemClock()
SERVER = ROOT / "examples/openai_echo/server.py"
REQUEST = {"model": "echo-1", "messages": [{"role": "user", "content": "hello"}]}


@contextlib.asynccontextmanager
async def by_hand(arguments: argparse.Namespace, port: int) -> AsyncIterator[None]:
    """The command started without Penstock, stopped at the end."""
    if arguments.runtime == "docker":
        publish = f"127.0.0.1:{port}:8000"
        container = await run_docker("run", "-d", "--rm", "-p", publish, arguments.image)
        try:
            yield
        finally:
            await run_docker("rm", "-f", container)
        return
    # The environment of Penstock's process runtime: PATH with this Python first, and PORT.
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(
        *("python3", str(SERVER)), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def run_docker(*arguments: str) -> str:
    """What a docker command that must succeed writes."""
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {err.decode().strip()}")
    return out.decode().strip()


async def ask(session: aiohttp.ClientSession, url: str) -> float:
    """Send the request and read the whole answer; gives when its first byte had come."""
    async with session.post(f"{url}/v1/chat/completions", json=REQUEST) as answer:
        first_byte_at = CLOCK.monotonic()
        await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {await answer.text()}")
    return first_byte_at


async def healthy(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether the health path answers 200 now.

    Bounded, since a first packet that is lost while Docker sets up the network is sent again only
    after a second, which a person who asks in a loop would not wait for.
    """
    timeout = aiohttp.ClientTimeout(total=0.05)
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with session.get(f"{url}/health", timeout=timeout) as answer:
            return answer.status == 200
    return False


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One cold start."""

    #: until the answer's last byte
    took_s: float
    #: phase → ms since the command or the request was sent
    instants_ms: Mapping[str, float]


async def measure_by_hand(arguments: argparse.Namespace) -> ColdStart:
    """From start to answer, without Penstock."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:
        began = CLOCK.monotonic()
        async with by_hand(arguments, port):
            instants = {"started": CLOCK.monotonic()}
            while not await healthy(session, url):  # noqa: ASYNC110 - nothing tells us but asking
                await asyncio.sleep(0.001)
            instants["healthy"] = CLOCK.monotonic()
            instants["first_byte"] = await ask(session, url)
            took_s = CLOCK.monotonic() - began
    return ColdStart(took_s, {name: (at - began) * 1000 for name, at in instants.items()})


async def measure_penstock(penstock: Installation) -> ColdStart:
    """From request to answer at zero workers."""
    await penstock.no_workers("echo", within_s=60)
    sent_at, began = CLOCK.utc(), CLOCK.monotonic()
    first_byte_at = await ask(penstock.session, f"{penstock.urls['router']}/echo")
    took_s = CLOCK.monotonic() - began
    worker = (await penstock.workers("echo"))[0]
    # The scheduler's clock is this machine's too.
    decided_ms = (datetime.fromisoformat(worker["decided_at"]) - sent_at).total_seconds() * 1000
    instants = {name: decided_ms + ms for name, ms in worker["phases_ms"].items()}
    return ColdStart(took_s, {**instants, "first_byte": (first_byte_at - began) * 1000})


def medians(starts: Sequence[ColdStart]) -> dict[str, float]:
    """Median instant of each phase that every start has, in the order of a cold start."""
    return {
        phase: statistics.median(start.instants_ms[phase] for start in starts)
        for phase in PHASES
        if all(phase in start.instants_ms for start in starts)
    }


def milliseconds(values: Sequence[float]) -> str:
    """Median and the middle half, in ms."""
    quarter, median, three_quarters = statistics.quantiles([v * 1000 for v in values], n=4)
    return f"{median:7.1f}  ({quarter:.1f} to {three_quarters:.1f})"


async def main(arguments: argparse.Namespace) -> None:
    """Run both ways and print the table."""
    hand: list[ColdStart] = []
    through: list[ColdStart] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        options = ("--runtime", arguments.runtime, "--gpus", "none")
        async with Installation(Path(folder) / "data", *options) as penstock:
            image = {"command": f"python3 {SERVER}"}
            if arguments.runtime == "docker":
                image = {"image": arguments.image}
            await penstock.api(
                "POST",
                "/v1/endpoints",
                {
                    "name": "echo",
                    "app_name": "echo",
                    "image": image,
                    "gpu": {"count": 0},
                    "workers": {"min": 0, "max": 1, "idle_timeout_s": 0.1},
                },
            )
            for number in range(arguments.rounds + 1):
                by_hand_start = await measure_by_hand(arguments)
                through_start = await measure_penstock(penstock)
                if number == 0:  # warms file caches and connections
                    continue
                hand.append(by_hand_start)
                through.append(through_start)
                print(
                    f"\rround {number} of {arguments.rounds}", end="", file=sys.stderr, flush=True
                )
            # A container outlives `penstock up`; its folder would not be there to adopt it from.
            await penstock.no_workers("echo", within_s=60)
            print(file=sys.stderr)
    report(arguments, hand, through)


def report(
    arguments: argparse.Namespace, hand: Sequence[ColdStart], through: Sequence[ColdStart]
) -> None:
    """Print the table; write JSON and SVG."""
    ways = {"by hand": medians(hand), "through Penstock": medians(through)}
    added = [t.took_s - h.took_s for t, h in zip(through, hand, strict=True)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {arguments.rounds} rounds"
    print(f"{machine},\n{arguments.runtime} runtime; ms, median (quartiles)\n")
    print(f"by hand           {milliseconds([start.took_s for start in hand])}")
    print(f"through Penstock  {milliseconds([start.took_s for start in through])}")
    print(f"Penstock adds     {milliseconds(added)}\n")
    for name, instants in ways.items():
        print(f"{name}: phases reached, median ms:")
        for phase, at_ms in instants.items():
            print(f"  {phase:10} {at_ms:7.1f}")
    result = {
        "runtime": arguments.runtime,
        "by_hand": [asdict(start) for start in hand],
        "penstock": [asdict(start) for start in through],
    }
    results = ROOT / "benchmarks/results"
    results.mkdir(exist_ok=True)
    title = f"Cold start, {arguments.runtime} runtime: median ms ({machine})"
    (results / f"cold_start_{arguments.runtime}.json").write_text(json.dumps(result))
    (results / f"cold_start_{arguments.runtime}.svg").write_text(draw(title, ways))
    print(f"\nwritten: benchmarks/results/cold_start_{arguments.runtime}.json and .svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    parser.add_argument("--image", default="penstock/openai-echo")
    asyncio.run(main(parser.parse_args()))
