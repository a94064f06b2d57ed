"""Events on their way into the stream, over a real nats-server."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.errors import BusTimeoutError
from penstock_common.events.catalogue import (
    CATALOGUE,
    NODE_DRAINED,
    SCALE_DECIDED,
    Event,
    EventType,
    Service,
)
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.events.examples import ENDPOINT_ID, EXAMPLES
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import NodeDrained
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.stream_reader import StreamReader
from penstock_common.nats.streams import ensure_streams
from tests.support.bus import connected, eventually
from tests.support.cloud_events import read_json, read_message
from tests.support.events import publishing
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


def drained(n: int) -> Event:
    return NODE_DRAINED.of(NodeDrained(node_id=f"node-{n}"))


def scheduler_events(bus: Bus, **more: Any) -> EventPublisher:
    return EventPublisher(bus, SystemClock(), Service.SCHEDULER, **more)


async def stored(bus: Bus) -> int:
    return int((await bus.api(f"STREAM.INFO.{subjects.EVENTS}"))["state"]["messages"])


def about(messages: Sequence[Received]) -> list[str]:
    return [CloudEvent.of_message(m.headers, m.data).attributes["subject"] for m in messages]


async def test_every_event_of_the_catalogue_arrives_as_it_was_told(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        heard: list[Received] = []
        await bus.subscribe(subjects.EVENTS_ALL, heard.append)
        for name, row in CATALOGUE.items():
            publisher = EventPublisher(bus, SystemClock(), row.publisher, "one")
            async with publishing(publisher):
                publisher.announce(row.of(EXAMPLES[name]))
                await publisher.flush(60)
        await eventually(lambda: len(heard) == len(CATALOGUE))
        assert await stored(bus) == len(CATALOGUE)
        for message, row in zip(heard, CATALOGUE.values(), strict=True):
            assert read_message(message) == (row, EXAMPLES[row.name])
            ours = CloudEvent.of_message(message.headers, message.data)
            assert ours.attributes["source"] == f"/penstock/{row.publisher}/one"
            assert read_json(ours.document) == (row, EXAMPLES[row.name])


async def test_what_is_announced_while_nats_is_away_arrives_in_order_when_it_is_back(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        publisher = scheduler_events(bus)
        async with publishing(publisher):
            publisher.announce(drained(0))
            await publisher.flush(60)
            nats_server.kill()
            await eventually(lambda: not bus.connected)
            for n in range(1, 20):
                publisher.announce(drained(n))
            await asyncio.to_thread(nats_server.start)
            await eventually(lambda: bus.generation > 1)
            publisher.announce(drained(20))
            await publisher.flush(60)
        page = await StreamReader(bus, subjects.EVENTS).after(0, subjects.EVENTS_ALL)
        assert about(page.messages) == [f"node-{n}" for n in range(21)]


class Unanswered(Bus):
    """A bus that loses the answer to each first try."""

    lost = 0

    async def store(self, *args: Any, **kwargs: Any) -> Any:
        answer = await super().store(*args, **kwargs)
        type(self).lost += 1
        if type(self).lost % 2:
            raise BusTimeoutError
        return answer


async def test_a_retry_after_a_lost_answer_is_no_second_event(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        bus.__class__ = Unanswered
        publisher = scheduler_events(bus)
        async with publishing(publisher):
            publisher.announce(drained(1))
            await publisher.flush(60)
        assert Unanswered.lost == 2
        assert await stored(bus) == 1


async def test_when_too_many_wait_the_oldest_are_lost_and_said(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        heard: list[Received] = []
        await bus.subscribe(subjects.EVENTS_ALL, heard.append)
        publisher = scheduler_events(bus, max_waiting=3)
        for n in range(5):
            publisher.announce(drained(n))
        async with publishing(publisher):
            await publisher.flush(60)
        await eventually(lambda: len(heard) == 3)
        assert about(heard) == ["node-2", "node-3", "node-4"]
        lost = [r.__dict__["about"] for r in caplog.records if r.message == "event lost"]
        assert lost == ["node-0", "node-1"]


async def test_one_that_the_stream_refuses_holds_up_no_other(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_common.events.publisher.RETRY_DELAYS_S", (0.0, 0.0))
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        publisher = scheduler_events(bus)
        too_large = EXAMPLES["penstock.scale.decided"].model_copy(update={"why": "w" * 300_000})
        async with publishing(publisher):
            publisher.announce(SCALE_DECIDED.of(too_large))
            publisher.announce(drained(1))
            await publisher.flush(60)
        assert await stored(bus) == 1
        (lost,) = [r.__dict__ for r in caplog.records if "about" in r.__dict__]
        assert (lost["event_type"], lost["about"]) == (SCALE_DECIDED.name, ENDPOINT_ID)
        assert "maximum" in lost["error"]


async def test_at_the_end_what_could_not_be_stored_is_said(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        nats_server.kill()
        await eventually(lambda: not bus.connected)
        publisher = scheduler_events(bus)
        async with publishing(publisher):
            publisher.announce(drained(1))
            publisher.announce(drained(2))
            await publisher.flush(0.01)
        lost = {
            r.__dict__["about"]: r.__dict__["error"]
            for r in caplog.records
            if "about" in r.__dict__
        }
        assert lost == dict.fromkeys(["node-1", "node-2"], "the service stops")


async def test_an_event_that_is_not_ones_own_or_not_in_the_catalogue_is_refused(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server.url) as bus:
        publisher = EventPublisher(bus, SystemClock(), Service.API)
        with pytest.raises(ValueError, match="is no event of api"):
            publisher.announce(drained(1))
        invented = EventType(NODE_DRAINED.family, "invented", Service.API, NodeDrained, "Never.")
        with pytest.raises(ValueError, match="is no event of api"):
            publisher.announce(invented.of(NodeDrained(node_id="a")))
