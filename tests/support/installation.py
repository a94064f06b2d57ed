"""A whole Penstock of a test's own: `penstock up` on free ports, driven as a user would."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from penstock_common.clock import SystemClock

CLOCK = SystemClock()
ROOT = Path(__file__).parents[2]
T = TypeVar("T")
PENSTOCK = str(Path(sys.executable).with_name("penstock"))


async def eventually(
    ask: Callable[[], Awaitable[T | None]], what: str, *, within_s: float = 60.0
) -> T:
    """Ask until the answer is true, or fail after `within_s` seconds."""
    deadline = CLOCK.monotonic() + within_s
    while True:
        answer = await ask()
        if answer:
            return answer
        assert CLOCK.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.05)


class Installation:
    """`penstock up` and an HTTP client with the admin key."""

    def __init__(self, data: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self._options = options
        self._env = {**os.environ, **(env or {})}
        self.urls: dict[str, str] = {}
        self.key = ""
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Installation":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start it and wait for the ready line; where that does not come, nothing is left of it."""
        try:
            await self._start()
        except BaseException:
            if self._process is not None and self._process.returncode is None:
                self._process.terminate()  # its children end with it, also when it is killed
                await self._ended()
            raise

    async def _start(self) -> None:
        log = (self.data.parent / f"{self.data.name}.log").open("ab")
        # fmt: off
        self._process = await asyncio.create_subprocess_exec(
            PENSTOCK, "up", "--data", str(self.data), "--api-port", "0", "--router-port", "0",
            "--nats-port", "0", *self._options,
            stdout=asyncio.subprocess.PIPE, stderr=log, cwd=ROOT, env=self._env,
        )
        # fmt: on
        log.close()
        assert self._process.stdout is not None
        # Longer than it waits for its parts itself: then it says which was late.
        async with asyncio.timeout(150):
            line = (await self._process.stdout.readline()).decode()
        assert line.startswith("ready "), self.log_text()[-4000:]
        self.urls = dict(part.split("=", 1) for part in line.split()[1:])
        self.key = (self.data / "admin.key").read_text().strip()
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.key}"},
            # Who waits for a worker on a busy machine waits for long; each test has an end.
            timeout=aiohttp.ClientTimeout(total=180),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as a person would; gives the exit code."""
        if self._session is not None:
            await self._session.close()
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        code = await self._ended()
        assert not self.denied(), "a NATS user lacks a permission (nats/permissions.py)"
        return code

    async def _ended(self) -> int:
        """Its exit code. It ends within the graces of its parts, which are 20 s together."""
        assert self._process is not None
        try:
            async with asyncio.timeout(60):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise

    def denied(self) -> list[str]:
        """Lines of the services' logs that tell of something that NATS did not let them do."""
        return [
            line
            for log in sorted((self.data / "logs").glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if '"nats_denied"' in line
        ]

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    def log_text(self) -> str:
        """What `penstock up` wrote to stderr."""
        return (self.data.parent / f"{self.data.name}.log").read_text()

    def child_pid(self, name: str) -> int:
        """Pid of one of its children, as ready.json says."""
        pid: int = json.loads((self.data / "ready.json").read_text())["children"][name]
        return pid

    @contextlib.contextmanager
    def starting_nothing(self) -> Iterator[None]:
        """Whatever part dies meanwhile stays dead until the end of the block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def api(self, method: str, path: str, document: object = None) -> Any:
        """The JSON answer of an api call that must succeed."""
        async with self.session.request(method, self.urls["api"] + path, json=document) as answer:
            text = await answer.text()
            assert answer.status < 400, f"{method} {path}: {answer.status} {text}"
            return json.loads(text) if text else None

    async def deploy(self, app: str, command: str, **changes: Any) -> dict[str, Any]:
        """Make an endpoint without GPU that runs a command."""
        document = {
            "name": app,
            "app_name": app,
            "image": {"command": command},
            "gpu": {"count": 0},
            **changes,
        }
        answer: dict[str, Any] = await self.api("POST", "/v1/endpoints", document)
        return answer

    async def workers(self, app: str) -> list[dict[str, Any]]:
        """The endpoint's workers."""
        answer = await self.api("GET", f"/v1/endpoints/{app}/workers")
        found: list[dict[str, Any]] = answer["workers"] if isinstance(answer, dict) else answer
        return found

    async def get(self, app: str, path: str) -> tuple[int, Any]:
        """Status and JSON of a request to an endpoint."""
        async with self.session.get(f"{self.urls['router']}/{app}{path}") as answer:
            return answer.status, await answer.json(content_type=None)

    async def no_workers(self, app: str, *, within_s: float = 60.0) -> None:
        """Wait until the endpoint has no worker any more."""

        async def none_left() -> bool:
            return not await self.workers(app)

        await eventually(none_left, f"no worker of {app}", within_s=within_s)


def processes_with(marker: str) -> list[int]:
    """Pids of the processes whose environment or command line holds this text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                if marker.encode() in text:
                    found.append(int(entry.name))
    return found
