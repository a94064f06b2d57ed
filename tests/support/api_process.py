"""`penstock-api` as a process of a test's own, on a free port, over the test's NATS."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from penstock_common import sealing
from tests.support.api_server import ADMIN_KEY
from tests.support.nats_server import NatsServer


def api_settings(nats: NatsServer, folder: Path) -> dict[str, str]:
    """Its environment; two with the same folder share their keys."""
    secret = folder / "secret.key"
    if not secret.exists():
        (folder / "admin.key").write_text(ADMIN_KEY)
        secret.write_text(sealing.new_key())
    return {
        "PENSTOCK_API_PORT": "0",
        "PENSTOCK_API_NATS_URL": nats.url,
        "PENSTOCK_API_ADMIN_KEY_FILE": str(folder / "admin.key"),
        "PENSTOCK_API_SECRET_KEY_FILE": str(secret),
    }


async def start_api(env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """The process, which may not be ready yet; its log is at `stderr`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock_api"),
        stderr=asyncio.subprocess.PIPE,
        env=inherited | dict(env),
    )


class ApiProcess:
    """A process that is ready, and what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = b""
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def ready(cls, env: Mapping[str, str]) -> "ApiProcess":
        """Start one, and wait until it says that it is ready."""
        started = cls(await start_api(env))
        assert started.process.stderr is not None
        async with asyncio.timeout(60):
            while b"service_ready" not in started.log:
                line = await started.process.stderr.readline()
                assert line, started.log.decode()
                started.log += line
        started._reading = asyncio.create_task(started._read())
        return started

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.log += line

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; gives its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            code = await self.process.wait()
            if self._reading is not None:
                await self._reading
        return code


@dataclass(frozen=True)
class RunningApi:
    """A process, and a client of it that has no key."""

    pid: int
    session: aiohttp.ClientSession


@asynccontextmanager
async def api_process(nats: NatsServer, folder: Path, **changes: str) -> AsyncIterator[RunningApi]:
    """An api that runs within the block; `changes` to its environment."""
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        process = await start_api(api_settings(nats, folder) | {"NOTIFY_SOCKET": path} | changes)
        async with asyncio.timeout(60):
            ready = (await asyncio.get_running_loop().sock_recv(notify, 4096)).decode()
    url = dict(line.split("=", 1) for line in ready.splitlines())["X_URL"]
    try:
        # What the process writes is read, or it would stop writing.
        told = asyncio.create_task(process.communicate(), name="stderr of the api")
        async with aiohttp.ClientSession(url) as session:
            yield RunningApi(process.pid, session)
    finally:
        with contextlib.suppress(ProcessLookupError):  # a test may have killed it
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            await told
