"""nats-server is killed (SIGKILL) and started again, empty-handed where it kept to memory."""

import asyncio
import time
from collections.abc import Callable

import pytest

from penstock_common import subjects
from penstock_common.errors import BusDisconnectedError, BusTimeoutError
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.kv import Bucket, Row, WatchedTable
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.streams import ensure_streams, ticket_consumer
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


async def restart(server: NatsServer, bus: Bus, *, down: Callable[[], None] = lambda: None) -> None:
    """Kill and start the server; `down` is called when the bus knows that it is away."""
    server.kill()
    await eventually(lambda: not bus.connected)
    down()
    await asyncio.to_thread(server.start)


async def test_the_bus_returns_with_its_subscriptions(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[bytes] = []
        told: list[str] = []
        await bus.subscribe("a", lambda m: got.append(m.data))
        bus.on_disconnect(lambda: told.append("disconnect"))

        async def ensure() -> None:
            told.append("ensure")

        bus.ensure("test", ensure)
        remove = bus.on_connect(lambda: told.append("connect"))
        for generation in (2, 3):
            await restart(nats_server, bus)
            await eventually(lambda: len(told) % 3 == 0)
            assert told[-3:] == ["disconnect", "ensure", "connect"]
            assert bus.generation == generation
            await bus.publish("a", b"%d" % generation)
            await eventually(lambda: got[-1:] == [b"%d" % generation])  # noqa: B023
        remove()
        await restart(nats_server, bus)
        await eventually(lambda: bus.generation == 4 and told[-1] == "ensure")
        assert got == [b"2", b"3"]


async def test_nothing_is_sent_later(nats_server: NatsServer) -> None:
    """nats-py applied a put two seconds after it had failed (engineering.md, fact 5)."""
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        bucket = Bucket(bus, subjects.WORKERS)
        before = await bucket.put("a", b"before")
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        for _ in range(3):
            with pytest.raises(BusDisconnectedError):
                await bucket.put("a", b"while down")
            with pytest.raises(BusDisconnectedError):
                await bus.publish(subjects.kv_subject(subjects.WORKERS, "a"), b"while down")
            with pytest.raises(BusDisconnectedError):
                await bus.subscribe("x", lambda _: None)
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: bus.connected)
        await bus.wait_ready()
        assert await bucket.last_revision("a") == before


async def test_what_waits_for_an_answer_fails_at_once(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await bus.subscribe("mute", lambda _: None)
        waiting = asyncio.create_task(bus.request("mute", b"", timeout_s=30))
        await asyncio.sleep(0)
        nats_server.kill()
        # Long before its own time is up, whose end would read otherwise.
        with pytest.raises(BusTimeoutError, match="broke"):
            async with asyncio.timeout(20):
                await waiting


async def test_acknowledged_writes_survive(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        bucket = Bucket(bus, subjects.WORKERS)
        written = {f"k{i}": await bucket.put(f"k{i}", b"%d" % i) for i in range(100)}
        await restart(nats_server, bus)
        await eventually(lambda: bus.connected)
        for key, revision in written.items():
            entry = await bucket.get(key)
            assert entry is not None
            assert entry.revision == revision


async def test_tables_recover_soon_after_the_server(nats_server: NatsServer) -> None:
    """nats-py's watch was blind for 13 s (engineering.md, fact 6)."""
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        on_file, in_memory = Bucket(bus, subjects.WORKERS), Bucket(bus, subjects.NODES)
        await on_file.put("kept", b"1")
        await in_memory.put("gone", b"1")
        changes: list[tuple[str, object]] = []

        def note(name: str) -> Callable[[str, Row[bytes] | None], None]:
            return lambda key, row: changes.append((f"{name} {key}", row and row.value))

        tables = [
            WatchedTable(bus, subjects.WORKERS, bytes, on_change=note("file")),
            WatchedTable(bus, subjects.NODES, bytes, on_change=note("memory")),
        ]
        for table in tables:
            await table.start()
        changes.clear()

        nats_server.kill()
        await eventually(lambda: not any(t.synced for t in tables))
        assert [set(t.rows) for t in tables] == [{"kept"}, {"gone"}]  # as last seen
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: bus.connected)
        await eventually(lambda: all(t.synced for t in tables), within_s=10)
        assert changes == [("memory gone", None)]  # what stayed is not told again

        await on_file.put("new", b"2")
        await in_memory.put("new", b"2")
        await eventually(lambda: len(changes) == 3)
        assert {"file new", "memory new"} == {c[0] for c in changes[1:]}
        for table in tables:
            await table.stop()


async def test_a_pull_loop_goes_on(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        got: list[bytes] = []

        def take(message: Delivered) -> None:
            got.append(message.data)
            bus.publish_nowait(message.ack_subject, b"+ACK")

        loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            consumer=ticket_consumer("ep-1"),
            capacity=lambda: 5,
            handler=take,
        )
        await loop.start()
        for round_ in range(3):
            await eventually(lambda: loop.asked == 5)
            await bus.store(subjects.tickets("ep-1"), b"%d" % round_)
            await eventually(lambda: got == [b"%d" % i for i in range(round_ + 1)])  # noqa: B023
            asked_while_down: list[int] = []

            def note(noted: list[int] = asked_while_down) -> None:
                noted.append(loop.asked)

            await restart(nats_server, bus, down=note)
            assert asked_while_down == [0]
        # Settling what came from the server that died is no error.
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        message = Delivered("s", b"", {}, 1, 0, "$JS.ACK.x", 1, 0)
        loop.ack(message)
        loop.nak(message)
        loop.in_progress(message)
        await loop.stop()


async def test_a_long_outage_is_no_hot_loop_and_no_end(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        table = WatchedTable(bus, subjects.NODES, bytes)
        await table.start()
        loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            consumer=ticket_consumer("ep-1"),
            capacity=lambda: 5,
            handler=lambda _: None,
        )
        await loop.start()
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        began = time.process_time()
        await asyncio.sleep(4)
        # A loop that never waits would have taken all of it.
        assert time.process_time() - began < 2
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: table.synced and loop.asked == 5)
        await loop.stop()
        await table.stop()


async def test_close_while_the_server_is_gone(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        table = WatchedTable(bus, subjects.NODES, bytes)
        await table.start()
        subscription = await bus.subscribe("a", lambda _: None)
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        async with asyncio.timeout(10):
            await subscription.close()
            await table.stop()
            await bus.close()
            await bus.close()


async def test_an_ensure_hook_that_fails_is_tried_again_and_holds_nobody_up(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        calls: list[int] = []
        connects: list[int] = []

        async def fail_twice() -> None:
            calls.append(bus.generation)
            if len(calls) < 3:
                raise BusTimeoutError if len(calls) == 1 else LookupError

        bus.ensure("test", fail_twice)
        bus.on_connect(lambda: connects.append(len(calls)))
        await restart(nats_server, bus)
        await eventually(lambda: len(calls) == 3)
        assert connects == [1]


async def test_a_callback_that_raises_keeps_no_other_from_its_call(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        called: list[str] = []

        def explode() -> None:
            raise LookupError

        bus.on_disconnect(explode)
        bus.on_disconnect(lambda: called.append("disconnect"))
        bus.on_connect(explode)
        bus.on_connect(lambda: called.append("connect"))
        await restart(nats_server, bus)
        await eventually(lambda: called == ["disconnect", "connect"])


async def test_a_subscription_begun_or_ended_while_down(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        got: list[Received] = []
        old = await bus.subscribe("old", got.append)
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        bus.subscribe_nowait("new", got.append)
        await old.close()
        await asyncio.to_thread(nats_server.start)
        await eventually(lambda: bus.connected)
        await bus.publish("old", b"")
        await bus.publish("new", b"")
        await eventually(lambda: [m.subject for m in got] == ["new"])
