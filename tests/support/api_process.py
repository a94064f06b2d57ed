"""The `penstock-api` process, started as its supervisor starts it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from penstock_common import sealing
from tests.support.api_server import ADMIN_KEY
from tests.support.nats_server import NatsServer


def settings(nats: NatsServer, folder: Path) -> dict[str, str]:
    """The environment of an api on a free port, with keys of its own in this folder."""
    (folder / "admin.key").write_text(ADMIN_KEY)
    (folder / "secret.key").write_text(sealing.new_key())
    return {
        "PENSTOCK_API_PORT": "0",
        "PENSTOCK_API_NATS_URL": nats.url,
        "PENSTOCK_API_ADMIN_KEY_FILE": str(folder / "admin.key"),
        "PENSTOCK_API_SECRET_KEY_FILE": str(folder / "secret.key"),
    }


async def start(env: dict[str, str]) -> asyncio.subprocess.Process:
    """The process with this environment and nothing of Penstock's from the caller's."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock_api"), stderr=asyncio.subprocess.PIPE, env=inherited | env
    )


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
        process = await start(settings(nats, folder) | {"NOTIFY_SOCKET": path} | changes)
        async with asyncio.timeout(30):
            ready = (await asyncio.get_running_loop().sock_recv(notify, 4096)).decode()
    url = dict(line.split("=", 1) for line in ready.splitlines())["X_URL"]
    try:
        # What the process writes is read, or it would stop writing.
        told = asyncio.create_task(process.communicate(), name="stderr of the api")
        async with aiohttp.ClientSession(url) as session:
            yield RunningApi(process.pid, session)
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await told
