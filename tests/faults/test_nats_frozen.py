"""nats-server stops answering (SIGSTOP): its connections stay open and silent."""

import asyncio
import time

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.errors import BusDisconnectedError, BusTimeoutError
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.nats.link import CHECK_EVERY_S
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.streams import ensure_streams, ticket_consumer
from penstock_common.nats.wire import WireClient
from penstock_common.settings import NatsSettings
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


async def test_a_frozen_server_is_noticed_and_taken_back(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        bucket = Bucket(bus, subjects.NODES)
        await bucket.put("a", b"1")
        table = WatchedTable(bus, subjects.NODES, bytes)
        await table.start()
        got: list[bytes] = []

        def take(message: Delivered) -> None:
            got.append(message.data)
            bus.publish_nowait(message.ack_subject, b"+ACK")

        loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            consumer=ticket_consumer("ep-1"),
            capacity=lambda: 2,
            handler=take,
        )
        await loop.start()
        await eventually(lambda: loop.asked == 2)

        nats_server.freeze()
        with pytest.raises(BusTimeoutError):
            await bus.request("$JS.API.INFO", b"", timeout_s=0.3)
        await eventually(lambda: not bus.connected)
        assert not table.synced
        assert loop.asked == 0
        with pytest.raises(BusDisconnectedError):
            await bucket.put("a", b"2")
        await asyncio.sleep(2)  # dials a server that accepts and says nothing

        nats_server.thaw()
        await eventually(lambda: table.synced and loop.asked == 2)
        assert bus.generation >= 2
        assert table.rows["a"].value == b"1"
        await bus.store(subjects.tickets("ep-1"), b"1")
        await eventually(lambda: got == [b"1"])
        await loop.stop()
        await table.stop()


async def test_a_short_freeze_is_waited_out(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        clock, generation = SystemClock(), bus.generation
        while True:
            began = clock.monotonic()
            nats_server.freeze()
            await asyncio.sleep(1)
            nats_server.thaw()
            await bus.wait_ready()
            await bus.request("$JS.API.INFO", b"")
            if clock.monotonic() - began < CHECK_EVERY_S:
                break  # else the machine stalled, and this was no short freeze
            generation = bus.generation
        await asyncio.sleep(3)
        assert (bus.connected, bus.generation) == (True, generation)


async def test_what_a_frozen_server_had_not_taken_is_not_sent_later(
    nats_server: NatsServer,
) -> None:
    """What the kernel took may still be done; what waited in the process must not."""
    async with connected(nats_server.url) as bus:
        await bus.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": "memory"})
        nats_server.freeze()
        sent = 0
        with pytest.raises((BusTimeoutError, BusDisconnectedError)):  # noqa: PT012
            while sent < 1000:
                await bus.publish("s", b"x" * 200_000)
                sent += 1
        assert sent < 100  # bounded: it does not pile up
        await eventually(lambda: not bus.connected)
        nats_server.thaw()
        await eventually(lambda: bus.connected)
        stored = (await bus.api("STREAM.INFO.S"))["state"]["messages"]
        await asyncio.sleep(0.5)
        assert (await bus.api("STREAM.INFO.S"))["state"]["messages"] == stored < sent


async def test_close_and_stop_are_bounded_while_frozen(nats_server: NatsServer) -> None:
    bus = await Bus.connect(
        NatsSettings(nats_url=nats_server.url), name="t", clock=SystemClock(), wait_s=5
    )
    await ensure_streams(bus)
    table = WatchedTable(bus, subjects.NODES, bytes)
    await table.start()
    loop = PullLoop(
        bus,
        stream=subjects.TICKETS,
        consumer=ticket_consumer("ep-1"),
        capacity=lambda: 2,
        handler=lambda _: None,
    )
    await loop.start()
    await eventually(lambda: loop.asked == 2)
    nats_server.freeze()
    async with asyncio.timeout(20):
        await loop.stop()
        await table.stop()
        await bus.close()


async def test_connecting_to_a_frozen_server_is_bounded(nats_server: NatsServer) -> None:
    nats_server.freeze()
    async with asyncio.timeout(20):
        with pytest.raises(BusDisconnectedError, match="within 1 s"):
            await Bus.connect(
                NatsSettings(nats_url=nats_server.url), name="t", clock=SystemClock(), wait_s=1
            )


async def test_a_process_that_stalls_does_not_blame_the_server(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the stall the timer is due before the answer that lies in the socket is read."""
    async with connected(nats_server.url) as bus:
        stalled: list[float] = []
        write_out = WireClient._write_out

        def write_and_stall(client: WireClient) -> None:
            write_out(client)
            if not stalled:
                stalled.append(1)
                time.sleep(4)

        monkeypatch.setattr(WireClient, "_write_out", write_and_stall)
        await eventually(lambda: stalled)  # the next echo
        await asyncio.sleep(3)
        assert (bus.connected, bus.generation) == (True, 1)
