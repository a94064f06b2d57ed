"""The `penstock-router` process, started as its supervisor starts it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from penstock_common.entropy import random_id


class Process:
    """One router process and what it told its supervisor."""

    def __init__(self, process: asyncio.subprocess.Process, told: socket.socket) -> None:
        self.process = process
        self._told = told

    async def ready(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(60):
                data = await loop.sock_recv(self._told, 4096)
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if fields.get("READY") == "1":
                return fields

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def router_process(folder: Path, **settings: str) -> AsyncIterator[Process]:
    path = folder / random_id("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock_router",
            env=os.environ
            | {"NOTIFY_SOCKET": str(path)}
            | {f"PENSTOCK_ROUTER_{name.upper()}": value for name, value in settings.items()},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield Process(process, told)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
