"""`PullLoop` against a real nats-server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock_common import subjects
from penstock_common.nats import pull_loop
from penstock_common.nats.connection import Bus
from penstock_common.nats.pull_loop import Delivered, PullLoop
from penstock_common.nats.streams import ensure_streams, ticket_consumer
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats

SUBJECT = subjects.tickets("ep-1")


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        yield bus


class Puller:
    """A loop, what it got, and how much it may get."""

    def __init__(self, bus: Bus, capacity: int, endpoint_id: str = "ep-1") -> None:
        self.bus = bus
        self.capacity = capacity
        self.got: list[Delivered] = []
        self.came_at: list[float] = []
        self.loop = PullLoop(
            bus,
            stream=subjects.TICKETS,
            # Nothing is delivered anew to a test that stood still for a while.
            consumer={**ticket_consumer(endpoint_id), "ack_wait": 120_000_000_000},
            capacity=lambda: self.capacity,
            handler=self.take,
        )

    def take(self, message: Delivered) -> None:
        self.got.append(message)
        self.came_at.append(asyncio.get_running_loop().time())
        self.capacity -= 1

    @property
    def payloads(self) -> list[bytes]:
        return [message.data for message in self.got]

    async def finish(self, message: Delivered) -> None:
        self.loop.ack(message)
        self.capacity += 1
        self.loop.poke()


async def publish(bus: Bus, *payloads: bytes) -> None:
    for payload in payloads:
        await bus.store(SUBJECT, payload)


async def waiting(bus: Bus) -> int:
    """Messages in the stream."""
    return int((await bus.api(f"STREAM.INFO.{subjects.TICKETS}"))["state"]["messages"])


def count_pulls(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each pull request (a subscription to them would answer for a lost consumer)."""
    pulls: list[str] = []
    publish_nowait = bus.publish_nowait

    def counting(subject: str, data: bytes, **options: str) -> None:
        if subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
            pulls.append(subject)
        publish_nowait(subject, data, reply=options.get("reply", ""))

    monkeypatch.setattr(bus, "publish_nowait", counting)
    return pulls


async def all_done(bus: Bus) -> None:
    """Wait until the stream is empty: the server removes what is acknowledged in its own time."""
    deadline = asyncio.get_running_loop().time() + 60
    while await waiting(bus):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_messages_come_in_order_as_capacity_allows(bus: Bus) -> None:
    puller = Puller(bus, capacity=3)
    await publish(bus, b"1", b"2", b"3", b"4", b"5")
    await puller.loop.start()
    await eventually(lambda: puller.payloads == [b"1", b"2", b"3"])
    await bus.request("$JS.API.INFO", b"")
    assert len(puller.got) == 3
    first = puller.got[0]
    assert (first.subject, first.attempt, first.pending) == (SUBJECT, 1, 4)
    await puller.finish(puller.got[0])
    await puller.finish(puller.got[1])
    await eventually(lambda: puller.payloads == [b"1", b"2", b"3", b"4", b"5"])
    for message in puller.got[2:]:
        await puller.finish(message)
    await all_done(bus)
    await puller.loop.stop()


async def test_no_capacity_asks_for_nothing_until_poked(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = count_pulls(bus, monkeypatch)
    puller = Puller(bus, capacity=0)
    await publish(bus, b"1")
    await puller.loop.start()
    await eventually(lambda: puller.loop._session is not None)
    await bus.request("$JS.API.INFO", b"")
    assert (puller.got, pulls) == ([], [])
    puller.capacity = 1
    puller.loop.poke()
    puller.loop.poke()
    await eventually(lambda: len(puller.got) == 1)
    assert len(pulls) == 1
    await puller.loop.stop()


async def test_a_message_that_comes_later_needs_no_further_request(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulls = count_pulls(bus, monkeypatch)
    puller = Puller(bus, capacity=2)
    await puller.loop.start()
    await eventually(lambda: puller.loop.asked == 2)
    await publish(bus, b"1", b"2")
    await eventually(lambda: len(puller.got) == 2)
    assert len(pulls) == 1
    await puller.loop.stop()


async def test_nak_gives_it_again_and_counts(bus: Bus) -> None:
    puller = Puller(bus, capacity=10)
    await puller.loop.start()
    await publish(bus, b"1")
    await eventually(lambda: len(puller.got) == 1)
    puller.loop.nak(puller.got[0])
    await eventually(lambda: len(puller.got) == 2)
    assert puller.got[1].attempt == 2
    started = asyncio.get_running_loop().time()
    puller.loop.nak(puller.got[1], delay_s=0.3)
    await eventually(lambda: len(puller.got) == 3)
    assert asyncio.get_running_loop().time() - started >= 0.29
    puller.loop.term(puller.got[2])
    await bus.request("$JS.API.INFO", b"")
    await all_done(bus)
    await puller.loop.stop()


async def test_in_progress_keeps_a_message_and_silence_loses_it(bus: Bus) -> None:
    puller = Puller(bus, capacity=10)
    consumer = {**ticket_consumer("ep-1"), "ack_wait": 300_000_000}
    puller.loop._consumer = consumer
    await puller.loop.start()
    await publish(bus, b"1")
    await eventually(lambda: len(puller.got) == 1)
    said_at = [asyncio.get_running_loop().time()] * 2
    for _ in range(10):
        if len(puller.got) > 1:
            break  # this process stood still for longer than that
        said_at.append(asyncio.get_running_loop().time())
        puller.loop.in_progress(puller.got[0])
        await asyncio.sleep(0.1)
    await eventually(lambda: len(puller.got) == 2)
    # The last word may have crossed the message; the one before it counted.
    assert puller.came_at[1] - said_at[-2] >= 0.29
    await puller.loop.stop()


async def test_two_loops_share_one_queue(nats_server: NatsServer, bus: Bus) -> None:
    async with connected(nats_server.url) as other_bus:
        pullers = [Puller(bus, capacity=500), Puller(other_bus, capacity=500)]
        for puller in pullers:
            await puller.loop.start()
        await eventually(lambda: all(p.loop.asked for p in pullers))
        await asyncio.gather(*(bus.store(SUBJECT, b"%d" % i) for i in range(600)))
        await eventually(lambda: sum(len(p.got) for p in pullers) == 600)
        assert all(p.got for p in pullers)
        everything = {m.data for p in pullers for m in p.got}
        assert len(everything) == 600
        for puller in pullers:
            await puller.loop.stop()


async def test_an_idle_loop_keeps_one_request_open(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a time in which every message had a request of its own."""
    monkeypatch.setattr(pull_loop, "EXPIRES_S", 0.8)
    puller = Puller(bus, capacity=8)
    await puller.loop.start()
    for i in range(30):
        await publish(bus, b"%d" % i)
        await eventually(lambda i=i: len(puller.got) == i + 1)  # type: ignore[misc]  # default
        await puller.finish(puller.got[i])
    await eventually(lambda: puller.loop.asked == 8)

    def comes_down() -> bool:
        session = puller.loop._session
        return session is not None and sum(bool(r.remaining) for r in session.requests) == 1

    await eventually(comes_down)
    session, generation = puller.loop._session, bus.generation
    pulls = count_pulls(bus, monkeypatch)
    began = asyncio.get_running_loop().time()
    await eventually(lambda: len(pulls) >= 3)
    assert asyncio.get_running_loop().time() - began >= 2 * 0.75
    # Expiry is everyday; a server that is silent for seconds is not.
    assert puller.loop._session is session or bus.generation > generation
    await puller.loop.stop()


async def test_many_slots_need_few_requests(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = count_pulls(bus, monkeypatch)
    puller = Puller(bus, capacity=1000)
    await puller.loop.start()
    await eventually(lambda: puller.loop.asked == 1000)
    await asyncio.gather(*(bus.store(SUBJECT, b"") for _ in range(1000)))
    await eventually(lambda: len(puller.got) == 1000)
    assert len(pulls) == 1
    await puller.loop.stop()


async def test_a_handler_that_raises_does_not_end_the_loop(bus: Bus) -> None:
    got: list[bytes] = []

    def handler(message: Delivered) -> None:
        got.append(message.data)
        raise LookupError

    loop = PullLoop(
        bus,
        stream=subjects.TICKETS,
        consumer=ticket_consumer("ep-1"),
        capacity=lambda: 1,
        handler=handler,
    )
    await loop.start()
    await publish(bus, b"1", b"2")
    await eventually(lambda: got[:2] == [b"1", b"2"])
    await loop.stop()


async def test_stop_gives_back_what_was_on_its_way(nats_server: NatsServer, bus: Bus) -> None:
    """At once, not after the consumer's `ack_wait`."""
    async with connected(nats_server.url) as other_bus:
        stopping = Puller(bus, capacity=100)
        await stopping.loop.start()
        await eventually(lambda: stopping.loop.asked == 100)
        for i in range(100):
            other_bus.publish_nowait(SUBJECT, b"%d" % i)
        await stopping.loop.stop()
        for message in stopping.got:
            stopping.loop.ack(message)
        taken = set(stopping.payloads)
        assert len(taken) < 100
        heir = Puller(other_bus, capacity=100)
        await heir.loop.start()
        await eventually(lambda: len(taken | set(heir.payloads)) == 100)  # below ack_wait
        assert taken.isdisjoint(heir.payloads)
        await heir.loop.stop()
        await stopping.loop.stop()


async def test_a_deleted_consumer_is_made_again(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    pulls = count_pulls(bus, monkeypatch)
    puller = Puller(bus, capacity=1)
    await puller.loop.start()
    await eventually(lambda: puller.loop.asked == 1)
    for i in range(3):
        await bus.api(f"CONSUMER.DELETE.{subjects.TICKETS}.{subjects.tickets_consumer('ep-1')}")
        await publish(bus, b"%d" % i)
        # Mostly at once; a pull that the server drops while it deletes is noticed after 4 s.
        await eventually(lambda i=i: len(puller.got) == i + 1)  # type: ignore[misc]
        await puller.finish(puller.got[i])
    assert len(pulls) <= 12
    await puller.loop.stop()


async def test_a_consumer_that_always_goes_makes_no_hot_loop(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastStream asked 6,755 times a second here (engineering.md, fact 8)."""
    pulls = count_pulls(bus, monkeypatch)
    puller = Puller(bus, capacity=1)
    await puller.loop.start()
    await eventually(lambda: puller.loop.asked == 1)
    bus._link.ensure_hooks.clear()  # nobody makes it again
    await bus.api(f"STREAM.DELETE.{subjects.TICKETS}")
    made: list[str] = []
    await bus.subscribe("$JS.API.CONSUMER.CREATE.>", lambda m: made.append(m.subject))
    began = asyncio.get_running_loop().time()
    await eventually(lambda: len(made) >= 6)
    assert asyncio.get_running_loop().time() - began > 1
    assert len(pulls) <= 2
    await ensure_streams(bus)
    await publish(bus, b"1")
    await eventually(lambda: len(puller.got) == 1)
    await puller.loop.stop()


async def test_a_deleted_stream_is_made_by_the_ensure_hook(bus: Bus) -> None:
    puller = Puller(bus, capacity=1)
    await puller.loop.start()
    await eventually(lambda: puller.loop.asked == 1)
    await bus.api(f"STREAM.DELETE.{subjects.TICKETS}")
    await eventually(lambda: puller.loop.asked == 0)
    await eventually(lambda: puller.loop.asked == 1)
    await publish(bus, b"1")
    await eventually(lambda: len(puller.got) == 1)
    await puller.loop.stop()


async def test_too_many_pulls_for_the_consumer_is_survived(bus: Bus) -> None:
    """A 409 about `max_waiting`: another puller has taken all places."""
    consumer = {**ticket_consumer("ep-1"), "max_waiting": 1}
    pullers = [Puller(bus, capacity=1), Puller(bus, capacity=1)]
    for puller in pullers:
        puller.loop._consumer = consumer
        await puller.loop.start()
    for i in range(10):
        await publish(bus, b"%d" % i)
        await eventually(lambda i=i: sum(len(p.got) for p in pullers) == i + 1)  # type: ignore[misc]
        for puller in pullers:
            puller.capacity = 1
            puller.loop.poke()
    for puller in pullers:
        await puller.loop.stop()


async def test_stop_is_bounded_and_can_be_repeated(bus: Bus) -> None:
    puller = Puller(bus, capacity=1)
    await puller.loop.stop()
    await puller.loop.start()
    await puller.loop.stop()
    await puller.loop.stop()
    assert bus._exchange._subscribed.keys() == {1}
