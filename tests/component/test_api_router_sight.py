"""A write of the api returns when the routers show it; the router is played."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock_api import router_sight
from penstock_common import subjects
from penstock_common.messages import RouterRecord, Sight
from penstock_common.nats.kv import Bucket
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

if TYPE_CHECKING:
    from penstock_common.nats.connection import Received

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def join(api: ApiServer, router_id: str) -> None:
    """It has a record, and the api was told."""
    record = RouterRecord(
        router_id=router_id,
        hostname="here",
        url="http://127.0.0.1:1",
        version="0",
        started_at=CLOCK.utc(),
        beat=1,
    )
    revision = await api.put(subjects.ROUTERS, router_id, record)

    async def is_told() -> bool:
        stream = subjects.kv_stream(subjects.ROUTERS)
        (watch,) = (await api.bus.api(f"CONSUMER.LIST.{stream}"))["consumers"]
        return bool(watch["delivered"]["stream_seq"] >= revision)

    await eventually(is_told)


async def listen(api: ApiServer, router_id: str) -> "asyncio.Queue[Received]":
    """What the api asks this router."""
    asked: asyncio.Queue[Received] = asyncio.Queue()
    await api.bus.subscribe(subjects.router_sight(router_id), asked.put_nowait)
    return asked


async def test_an_endpoint_is_made_only_when_every_router_shows_it(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_sight, "SIGHT_TIMEOUT_S", 60.0)
    slow, quick = await listen(api, "rt-slow"), await listen(api, "rt-quick")
    await join(api, "rt-slow")
    await join(api, "rt-quick")
    making = asyncio.create_task(api.create("echo"))
    first = 0
    for asked in (quick, slow):
        async with asyncio.timeout(60):
            question = await asked.get()
        sight = Sight.decode(question.data)
        entry = await Bucket(api.bus, subjects.ENDPOINTS).get(sight.key)
        assert entry is not None
        assert (sight.bucket, sight.revision) == (subjects.ENDPOINTS, entry.revision)
        first = sight.revision
        assert not making.done()
        api.bus.publish_nowait(question.reply, b"")
    made = await making
    assert await Bucket(api.bus, subjects.ENDPOINTS).get(made["id"]) is not None

    changing = asyncio.create_task(
        api.ask("PATCH", "/v1/endpoints/echo", {"env": {"COLOUR": "blue"}})
    )
    for asked in (quick, slow):
        async with asyncio.timeout(60):
            question = await asked.get()
        assert Sight.decode(question.data).revision > first
        assert not changing.done()
        api.bus.publish_nowait(question.reply, b"")
    assert (await changing).status == 200


async def test_routers_that_are_dead_or_silent_keep_nobody_waiting(api: ApiServer) -> None:
    asked = await listen(api, "rt-silent")
    await join(api, "rt-silent")
    await join(api, "rt-dead")  # a record, and nobody who listens
    made = await api.create("echo")
    async with asyncio.timeout(60):
        assert Sight.decode((await asked.get()).data).key == made["id"]
