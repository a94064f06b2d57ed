"""`penstock nats`: the nats-server of the compose files, through a full disk and a stop."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock_common.clock import SystemClock
from penstock_common.errors import BusTimeoutError
from penstock_common.nats.connection import Bus
from penstock_common.settings import NatsSettings
from tests.support.installation import PENSTOCK, eventually
from tests.support.ports import free_port
from tests.support.small_disk import fill, small_disk

pytestmark = pytest.mark.nats


class Served:
    """A data directory that `penstock init` made, and `penstock nats` on it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder.parent / "nats.log"

    @asynccontextmanager
    async def run(self) -> AsyncIterator[asyncio.subprocess.Process]:
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(PENSTOCK, "nats", "--data", str(self.folder)), stdout=log, stderr=log
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @asynccontextmanager
    async def bus(self) -> AsyncIterator[Bus]:
        settings = NatsSettings(
            nats_url=f"nats://127.0.0.1:{self.port}",
            nats_user="operator",
            nats_password_file=self.folder / "nats.operator.password",
        )
        bus = await Bus.connect(settings, name="test", clock=SystemClock())
        try:
            yield bus
        finally:
            await bus.close()


async def init(folder: Path) -> Served:
    """Make the data directory."""
    port = free_port()
    ports = ("--nats-port", str(port), "--nats-monitor-port", str(free_port()))
    process = await asyncio.create_subprocess_exec(
        PENSTOCK, "init", "--data", str(folder), *ports, stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return Served(folder, port)


async def stores(bus: Bus) -> bool:
    """Whether the server says that it has stored a message."""
    try:
        answer = await bus.request("kept.it", bytes(2_000), timeout_s=2.0)
    except BusTimeoutError:
        return False
    return "error" not in json.loads(answer.data)


async def test_it_ends_when_a_disk_that_was_full_has_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 160) as disk:
        served = await init(disk)
        async with served.run() as first, served.bus() as bus:
            stream = {"name": "KEPT", "subjects": ["kept.>"], "storage": "file"}
            await bus.api("STREAM.CREATE.KEPT", stream)
            assert await stores(bus)
            filler = fill(disk)

            async def refuses() -> bool:
                return not await stores(bus)

            await eventually(refuses, "a message is not stored", within_s=60)
            filler.unlink()
            assert not await stores(bus), "the server got over it by itself: the command can go"
            async with asyncio.timeout(60):
                assert await first.wait() == 1
            assert "it has room again" in served.log.read_text()

        async with served.run() as second, served.bus() as bus:
            assert await stores(bus)
            state = (await bus.api("STREAM.INFO.KEPT"))["state"]
            assert state["first_seq"] == 1
            second.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                assert await second.wait() == 0


async def test_it_ends_as_its_server_does(tmp_path: Path) -> None:
    served = await init(tmp_path / "data")
    config = tmp_path / "data/nats.conf"
    config.write_text(config.read_text() + "no such setting: 1\n")
    async with served.run() as process, asyncio.timeout(60):
        assert await process.wait() == 1
    assert "Parse error" in served.log.read_text()


async def test_a_directory_without_a_configuration_is_named(tmp_path: Path) -> None:
    served = Served(tmp_path / "data", 0)
    async with served.run() as process, asyncio.timeout(60):
        assert await process.wait() == 2
    assert "`penstock init --data" in served.log.read_text()
