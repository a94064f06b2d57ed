"""What is written down of deliveries, against a real nats-server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from penstock_api.webhooks.deliveries import DeliveryLog
from penstock_common.messages import DeliveryRecord, DeliveryState
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import ensure_streams
from tests.support.bus import connected
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

NOW = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        yield bus


def record(webhook_id: str, n: int, event_sequence: int = 0) -> DeliveryRecord:
    return DeliveryRecord(
        webhook_id=webhook_id,
        event_id=f"ev-{n}",
        event_type="penstock.endpoint.created",
        about="ep-1",
        event_time=NOW,
        event_sequence=event_sequence,
        state=DeliveryState.WAITING,
        updated_at=NOW,
    )


async def test_the_oldest_of_each_webhook_are_dropped(bus: Bus) -> None:
    log = DeliveryLog(bus, kept=5, trim_every=4)
    await log.change("wh-other", "ev-0", lambda _: record("wh-other", 0))
    for n in range(12):
        await log.change("wh-1", f"ev-{n}", lambda _, n=n: record("wh-1", n))  # type: ignore[misc]  # binds n
    assert [found.event_id for found in await log.all_of("wh-1")] == [
        f"ev-{n}" for n in range(7, 12)
    ]
    assert [found.event_id for found in await log.all_of("wh-other")] == ["ev-0"]
    await log.forget("wh-1")
    assert await log.all_of("wh-1") == []
    assert await log.find("wh-other", "ev-0") is not None


async def test_no_change_is_lost_when_several_write(bus: Bus) -> None:
    logs = [DeliveryLog(bus) for _ in range(3)]

    def count(old: DeliveryRecord | None) -> DeliveryRecord:
        return record("wh-1", 1, old.event_sequence + 1 if old else 1)

    await asyncio.gather(*(log.change("wh-1", "ev-1", count) for log in logs))
    found = await logs[0].find("wh-1", "ev-1")
    assert found is not None
    assert found.event_sequence == 3


async def test_more_than_a_page_is_read(bus: Bus) -> None:
    log = DeliveryLog(bus)
    await asyncio.gather(
        *(
            log.change("wh-1", f"ev-{n}", lambda _, n=n: record("wh-1", n))  # type: ignore[misc]  # binds n
            for n in range(300)
        )
    )
    assert len({found.event_id for found in await log.all_of("wh-1")}) == 300
