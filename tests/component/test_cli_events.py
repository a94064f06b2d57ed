"""`penstock events`, and the client below it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock_client.client import PenstockClient
from penstock_client.documents import EventDocument, EventGapDocument
from penstock_client.errors import ApiError
from penstock_common import subjects
from tests.support.api_events import assigned, drained, stored, tell
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.commands import command, run
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


def client_of(api: ApiServer) -> PenstockClient:
    return PenstockClient(api.url, ADMIN_KEY)


# ---- the client


async def test_past_events_are_read_in_order_and_filtered(api: ApiServer) -> None:
    await tell(api, drained(1), assigned("wk-1", "ep-1"), drained(2))
    async with client_of(api) as client:
        found = [e.raw["subject"] async for e in client.events.follow(until_now=True)]
        assert found == ["node-1", "wk-1", "node-2"]
        chosen = client.events.follow(
            types=["penstock.node.drained", "penstock.endpoint."],
            since=CLOCK.utc() - timedelta(hours=1),
            until_now=True,
        )
        assert [e.raw["subject"] async for e in chosen] == ["node-1", "node-2"]
        last = client.events.follow(node="node-a", tail=5, until_now=True)
        assert [e.raw["subject"] async for e in last] == ["wk-1"]


async def test_the_list_is_one_though_it_comes_in_pages(api: ApiServer) -> None:
    await tell(api, *[drained(n) for n in range(5)])
    async with client_of(api) as client:
        listed = client.events.list(types=["penstock.node."], page_size=2)
        assert [event.subject async for event in listed] == [f"node-{n}" for n in (4, 3, 2, 1, 0)]
        assert [len(page.events) async for page in listed.pages()] == [2, 2, 1]


async def test_a_follower_outlives_the_api_without_loss_or_repetition(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "one") as api:
        port = api.settings.port
        client = client_of(api)
        await client.__aenter__()
        events = client.events.follow(tail=1)
        await tell(api, drained(1))
        assert await anext(events) == await anext(client.events.follow(tail=1))
    waiting = asyncio.ensure_future(anext(events))
    async with running_api(nats_server, tmp_path / "two", port=port) as api:
        await tell(api, drained(2), drained(3))
        async with asyncio.timeout(60):
            found = [await waiting, await anext(events)]
        assert [e.subject for e in found if isinstance(e, EventDocument)] == ["node-2", "node-3"]
        await events.aclose()
        await client.__aexit__(None, None, None)


async def test_what_is_missing_comes_as_a_document(api: ApiServer) -> None:
    await tell(api, drained(1), drained(2))
    await api.bus.api(f"STREAM.PURGE.{subjects.EVENTS}", {"seq": 2})
    async with client_of(api) as client:
        since = CLOCK.utc() - timedelta(days=1)
        entries = [e async for e in client.events.follow(since=since, until_now=True)]
    assert isinstance(entries[0], EventGapDocument)
    assert entries[1].raw["subject"] == "node-2"


async def test_what_the_api_refuses_is_raised(api: ApiServer) -> None:
    async with client_of(api) as client:
        with pytest.raises(ApiError, match="none"):
            await anext(client.events.follow(endpoint="none"))


# ---- the command


async def test_events_are_printed_a_line_each(api: ApiServer) -> None:
    made = await api.create()
    await eventually(lambda: stored(api))
    await tell(api, assigned("wk-1", made["id"]), drained(1))

    code, out, err = await run(api, "events", "--endpoint", "echo")
    assert (code, err) == (0, "")
    assert [line[22:].split() for line in out.splitlines()] == [
        ["endpoint.created", "echo", "is", "created:", "acme/echo"],
        ["worker.assigned", *["wk-1", "of", "echo", "is", "to", "start", "on", "node-a"]],
    ]
    assert await run(api, "events", "--node", "node-7") == (0, "", "nothing to show\n")
    code, out, _ = await run(api, "events", "--type", "node.", "--since", "1h", "--json")
    assert [json.loads(line)["subject"] for line in out.splitlines()] == ["node-1"]
    assert code == 0


async def test_it_follows_until_it_is_left(api: ApiServer) -> None:
    await tell(api, drained(1))
    process = await command(api, "events", "--follow", "--tail", "1", "--json")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["subject"] == "node-1"
        await tell(api, drained(2))
        assert json.loads(await process.stdout.readline())["subject"] == "node-2"
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


REFUSED = [
    (("--endpoint", "none"), 5, "none"),
    (("--type", "worker"), 1, "penstock.worker."),
    (("--since", "soon"), 2, "write how long ago"),
    (("--since", "1h", "--tail", "1"), 2, "not both"),
]


async def test_what_cannot_be_shown_is_said(api: ApiServer) -> None:
    for arguments, code, told in REFUSED:
        ended, out, err = await run(api, "events", *arguments)
        assert (arguments, ended, out) == (arguments, code, "")
        assert told in err
