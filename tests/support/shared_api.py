"""Api processes beside one another, over the test's NATS."""

import asyncio
import signal
from collections.abc import Mapping

from tests.support.api_process import start


class ApiProcess:
    """A process that is ready, and what it has written so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = b""
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def ready(cls, env: Mapping[str, str]) -> "ApiProcess":
        """Start one, and wait until it says that it is ready."""
        started = cls(await start(dict(env)))
        assert started.process.stderr is not None
        async with asyncio.timeout(40):
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
        async with asyncio.timeout(20):
            code = await self.process.wait()
            if self._reading is not None:
                await self._reading
        return code
