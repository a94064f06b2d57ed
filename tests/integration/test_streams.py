"""The table of streams against a real nats-server."""

import asyncio
import logging
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.errors import BusRefusedError
from penstock_common.nats.streams import STREAMS, check_durability, ensure_streams, ticket_consumer
from tests.support.bus import connected
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = pytest.mark.nats


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(r, "action", "") for r in caplog.records if r.name.endswith("streams")]


async def test_every_stream_is_made_as_declared(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        for declared in STREAMS:
            answer = await bus.api(f"STREAM.INFO.{declared['name']}")
            config = answer["config"]
            assert {k: config.get(k) for k in declared} == dict(declared)
            assert config["num_replicas"] == 1
            assert config["max_consumers"] > 1000  # a 2.15 server's own limit


async def test_a_second_time_changes_nothing(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        caplog.set_level(logging.INFO)
        await ensure_streams(bus)
        assert actions(caplog) == []


async def test_services_that_start_at_once_do_not_disturb_one_another(
    nats_server: NatsServer,
) -> None:
    async with (
        connected(nats_server.url) as one,
        connected(nats_server.url) as two,
        connected(nats_server.url) as three,
    ):
        await asyncio.gather(*(ensure_streams(bus) for bus in (one, two, three)))
        assert (await one.api("STREAM.NAMES"))["total"] == len(STREAMS)


async def test_a_stream_that_differs_is_brought_to_the_table(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        await bus.api(
            f"STREAM.CREATE.{subjects.EVENTS}",
            {
                "name": subjects.EVENTS,
                "subjects": [subjects.EVENTS_ALL],
                "max_consumers": 20_000,
                "max_age": 3_600_000_000_000,
                "description": "an operator's note",
            },
        )
        caplog.set_level(logging.INFO)
        await ensure_streams(bus, may_change=True)
        assert "stream_changed" in actions(caplog)
        config = (await bus.api(f"STREAM.INFO.{subjects.EVENTS}"))["config"]
        assert config["max_age"] == 7 * 24 * 3600 * 1_000_000_000
        assert config["description"] == "an operator's note"


async def test_a_stream_that_cannot_be_changed_is_told_and_used(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        await bus.api(
            f"STREAM.CREATE.{subjects.TICKETS}",
            {"name": subjects.TICKETS, "subjects": [subjects.TICKETS_ALL], "storage": "file"},
        )
        await ensure_streams(bus, may_change=True)
        assert "stream_update_refused" in actions(caplog)
        await bus.store(subjects.tickets("ep-1"), b"")


async def test_replicas_that_one_server_cannot_give_are_refused(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        with pytest.raises(BusRefusedError, match="KV_PENSTOCK_ENDPOINTS"):
            await ensure_streams(bus, replicas=3, may_change=True)


async def test_a_thousand_endpoints_each_get_a_consumer(nats_server: NatsServer) -> None:
    """The server's own limit is 1,000 consumers a stream (engineering.md, fact 1)."""
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        for start in range(0, 1100, 100):
            await asyncio.gather(
                *(
                    bus.api(
                        f"CONSUMER.CREATE.{subjects.TICKETS}.{subjects.tickets_consumer(e)}"
                        f".{subjects.tickets(e)}",
                        {"stream_name": subjects.TICKETS, "config": ticket_consumer(e)},
                        timeout_s=60,
                    )
                    for e in (f"ep-{i}" for i in range(start, start + 100))
                )
            )
        info = await bus.api(f"STREAM.INFO.{subjects.TICKETS}")
        assert info["state"]["consumer_count"] == 1100


async def test_a_ticket_expires(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        await bus.store(subjects.tickets("ep-1"), b"", headers={"Nats-TTL": "1s"})
        deadline = asyncio.get_running_loop().time() + 60
        while (await bus.api(f"STREAM.INFO.{subjects.TICKETS}"))["state"]["messages"]:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)


async def durability_of(folder: Path, *, sync: bool) -> None:
    server = NatsServer(folder, sync=sync)
    server.start()
    try:
        async with connected(server.url) as bus:
            await check_durability(bus, server.monitor_url + "/")
    finally:
        server.stop()


async def test_a_server_that_syncs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await durability_of(tmp_path / "nats", sync=True)
    assert actions(caplog) == ["durability_synced"]


async def test_a_server_that_does_not_sync_is_told_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await durability_of(tmp_path / "nats", sync=False)
    records = [r for r in caplog.records if getattr(r, "action", "") == "durability_not_synced"]
    assert [r.levelno for r in records] == [logging.WARNING]
    assert records[0].sync_interval_s == 120  # type: ignore[attr-defined]  # from extra


async def test_a_server_that_cannot_be_asked_is_told_loudly(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(nats_server.url) as bus:
        await check_durability(bus, None)
        await check_durability(bus, f"http://127.0.0.1:{free_port()}")
        await check_durability(bus, "no url")
        await check_durability(bus, nats_server.url.replace("nats:", "http:"))
    assert actions(caplog) == ["durability_unknown"] * 4
