"""`penstock demo`: the tour behind `make demo`, from a request at zero workers to an idle fleet."""

import asyncio
import contextlib
import json
import math
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from penstock_cli.input.yaml_text import parse_text
from penstock_cli.local import ports
from penstock_cli.output.screen import make_console
from penstock_client.client import PenstockClient
from penstock_client.documents import WorkerDocument
from penstock_common.clock import SystemClock
from penstock_common.states import Phase

CLOCK = SystemClock()
#: Longest wait for each step of the tour.
STEP_TIMEOUT_S = 120.0
IMAGE = "penstock/openai-echo"
Runtime = Literal["process", "docker"]


class StepFailedError(Exception):
    """A step of the tour did not hold; its text names the step."""


@dataclass(frozen=True, slots=True)
class Example:
    """What the tour deploys and asks."""

    folder: Path
    path: str
    request: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """Its endpoint document."""
        document: dict[str, Any] = parse_text((self.folder / "endpoint.yaml").read_text())
        return document


EXAMPLES = {
    "openai_echo": Example(
        Path("examples/openai_echo"),
        "/v1/chat/completions",
        {"model": "echo-1", "messages": [{"role": "user", "content": "Hi there!"}]},
    ),
    "embeddings": Example(
        Path("examples/embeddings"),
        "/v1/embeddings",
        {
            "model": "all-MiniLM-L6-v2",
            "input": [
                "A cat sits on the mat.",
                "A kitten rests on a rug.",
                "The central bank raised interest rates.",
            ],
        },
    ),
}


def demo(
    example: Annotated[
        Literal["openai_echo", "embeddings"], typer.Option(help="Which example to deploy.")
    ] = "openai_echo",
    runtime: Annotated[Runtime, typer.Option(help="What runs the worker.")] = "process",
    data: Annotated[Path, typer.Option(help="Data directory.")] = Path(".penstock"),
    once: Annotated[bool, typer.Option("--once", help="End after the tour.")] = False,
) -> None:
    """Start everything, show a request start a worker, and the worker go away."""
    console = make_console(markup=True)
    try:
        asyncio.run(
            _tour(console, EXAMPLES[example], runtime, data, stay=not once and sys.stdin.isatty())
        )
    except StepFailedError as error:
        console.print(f"[red]✗ {error}[/red]", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@contextlib.contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    """Show a step; whatever goes wrong in it becomes a `StepFailedError` that names it."""
    try:
        with console.status(title) if console.is_terminal else contextlib.nullcontext():
            yield
    except Exception as error:
        raise StepFailedError(f"{title}: {str(error) or type(error).__name__}") from error
    console.print(f"[green]✓[/green] {title}", highlight=False)


async def _tour(
    console: Console, example: Example, runtime: Runtime, data: Path, *, stay: bool
) -> None:
    document = example.document
    app = document["app_name"]
    if runtime == "docker":
        with _step(console, f"build the image {IMAGE}"):
            await _build_image(example.folder)
    async with contextlib.AsyncExitStack() as stack:
        with _step(console, "start Penstock"):
            urls = await stack.enter_async_context(_penstock(console, runtime, data))
            key = (data / "admin.key").read_text().strip()
            client = await stack.enter_async_context(PenstockClient(urls["api"], key))
        with _step(console, f"deploy the endpoint '{app}' with min 0"):
            await _deploy(client, document)
        url = f"{urls['router']}/{app}{example.path}"
        console.print(
            f"\n[dim]{_curl(url, data, example.request)}[/dim]\n", highlight=False, soft_wrap=True
        )
        with _step(console, "send the request while no worker runs"):
            answer, cold_s = await _ask(url, key, example.request)
        _show_answer(console, answer, cold_s)
        with _step(console, "ask for its worker's cold start, phase by phase"):
            worker = await _one_worker(client, app, lambda: _ask(url, key, example.request))
        _show_phases(console, worker)
        with _step(console, "send it again while the worker runs"):
            _, warm_s = await _ask(url, key, example.request)
        console.print(f"  warm: {warm_s * 1000:.1f} ms; cold: {cold_s * 1000:.1f} ms")
        idle_s = document["workers"]["idle_timeout_s"]
        with _step(console, f"the worker stops after {idle_s} idle seconds: no worker is left"):
            await _until_idle(client, app)
        console.print(
            f"\napi     {urls['api']}\nrouter  {urls['router']}/{app}\n"
            f"key     {data / 'admin.key'}\ndata    {data}",
            highlight=False,
        )
        if stay:
            console.print("\nPenstock goes on running: Ctrl-C stops it.")
            await _until_interrupted()


@contextlib.asynccontextmanager
async def _penstock(
    console: Console, runtime: Runtime, data: Path
) -> AsyncIterator[dict[str, str]]:
    """`penstock up` on the usual ports, or on free ones; gives part → URL."""
    options = ["--data", str(data), "--runtime", runtime]
    for name, usual in (("api", 8000), ("router", 8080), ("nats", 4222)):
        free = ports.is_free("127.0.0.1", usual)
        if not free:
            console.print(f"port {usual} is taken: {name} gets a free one")
        options += [f"--{name}-port", str(usual if free else 0)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock_cli", "up", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the tour, which then stops it
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    reading = asyncio.create_task(_collect(process.stderr, said), name="up's stderr")
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("ready "):
            await process.wait()
            await reading
            raise RuntimeError(said[-1] if said else f"it ended with code {process.returncode}")
        yield dict(part.split("=", 1) for part in line.split()[1:])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        code = await process.wait()
        await reading
    if code != 0:
        raise StepFailedError(f"stop Penstock: it ended with code {code}")
    console.print("[green]✓[/green] stop Penstock")


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    """Keep the last lines of a stream, so that its writer never blocks."""
    async for line in stream:
        lines.append(line.decode(errors="replace").rstrip())
        del lines[:-50]


async def _build_image(folder: Path) -> None:
    docker = shutil.which("docker")
    if docker is None:
        raise RuntimeError("the docker command is missing; install Docker")
    process = await asyncio.create_subprocess_exec(
        *(docker, "build", "-t", IMAGE, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"docker build failed:\n{out.decode()}")


async def _deploy(client: PenstockClient, document: dict[str, Any]) -> None:
    """Create the endpoint; one of the same name from an earlier tour is replaced."""
    app = document["app_name"]
    if any(e.app_name == app for e in (await client.endpoints.list().whole()).endpoints):
        await client.endpoints.delete(app)
        await client.endpoints.wait_until_gone(app, timeout_s=STEP_TIMEOUT_S)
    await client.endpoints.create(document)


def _curl(url: str, data: Path, request: dict[str, Any]) -> str:
    """The request as a person would send it."""
    return (
        f"curl {url} \\\n"
        f'  -H "Authorization: Bearer $(cat {shlex.quote(str(data / "admin.key"))})" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(request))}"
    )


async def _ask(url: str, key: str, request: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The answer, and the seconds until its last byte."""
    timeout = aiohttp.ClientTimeout(total=STEP_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        began = CLOCK.monotonic()
        async with session.post(url, json=request) as response:
            text = await response.text()
            took_s = CLOCK.monotonic() - began
            if response.status != 200:
                raise RuntimeError(f"answered {response.status}: {text}")
            answer: dict[str, Any] = json.loads(text)
            return answer, took_s


def _show_answer(console: Console, answer: dict[str, Any], took_s: float) -> None:
    if "choices" in answer:
        console.print(
            f"  answer after {took_s * 1000:.0f} ms: {answer['choices'][0]['message']['content']}"
        )
        return
    first, *others = (item["embedding"] for item in answer["data"])
    console.print(
        f"  {len(answer['data'])} vectors of {len(first)} numbers after {took_s * 1000:.0f} ms"
    )
    for number, other in enumerate(others, start=2):
        console.print(f"  sentence 1 and {number} are alike by {_cosine(first, other):.2f}")


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


async def _one_worker(
    client: PenstockClient, app: str, ask: Callable[[], Awaitable[object]]
) -> WorkerDocument:
    """The worker that has just answered, once the api has heard of each phase of its start.

    The router may hear of them before the api does. On a machine that stalls it may have been
    idle for long enough to be gone: then `ask` has another one start.
    """
    deadline = CLOCK.monotonic() + STEP_TIMEOUT_S
    while CLOCK.monotonic() < deadline:
        workers = (await client.workers.list(app).whole()).workers
        for worker in workers:
            if Phase.HEALTHY in worker.phases_ms:
                return worker
        if not workers:
            await ask()
        await asyncio.sleep(0.05)
    raise RuntimeError("the api shows no worker, though one has answered")


def _show_phases(console: Console, worker: WorkerDocument) -> None:
    table = Table("phase", "at ms", "took ms", box=None)
    table.columns[1].justify = table.columns[2].justify = "right"
    before = 0.0
    for phase, at_ms in sorted(worker.phases_ms.items(), key=lambda item: item[1]):
        table.add_row(phase, f"{at_ms:.1f}", f"{at_ms - before:.1f}")
        before = at_ms
    console.print(table)


async def _until_idle(client: PenstockClient, app: str) -> None:
    async with asyncio.timeout(STEP_TIMEOUT_S):
        while (await client.workers.list(app).whole()).workers:  # noqa: ASYNC110 - nothing tells us but asking
            await asyncio.sleep(0.1)


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
