"""Lines of workers over HTTP: as they come, resumed, cut short, and ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock_client.sse import ServerEvent
from penstock_common import subjects
from penstock_common.errors import PenstockError
from penstock_common.log_stream import LogStream
from penstock_common.messages import LogGap
from penstock_common.nats.kv import Bucket
from penstock_common.states import WorkerState
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.api_streams import Stream, read, streamed
from tests.support.log_writer import writer_of
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def texts(stream: Stream, count: int) -> list[str]:
    return [json.loads((await stream.next()).data)["text"] for _ in range(count)]


def path_of(worker_id: str | None = "wk-1", query: str = "") -> str:
    middle = f"/workers/{worker_id}" if worker_id else ""
    return f"/v1/endpoints/echo{middle}/logs{query}"


def shown(events: list[ServerEvent]) -> list[Any]:
    """Texts of lines, numbers of missing ones, and the word at the end."""
    found: list[Any] = []
    for event in events:
        data = json.loads(event.data)
        match event.name:
            case "line":
                found.append(data["text"])
            case "missing":
                found.append((data["why"], data["n"], data["last"]))
            case _:
                found.append(data["why"])
    return found


async def test_a_living_worker_s_lines_come_as_they_are_written(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one", "two")
    async with streamed(api, path_of()) as stream:
        assert await texts(stream, 2) == ["one", "two"]
        await writer.write("three")
        event = await stream.next()
        line = json.loads(event.data)
        assert (event.name, event.id) == ("line", f"{writer.sequence}.3")
        assert (line["text"], line["n"], line["stream"]) == ("three", 3, "stdout")
        assert (line["worker_id"], line["cut"]) == ("wk-1", False)
        await writer.write("four", ended=True)
        await writer.say(WorkerState.FAILED)

        assert shown(await stream.rest()) == ["four", "ended"]


async def test_a_worker_that_is_gone_is_read_from_the_stream(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.write("one", ended=True)

    assert shown(await read(api, path_of())) == ["one", "ended"]


async def test_a_reader_goes_on_behind_the_last_id_within_a_batch(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.write("one", "two", "three")
    await writer.write("four", ended=True)
    first, *_ = await read(api, path_of())

    again = await read(api, path_of(), Last_Event_ID=first.id)

    assert shown(again) == ["two", "three", "four", "ended"]
    assert shown(await read(api, path_of(), Last_Event_ID=again[2].id)) == ["ended"]


async def test_a_resumed_reader_is_told_what_the_stream_dropped_meanwhile(api: ApiServer) -> None:
    writer = await writer_of(api)
    for text in ("one", "two", "three", "four"):
        await writer.write(text)
    first, *_ = await read(api, path_of(query="?follow=false"))
    await LogStream(api.bus).keep(writer.endpoint_id, "wk-1", 1)

    again = await read(api, path_of(query="?follow=false"), Last_Event_ID=first.id)

    assert shown(again) == [("dropped", 2, 3), "four", "caught_up"]


async def test_a_resumed_reader_outlives_a_stream_made_anew(api: ApiServer) -> None:
    writer = await writer_of(api)
    for text in ("one", "two", "three"):
        await writer.write(text)
    last = (await read(api, path_of(query="?follow=false")))[-2]
    await api.bus.api(f"STREAM.DELETE.{subjects.LOGS}")
    api.bus.ensure_soon()
    await api.bus.api(
        f"STREAM.CREATE.{subjects.LOGS}",
        {"name": subjects.LOGS, "subjects": [subjects.LOGS_ALL], "allow_direct": True},
    )
    await writer.write("four", ended=True)

    assert shown(await read(api, path_of(), Last_Event_ID=last.id)) == ["four", "ended"]


async def test_missing_lines_are_said(api: ApiServer) -> None:
    writer = await writer_of(api)
    at = CLOCK.utc()
    writer.next_n = 11  # the first ten were dropped long ago
    await writer.write("eleven")
    await writer.batch(LogGap(n=12, last=20, at=at, why="too_fast"))
    writer.next_n = 25  # acknowledged, and lost with the server
    await writer.write("twenty-five")
    await writer.batch(LogGap(n=26, last=26, at=at, why="rotated"), ended=True)

    events = await read(api, path_of())

    assert shown(events) == [
        ("dropped", 1, 10),
        "eleven",
        ("too_fast", 12, 20),
        ("dropped", 21, 24),
        "twenty-five",
        ("rotated", 26, 26),
        "ended",
    ]
    assert [json.loads(events[n].data)["lines"] for n in (0, 2, 5)] == [10, 9, None]


async def test_a_batch_that_was_stored_twice_is_shown_once(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.write("one", "two")
    batch = (await LogStream(api.bus).after(0, writer.endpoint_id)).batches[0].batch
    await api.bus.store(subjects.logs(writer.endpoint_id, "wk-1"), batch.encode())
    await writer.write("three", ended=True)

    assert shown(await read(api, path_of())) == ["one", "two", "three", "ended"]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (0, []),
        (1, ["five"]),
        (3, ["three", "four", "five"]),
        (5, ["one", "two", "three", "four", "five"]),
        (9, ["one", "two", "three", "four", "five"]),
    ],
)
async def test_a_tail_begins_with_the_last_lines(
    api: ApiServer, tail: int, expected: list[str]
) -> None:
    writer = await writer_of(api)
    await writer.write("one", "two")
    await writer.write("three")
    await writer.write("four", "five")
    other = await writer_of(api, "wk-2")
    await other.write("other")

    events = await read(api, path_of(query=f"?tail={tail}&follow=false"))

    assert shown(events) == [*expected, "caught_up"]


async def test_all_workers_of_an_endpoint_are_read_together(api: ApiServer) -> None:
    one, two = await writer_of(api), await writer_of(api, "wk-2")
    stranger = await writer_of(api, "wk-3", app="other")
    await one.write("a1")
    await stranger.write("not ours")
    await two.write("b1", "b2")
    await one.write("a2")

    events = await read(api, path_of(None, "?follow=false"))
    assert shown(events) == ["a1", "b1", "b2", "a2", "caught_up"]
    assert json.loads(events[1].data)["worker_id"] == "wk-2"
    again = await read(api, path_of(None, "?follow=false"), Last_Event_ID=events[1].id)
    assert shown(again) == ["b2", "a2", "caught_up"]
    last = await read(api, path_of(None, "?follow=false&tail=2"))
    assert shown(last) == ["b2", "a2", "caught_up"]


async def test_a_deleted_endpoint_ends_the_stream_of_its_lines(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.write("one")
    async with streamed(api, path_of(None)) as stream:
        assert await texts(stream, 1) == ["one"]
        await Bucket(api.bus, subjects.ENDPOINTS).delete(writer.endpoint_id)

        assert shown(await stream.rest()) == ["deleted"]


async def test_a_worker_whose_node_says_no_more_ends_as_gone(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.log_reader.GONE_S", 0.1)
    writer = await writer_of(api)
    await writer.write("one")

    assert shown(await read(api, path_of())) == ["one", "gone"]


async def test_plain_text_is_the_bare_lines(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.write("one", "zwei ü")
    await writer.batch(LogGap(n=3, last=5, at=CLOCK.utc(), why="too_fast"), ended=True)
    async with streamed(api, path_of(), Accept="text/plain") as stream:
        assert stream.answer.content_type == "text/plain"
        text = await stream.answer.text()
    assert text == ("one\nzwei ü\n--- 3 lines are missing: written faster than they are kept ---\n")
    async with streamed(api, path_of(None), Accept="text/plain") as stream:
        assert (await stream.answer.text()).startswith("wk-1 one\nwk-1 zwei ü\n")


@pytest.mark.parametrize(
    ("path", "headers", "status", "reason"),
    [
        (path_of("wk-none"), {}, 404, "worker_not_found"),
        (path_of("*"), {}, 404, "worker_not_found"),
        ("/v1/endpoints/none/workers/wk-1/logs", {}, 404, "endpoint_not_found"),
        ("/v1/endpoints/none/logs", {}, 404, "endpoint_not_found"),
        (path_of(query="?tail=-1"), {}, 400, "wrong_parameter"),
        (path_of(query="?tail=99999"), {}, 400, "wrong_parameter"),
        (path_of(query="?follow=yes"), {}, 400, "wrong_parameter"),
        (path_of(), {"Last-Event-ID": "7"}, 400, "wrong_parameter"),
    ],
)
async def test_what_cannot_be_streamed_is_refused(
    api: ApiServer, path: str, headers: dict[str, str], status: int, reason: str
) -> None:
    await (await writer_of(api)).write("one")

    answer = await api.ask("GET", path, headers=headers)

    assert (answer.status, answer.document["reason"]) == (status, reason)


async def test_a_key_is_needed(api: ApiServer) -> None:
    await (await writer_of(api)).write("one")

    assert (await api.ask("GET", path_of(), key=None)).status == 401
    assert (await api.ask("GET", path_of(), key="x" * 30)).status == 401
    assert (await api.ask("HEAD", path_of())).status == 200


async def subscriptions(api: ApiServer) -> int:
    """How many subscriptions of the api the server holds on subjects of lines."""
    url = f"{api.nats.monitor_url}/connz?subs=1"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        connections = (await answer.json())["connections"]
    return sum(
        subject.startswith(f"{subjects.PREFIX}.logs.")
        for connection in connections
        for subject in connection.get("subscriptions_list") or ()
    )


async def test_a_client_that_hangs_up_leaves_nothing_behind(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one")
    async with streamed(api, path_of()) as stream:
        assert await texts(stream, 1) == ["one"]
        assert await subscriptions(api) == 1

    async def freed() -> bool:
        return await subscriptions(api) == 0

    await eventually(freed)
    consumers = await api.bus.api(f"CONSUMER.NAMES.{subjects.LOGS}")
    assert not consumers.get("consumers")


async def test_a_client_that_reads_nothing_is_cut_off(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.routes.streaming.WRITE_TIMEOUT_S", 0.2)
    writer = await writer_of(api)
    await writer.assign()
    for _ in range(60):  # more than the kernel holds for a connection
        await writer.write("x" * 400_000)
    reader, socket = await asyncio.open_connection("127.0.0.1", api.settings.port, limit=1)
    request = f"GET {path_of()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\r\n"
    socket.write(request.encode())
    assert await reader.readexactly(12) == b"HTTP/1.1 200"

    async def freed() -> bool:
        return await subscriptions(api) == 0

    await eventually(freed)
    socket.transport.abort()


async def test_an_api_that_stops_does_not_wait_for_its_readers(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api", shutdown_timeout_s=600) as api:
        writer = await writer_of(api)
        await writer.assign()
        await writer.write("one")
        async with streamed(api, path_of()) as stream:
            assert await texts(stream, 1) == ["one"]
            api.stopping.set()

            assert await stream.rest() == []  # no end: there may be more to come


async def test_a_reader_outlives_a_restart_of_nats(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one")
    async with streamed(api, path_of()) as stream:
        assert await texts(stream, 1) == ["one"]
        api.nats.kill()
        api.nats.start()

        async def written() -> bool:
            try:
                await writer.write("two")
            except PenstockError:
                writer.next_n = 2
                return False
            return True

        await eventually(written)
        assert await texts(stream, 1) == ["two"]


async def test_too_many_readers_are_refused(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.app.MAX_STREAMS", 1)
    async with running_api(nats_server, tmp_path / "api") as api:
        writer = await writer_of(api)
        await writer.assign()
        await writer.write("one")
        async with streamed(api, path_of()) as stream:
            assert await texts(stream, 1) == ["one"]
            answer = await api.ask("GET", path_of())
            assert (answer.status, answer.document["reason"]) == (503, "too_many_streams")
