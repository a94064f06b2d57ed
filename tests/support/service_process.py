"""A process of a service, started as its supervisor starts it."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from penstock_common.entropy import random_id


class Process:
    """One process and what it told its supervisor."""

    def __init__(self, process: asyncio.subprocess.Process, told: socket.socket) -> None:
        self.process = process
        self._told = told

    async def ready(self) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        while True:
            data = await asyncio.wait_for(loop.sock_recv(self._told, 4096), 20)
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if fields.get("READY") == "1":
                return fields

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 10)


@contextlib.asynccontextmanager
async def service_process(service: str, folder: Path, **settings: object) -> AsyncIterator[Process]:
    """A process of this service (`router`, `api`) within the block."""
    path = folder / random_id("notify")
    prefix = f"PENSTOCK_{service.upper()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"penstock_{service}",
            env=os.environ
            | {"NOTIFY_SOCKET": str(path)}
            | {f"{prefix}_{name.upper()}": str(value) for name, value in settings.items()},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield Process(process, told)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def router_process(folder: Path, **settings: str) -> AbstractAsyncContextManager[Process]:
    """A router process within the block."""
    return service_process("router", folder, **settings)
