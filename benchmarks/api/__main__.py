"""The management API over 1,000 endpoints: lists whole and in pages, create, show, patch.

make bench-api             # python -m benchmarks.api --endpoints 1000

The real api over a real nats-server, with a real router whose sight each write waits for. Everything
runs in processes of its own on this machine, the client included, which asks one thing at a time.
Beside the whole list stands the same body from a handler that has it ready: what HTTP alone costs.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

import aiohttp

from benchmarks.api.fleet import Fleet
from benchmarks.processes import cpu_s
from penstock_common.clock import SystemClock
from penstock_common.nats.connection import Bus
from penstock_common.settings import NatsSettings
from tests.support.api_process import RunningApi, api_process
from tests.support.api_server import ADMIN_KEY
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.router_process import router_process

RESULTS: Final = Path(__file__).parents[1] / "results"
CLOCK: Final = SystemClock()
PAGE: Final = 100
#: Times that each thing is asked for.
LISTS: Final = 50
SHOWS: Final = 300
PATCHES: Final = 300
HEADERS: Final = {"Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass(frozen=True, slots=True)
class Result:
    """How long one kind of request took; for pages all together are one."""

    what: str
    n: int
    p50_ms: float
    p99_ms: float
    #: CPU of the process that answered
    cpu_ms: float
    body_bytes: int


async def timed(pid: int, what: str, n: int, ask: Callable[[int], Awaitable[int]]) -> Result:
    """`ask`, which gives how many bytes it got, for the numbers from 0 to n - 1.

    `pid`: of the process that answers.
    """
    took_s, n_bytes, used_s = [], 0, cpu_s(pid)
    for number in range(n):
        began = CLOCK.monotonic()
        n_bytes = await ask(number)
        took_s.append(CLOCK.monotonic() - began)
    cuts = quantiles(took_s, n=100, method="inclusive")
    cpu_ms = (cpu_s(pid) - used_s) / n * 1e3
    return Result(what, n, cuts[49] * 1e3, cuts[98] * 1e3, cpu_ms, n_bytes)


class Asker:
    """Asks the api, and refuses what is no success."""

    def __init__(self, session: aiohttp.ClientSession, n: int) -> None:
        self._session = session
        self._n = n
        #: the last whole list
        self.body = b""

    async def send(self, method: str, path: str, document: object = None) -> bytes:
        """The body of an answer of success."""
        async with self._session.request(method, path, json=document, headers=HEADERS) as answer:
            body = await answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {body[:500]!r}")
            return body

    async def create(self, number: int) -> int:
        """Make the endpoint with this number."""
        document = {
            "app_name": f"app-{number:05}",
            "image": {"image": f"acme/model-{number % 20}:1"},
            "gpu": {"products": ["rtx-4090-24gb", "l40s-48gb"]},
            "workers": {"max": 4, "max_concurrency": 8},
            "env": {"MODEL": f"model-{number}", "QUANTIZATION": "awq"},
        }
        return len(await self.send("POST", "/v1/endpoints", document))

    async def show(self, number: int) -> int:
        """One endpoint after the other."""
        return len(await self.send("GET", f"/v1/endpoints/app-{number % self._n:05}"))

    async def patch(self, number: int) -> int:
        """Change a limit, of one endpoint after the other."""
        path = f"/v1/endpoints/app-{number % self._n:05}"
        return len(await self.send("PATCH", path, {"workers": {"max": 5 + number // self._n}}))

    async def whole_list(self, _: int) -> int:
        """All endpoints in one answer."""
        self.body = await self.send("GET", "/v1/endpoints?limit=1000")
        return len(self.body)

    async def pages(self, _: int) -> int:
        """All endpoints, a page after the other."""
        n_bytes, cursor = 0, ""
        while True:
            body = await self.send("GET", f"/v1/endpoints?limit={PAGE}{cursor}")
            n_bytes += len(body)
            following = json.loads(body)["next_cursor"]
            if following is None:
                return n_bytes
            cursor = f"&cursor={following}"


@asynccontextmanager
async def bare_handler(folder: Path, body: bytes) -> AsyncIterator[RunningApi]:
    """An aiohttp server that has this body ready, in a process of its own."""
    (folder / "body.json").write_bytes(body)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.api.bare", str(folder / "body.json"), str(port)
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while True:
                try:
                    async with session.get("/"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
            yield RunningApi(process.pid, session)
    finally:
        process.terminate()
        await process.wait()


async def measure(n: int, folder: Path) -> list[Result]:
    """Every kind of request, with `n` endpoints at the end."""
    async with AsyncExitStack() as stack:
        server = NatsServer(folder / "nats")
        server.start()
        stack.callback(server.stop)
        unbounded = {
            "PENSTOCK_API_RATE_LIMIT_PER_S": "1000000",
            "PENSTOCK_API_RATE_LIMIT_BURST": "1000000",
        }
        api = await stack.enter_async_context(api_process(server, folder, **unbounded))
        router = await stack.enter_async_context(
            router_process(folder, nats_url=server.url, port="0")
        )
        await router.ready()
        bus = await Bus.connect(NatsSettings(nats_url=server.url), name="benchmark", clock=CLOCK)
        stack.push_async_callback(bus.close)
        asker = Asker(api.session, n)
        results = [await timed(api.pid, "create", n, asker.create)]
        quiet = Fleet(bus, CLOCK, json.loads(await asker.send("GET", "/v1/endpoints")))
        await quiet.write_statuses()
        results += [
            await timed(api.pid, "show", SHOWS, asker.show),
            await timed(api.pid, "patch", PATCHES, asker.patch),
            await timed(api.pid, f"list of {n:,}, none in use", LISTS, asker.whole_list),
        ]
        async with quiet.busy():
            results += [
                await timed(api.pid, f"list of {n:,}, all in use", LISTS, asker.whole_list),
                await timed(api.pid, f"the same in pages of {PAGE}", LISTS, asker.pages),
            ]
        bare = await stack.enter_async_context(bare_handler(folder, asker.body))
        ready = Asker(bare.session, n)
        results.append(await timed(bare.pid, "the same body, ready", LISTS, ready.whole_list))
    return results


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        results = asyncio.run(measure(arguments.endpoints, Path(folder)))
    print("| request | times | p50 | p99 | the api's CPU | bytes | p50 to that of the ready body |")
    print("|---|---|---|---|---|---|---|")
    for r in results:
        ratio = r.p50_ms / results[-1].p50_ms
        print(
            f"| {r.what} | {r.n:,} | {r.p50_ms:.1f} ms | {r.p99_ms:.1f} ms | {r.cpu_ms:.1f} ms | "
            f"{r.body_bytes:,} | {f'{ratio:.0f} : 1' if r.n == LISTS else ''} |"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "api.json").write_text(json.dumps([asdict(r) for r in results], indent=2))


if __name__ == "__main__":
    main()
