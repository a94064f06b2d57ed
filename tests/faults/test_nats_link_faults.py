"""The network between a service and nats-server: slow, cut, silent, and a bad parse."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.errors import BusDisconnectedError, BusTimeoutError, WrongRevisionError
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.nats.leases import Lease
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.streams import ensure_streams, ticket_consumer
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer
from tests.support.relay import Relay

pytestmark = pytest.mark.nats

KEY = subjects.SCHEDULER_LEASE_KEY


async def hold(lease: Lease) -> None:
    """Have it held and renewed once; a disk that stalls may take longer than it lives."""
    deadline = asyncio.get_running_loop().time() + 60
    while not (await lease.try_acquire() and await lease.renew()):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def acquire(lease: Lease, rival: Lease) -> None:
    """Have `lease` acquire; never may both hold it."""
    deadline = asyncio.get_running_loop().time() + 60
    while not await lease.try_acquire():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert not rival.held


@pytest.fixture
async def relay(nats_server: NatsServer) -> AsyncIterator[Relay]:
    relay = Relay(nats_server.port)
    await relay.start()
    yield relay
    await relay.stop()


async def test_a_cut_in_the_middle_of_a_request(nats_server: NatsServer, relay: Relay) -> None:
    async with connected(relay.url) as bus, connected(nats_server.url) as other:
        await other.subscribe("echo", lambda m: other.publish_nowait(m.reply, m.data))
        await other.subscribe("mute", lambda _: relay.cut())
        with pytest.raises(BusTimeoutError, match="broke"):
            await bus.request("mute", b"", timeout_s=30)
        await eventually(lambda: bus.connected)
        assert (await bus.request("echo", b"x")).data == b"x"


async def test_many_cuts_lose_no_state(nats_server: NatsServer, relay: Relay) -> None:
    async with connected(relay.url) as bus, connected(nats_server.url) as other:
        await ensure_streams(other)
        writer = Bucket(other, subjects.NODES)
        table = WatchedTable(bus, subjects.NODES, bytes)
        await table.start()
        for i in range(15):
            await writer.put(f"k{i % 4}", b"%d" % i)
            if i % 3 == 0:
                await writer.delete(f"k{(i + 1) % 4}")
            if i % 2:  # every other cut meets a connection, the others what becomes one
                await eventually(lambda: bus.connected)
            relay.cut()
            await asyncio.sleep(0.03)
        relay_free = {
            key: entry.value
            for key in ("k0", "k1", "k2", "k3")
            if (entry := await writer.get(key)) is not None
        }
        await eventually(
            lambda: table.synced and {k: r.value for k, r in table.rows.items()} == relay_free,
            within_s=5,
        )
        assert bus.generation > 5
        await table.stop()


async def test_a_cut_pull_loop_gets_every_message(nats_server: NatsServer, relay: Relay) -> None:
    async with connected(relay.url) as bus, connected(nats_server.url) as other:
        await ensure_streams(other)
        got: set[bytes] = set()

        def take(message: Delivered) -> None:
            got.add(message.data)
            bus.publish_nowait(message.ack_subject, b"+ACK")

        loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            consumer={**ticket_consumer("ep-1"), "ack_wait": 500_000_000},
            capacity=lambda: 5,
            handler=take,
        )
        await loop.start()
        for i in range(100):
            await other.store(subjects.tickets("ep-1"), b"%d" % i)
            if i % 10 == 5:
                relay.cut()
                await asyncio.sleep(0.05)
        await eventually(lambda: len(got) == 100)
        await loop.stop()


async def test_a_slow_network_only_makes_slow(relay: Relay) -> None:
    async with connected(relay.url) as bus:
        await ensure_streams(bus)
        relay.delay_s = 0.15
        bucket = Bucket(bus, subjects.NODES)
        revision = await bucket.put("a", b"1")
        table = WatchedTable(bus, subjects.NODES, bytes)
        await table.start()
        assert table.rows["a"].revision == revision
        got: list[Delivered] = []
        loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            consumer=ticket_consumer("ep-1"),
            capacity=lambda: 3 - len(got),
            handler=got.append,
        )
        await loop.start()
        for _ in range(3):
            await bus.store(subjects.tickets("ep-1"), b"")
        await eventually(lambda: len(got) == 3)
        lease = Lease(Bucket(bus, subjects.WORKERS), KEY, holder="h", ttl_s=60, clock=SystemClock())
        assert await lease.try_acquire()
        assert await lease.renew()
        assert bus.generation == 1
        await loop.stop()
        await table.stop()


async def test_silence_on_the_way_is_noticed_and_nothing_comes_late(
    nats_server: NatsServer, relay: Relay
) -> None:
    async with connected(relay.url) as bus, connected(nats_server.url) as other:
        got: list[bytes] = []
        await other.subscribe("a", lambda m: got.append(m.data))
        relay.hold()
        await bus.publish("a", b"on its way")
        await eventually(lambda: not bus.connected)
        with pytest.raises(BusDisconnectedError):
            await bus.publish("a", b"while silent")
        relay.release()
        await eventually(lambda: bus.connected)
        await bus.publish("a", b"after")
        await eventually(lambda: got[-1:] == [b"after"])
        assert b"while silent" not in got


async def test_a_parser_that_breaks_is_no_deaf_connection(nats_server: NatsServer) -> None:
    """nats-py's read loop then ends, and the connection looks connected (engineering.md, §1.7)."""
    async with connected(nats_server.url) as bus:
        got: list[bytes] = []
        await bus.subscribe("a", lambda m: got.append(m.data))
        client = bus._exchange.client
        assert client is not None

        async def broken(_: bytes) -> None:
            raise LookupError

        client._ps.parse = broken  # type: ignore[assignment,method-assign]
        await bus.publish("a", b"lost")
        await eventually(lambda: bus.generation == 2)
        await bus.publish("a", b"heard")
        await eventually(lambda: got == [b"heard"])


async def test_an_error_of_the_server_is_no_end(nats_server: NatsServer) -> None:
    """After an unknown command the server ends the connection, and nats-py closes for good."""
    async with connected(nats_server.url) as bus:
        client = bus._exchange.client
        assert client is not None
        client.send(b"NONSENSE\r\n")
        await eventually(lambda: bus.generation == 2)
        await bus.request("$JS.API.INFO", b"")


async def test_a_holder_that_is_cut_off_stops_before_the_next_begins(
    nats_server: NatsServer, relay: Relay
) -> None:
    async with connected(relay.url) as cut_off, connected(nats_server.url) as free:
        await ensure_streams(free)
        clock = SystemClock()
        old = Lease(Bucket(cut_off, subjects.WORKERS), KEY, holder="old", ttl_s=2, clock=clock)
        new = Lease(Bucket(free, subjects.WORKERS), KEY, holder="new", ttl_s=60, clock=clock)
        bucket = Bucket(free, subjects.WORKERS)
        await hold(old)
        old_token, old_fence = old.token, old.fence
        relay.hold()
        # Its renewal is on its way, and will arrive when the lease is another's.
        renewing = asyncio.create_task(old.renew())
        await acquire(new, old)
        assert new.token > old_token
        fence = new.fence
        relay.release()
        await renewing
        await eventually(lambda: cut_off.connected)
        assert not await old.renew()
        assert not old.held
        assert await bucket.last_revision(KEY) == fence.revision
        await bucket.put("n.w", b"", fence=fence)
        with pytest.raises(WrongRevisionError):
            await bucket.put("n.w", b"", fence=old_fence)
        assert await new.renew()


async def test_a_renewal_that_arrives_late_only_makes_others_wait(
    nats_server: NatsServer, relay: Relay
) -> None:
    async with connected(relay.url) as slow, connected(nats_server.url) as free:
        await ensure_streams(free)
        clock = SystemClock()
        old = Lease(Bucket(slow, subjects.WORKERS), KEY, holder="old", ttl_s=3, clock=clock)
        new = Lease(Bucket(free, subjects.WORKERS), KEY, holder="new", ttl_s=3, clock=clock)
        await hold(old)
        relay.hold()
        renewing = asyncio.create_task(old.renew())
        await eventually(lambda: not old.held)
        relay.release()  # 0.6 s before the TTL: the server takes it
        await renewing
        await acquire(new, old)


async def test_a_frozen_holder_wakes_up_without_its_lease(nats_server: NatsServer) -> None:
    """SIGSTOP of the whole server: for both nobody holds it, then one of them does."""
    async with connected(nats_server.url) as one_bus, connected(nats_server.url) as two_bus:
        await ensure_streams(one_bus)
        clock = SystemClock()
        one = Lease(Bucket(one_bus, subjects.WORKERS), KEY, holder="1", ttl_s=2, clock=clock)
        two = Lease(Bucket(two_bus, subjects.WORKERS), KEY, holder="2", ttl_s=2, clock=clock)
        await hold(one)
        nats_server.freeze()
        assert one._claim is not None
        until = one._claim.until
        # Not lost while its time is not up, as it may be on a machine that stalls.
        assert await one.renew() or clock.monotonic() >= until
        await eventually(lambda: not one.held)
        assert not await two.try_acquire()
        nats_server.thaw()
        deadline = clock.monotonic() + 60
        while not (await two.try_acquire() or await one.try_acquire()):
            assert clock.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert not (one.held and two.held)
