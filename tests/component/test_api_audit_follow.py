"""The audit trail as it grows: over HTTP, by the client and by the command."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_api.audit import following
from penstock_api.audit.trail import Attempt, AuditTrail
from penstock_client.client import PenstockClient
from penstock_client.documents import AuditGapDocument, AuditRecordDocument
from penstock_client.sse import ServerEvent
from penstock_common import subjects
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, running_api
from tests.support.api_streams import Stream, read, streamed
from tests.support.commands import command, run
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

SSE = "text/event-stream"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def done(api: ApiServer, *names: str, key: str = "key-1") -> None:
    """Requests that were done, told apart by their ids."""
    trail = AuditTrail(api.bus, CLOCK)
    for name in names:
        async with trail.recorded(Attempt("a_b", "POST /v1/a", name, key, "", "")) as deed:
            deed.answered(200)


def told(event: ServerEvent) -> Any:
    data = json.loads(event.data)
    return data["request_id"] if event.name == "message" else data["why"]


async def about(stream: Stream, count: int) -> list[Any]:
    return [told(await stream.next()) for _ in range(count)]


async def kept(api: ApiServer, query: str = "", **headers: str) -> list[Any]:
    events = await read(api, f"/v1/audit?follow=false{query}", Accept=SSE, **headers)
    return [told(event) for event in events]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt is held back until its outcome is there, however long the machine takes for it."""
    monkeypatch.setattr(following, "HELD_BACK_S", 60.0)


@pytest.mark.usefixtures("patient")
async def test_a_change_comes_once_as_it_is_made(api: ApiServer) -> None:
    await done(api, "before")
    async with streamed(api, "/v1/audit", Accept=SSE) as stream:
        await stream.begun()
        made = await api.create("echo")
        event = await stream.next()
        record = json.loads(event.data)
        assert (event.name, record["action"], record["status"]) == (
            "message",
            "endpoints_create",
            201,
        )
        assert record["targets"] == [{"kind": "endpoint", "id": made["id"], "name": "echo"}]
        listed = (await api.ask("GET", "/v1/audit?limit=1")).document["records"]
        assert listed == [record], "in the very same form as in the list"
        await done(api, "later")
        assert await about(stream, 1) == ["later"]


async def test_what_takes_long_comes_as_attempted_and_again_with_its_outcome(
    api: ApiServer,
) -> None:
    async with streamed(api, "/v1/audit", Accept=SSE) as stream:
        await stream.begun()
        trail = AuditTrail(api.bus, CLOCK)
        async with trail.recorded(Attempt("a", "POST /v1/a", "slow", "key-1", "", "")) as deed:
            first = json.loads((await stream.next()).data)
            deed.answered(200)
        second = json.loads((await stream.next()).data)
    assert (first["status"], second["status"]) == (None, 200)
    assert first["id"] == second["id"]


async def test_where_it_begins_and_what_it_shows(api: ApiServer) -> None:
    await done(api, "one", "two")
    await done(api, "three", key="key-2")
    await done(api, "four")
    for query, expected in {
        "": ["one", "two", "three", "four"],
        "&tail=2": ["three", "four"],
        "&tail=0": [],
        "&tail=2&key=key-1": ["two", "four"],
        "&key=key-2": ["three"],
        "&action=none": [],
        "&since=2020-01-01": ["one", "two", "three", "four"],
        "&since=2999-01-01": [],
    }.items():
        assert (query, await kept(api, query)) == (query, [*expected, "caught_up"])
    for query in ("?tail=-1", "?follow=maybe", "?who=me", "?key=*"):
        answer = await api.ask("GET", f"/v1/audit{query}", headers={"Accept": SSE})
        assert (query, answer.status) == (query, 400)
    wrong = {"Accept": SSE, "Last-Event-ID": "x"}
    assert (await api.ask("GET", "/v1/audit", headers=wrong)).status == 400


async def test_who_comes_back_goes_on_and_hears_what_is_certainly_missing(api: ApiServer) -> None:
    await done(api, "one", "two")
    events = await read(api, "/v1/audit?follow=false", Accept=SSE)
    assert [told(event) for event in events] == ["one", "two", "caught_up"]
    await done(api, "three")
    assert await kept(api, Last_Event_ID=events[0].id) == ["two", "three", "caught_up"]
    # The attempt of "one" is gone, as its outcome took its place: nothing is missing.
    assert await kept(api, Last_Event_ID="0") == ["one", "two", "three", "caught_up"]
    assert await kept(api, Last_Event_ID="999") == ["renewed", "one", "two", "three", "caught_up"]
    await api.bus.api(f"STREAM.PURGE.{subjects.AUDIT}")
    assert await kept(api, Last_Event_ID=events[1].id) == ["expired", "caught_up"]
    assert (await api.ask("GET", "/v1/audit", headers={"Accept": SSE}, key="none")).status == 401


@pytest.mark.usefixtures("patient")
async def test_the_client_outlives_the_api_without_loss_or_repetition(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "one") as api:
        port = api.settings.port
        client = PenstockClient(api.url, ADMIN_KEY)
        await client.__aenter__()
        records = client.audit.follow(tail=1, key="key-1")
        await done(api, "one")
        assert (await anext(records)).raw["request_id"] == "one"
    waiting = asyncio.ensure_future(anext(records))
    async with running_api(nats_server, tmp_path / "two", port=port) as api:
        await done(api, "two", "three")
        async with asyncio.timeout(60):
            found = [await waiting, await anext(records)]
        assert [r.request_id for r in found if isinstance(r, AuditRecordDocument)] == [
            "two",
            "three",
        ]
        await records.aclose()
        await api.bus.api(f"STREAM.PURGE.{subjects.AUDIT}")
        past = [r async for r in client.audit.follow(until_now=True)]
        assert past == [], "who begins misses nothing"
        await client.__aexit__(None, None, None)


@pytest.mark.usefixtures("patient")
async def test_the_command_follows_until_it_is_left(api: ApiServer) -> None:
    await api.create("echo")
    process = await command(api, "audit", "echo", "--follow", "--last", "1")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
        assert "key-admin" in line
        assert "endpoints_create" in line
        assert (await api.ask("POST", "/v1/endpoints/echo/abort")).status == 409
        line = (await process.stdout.readline()).decode()
        assert [*line.split()[3:7], line.split()[-1]] == [
            *("endpoints_abort", "echo", "409", "no_canary"),
            "127.0.0.1",
        ]
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    for arguments, says in (
        (("--until", "2030-01-01"), "--until"),
        (("--since", "2020-01-01", "-n", "3"), "--since"),
        (("-n", "5000"), "1000"),
    ):
        code, out, err_text = await run(api, "audit", "--follow", *arguments)
        assert (code, out) == (2, "")
        assert says in err_text


def test_a_gap_is_told_in_a_sentence() -> None:
    gone = AuditGapDocument(first=1, last=2, why="expired")
    assert "missing" in gone.sentence
    assert "anew" in AuditGapDocument(first=None, last=None, why="renewed").sentence
