"""Events over HTTP: as they happen, filtered, resumed, and the newest as a list."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from penstock_client.documents import EventList
from penstock_client.sse import ServerEvent
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, Service
from penstock_common.events.examples import ENDPOINT_ID, EXAMPLES
from penstock_common.messages import NodeDrained
from tests.support.api_events import assigned, drained, stored, tell
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.api_streams import Stream, read, streamed
from tests.support.cloud_events import read_json
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

JSON = {"Accept": "application/json"}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


def shown(events: list[ServerEvent]) -> list[Any]:
    """What events are about, and why some are missing or no more come."""
    found = []
    for event in events:
        data = json.loads(event.data)
        found.append(data["subject"] if event.name == "message" else data["why"])
    return found


async def about(stream: Stream, count: int) -> list[Any]:
    return shown([await stream.next() for _ in range(count)])


def all_of(query: str = "") -> str:
    return f"/v1/events?follow=false{query}"


async def test_what_happens_comes_as_it_does(api: ApiServer) -> None:
    await tell(api, drained(0))
    async with streamed(api, "/v1/events") as stream:
        await stream.begun()
        made = await api.create()
        event = await stream.next()
        told = json.loads(event.data)
        assert event.name == "message"
        assert int(event.id) > int(stream.last_id) - 1
        assert (told["type"], told["subject"]) == ("penstock.endpoint.created", made["id"])
        assert (told["source"], told["endpointid"]) == ("/penstock/api", made["id"])
        assert (told["specversion"], told["data"]["app_name"]) == ("1.0", "echo")
        await tell(api, drained(1))
        assert await about(stream, 1) == ["node-1"]


async def test_without_following_everything_that_is_kept_is_shown(api: ApiServer) -> None:
    await tell(api, *[row.of(EXAMPLES[name]) for name, row in CATALOGUE.items()])
    events = await read(api, all_of())
    assert [json.loads(e.data)["type"] for e in events[:-1]] == list(CATALOGUE)
    assert [e.id for e in events[:-1]] == [str(n + 1) for n in range(len(CATALOGUE))]
    for event, (name, example) in zip(events, EXAMPLES.items(), strict=False):
        assert read_json(event.data) == (CATALOGUE[name], example)
    assert (events[-1].name, shown(events)[-1]) == ("end", "caught_up")


FILTERS: list[tuple[str, list[str]]] = [
    ("&endpoint=echo", ["ep", "wk-1", "wk-2"]),
    ("&endpoint=ep-5v2k8q0d3m7xa", ["wk-9"]),
    ("&endpoint=ep-0000000000000", []),
    ("&node=node-b", ["wk-2", "node-b"]),
    ("&type=penstock.worker.", ["wk-1", "wk-9", "wk-2"]),
    ("&type=penstock.node.drained", ["node-b"]),
    ("&type=penstock.node.drained&type=penstock.endpoint.", ["ep", "node-b"]),
    ("&type=penstock.worker.assigned&endpoint=echo", ["wk-1", "wk-2"]),
    ("&type=penstock.worker.&node=node-b&endpoint=echo", ["wk-2"]),
    ("&type=penstock.node.&node=node-b", ["node-b"]),
    ("&type=penstock.node.&endpoint=echo", []),
    ("&tail=2", ["wk-2", "node-b"]),
    ("&tail=1&endpoint=echo", ["wk-2"]),
    ("&tail=0", []),
    ("&tail=99", ["ep", "wk-1", "wk-9", "wk-2", "node-b"]),
]


async def test_events_are_found_by_what_they_concern(api: ApiServer) -> None:
    made = await api.create()
    await eventually(lambda: stored(api))
    await tell(
        api,
        assigned("wk-1", made["id"]),
        assigned("wk-9", ENDPOINT_ID),
        assigned("wk-2", made["id"], "node-b"),
        CATALOGUE["penstock.node.drained"].of(NodeDrained(node_id="node-b")),
    )
    for query, expected in FILTERS:
        found = shown(await read(api, all_of(query)))
        wanted = [made["id"] if e == "ep" else e for e in expected]
        assert (query, found) == (query, [*wanted, "caught_up"])


async def test_a_deleted_endpoint_is_asked_about_by_its_id(api: ApiServer) -> None:
    await tell(api, assigned("wk-1", ENDPOINT_ID))
    assert shown(await read(api, all_of(f"&endpoint={ENDPOINT_ID}"))) == ["wk-1", "caught_up"]


async def test_what_was_told_before_an_instant_is_left_out(api: ApiServer) -> None:
    await tell(api, drained(1), drained(2))
    message = await api.bus.request(
        f"$JS.API.DIRECT.GET.{subjects.EVENTS}", json.dumps({"seq": 2}).encode()
    )
    stored_at = message.headers["Nats-Time-Stamp"][:26] + "Z"
    assert shown(await read(api, all_of(f"&since={stored_at}"))) == ["node-2", "caught_up"]
    later = (CLOCK.utc() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert shown(await read(api, all_of(f"&since={later}"))) == ["caught_up"]
    assert shown(await read(api, all_of("&since=2020-01-01")))[:2] == ["node-1", "node-2"]


async def test_a_reader_goes_on_behind_its_last_id(api: ApiServer) -> None:
    await tell(api, drained(1), drained(2), drained(3))
    first, *_ = await read(api, all_of())
    again = await read(api, all_of("&tail=1"), Last_Event_ID=first.id)
    assert shown(again) == ["node-2", "node-3", "caught_up"]


async def test_a_reader_to_whom_nothing_was_shown_goes_on_where_it_was(api: ApiServer) -> None:
    await tell(api, drained(1))
    async with streamed(api, "/v1/events?type=penstock.worker.") as stream:
        await stream.begun()
    await tell(api, assigned("wk-1", ENDPOINT_ID))
    async with streamed(
        api, "/v1/events?type=penstock.worker.", Last_Event_ID=stream.last_id
    ) as stream:
        assert await about(stream, 1) == ["wk-1"]


async def test_a_sign_of_life_tells_the_position(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.routes.streaming.HEARTBEAT_S", 0.0)
    async with streamed(api, "/v1/events") as stream:
        received = b""
        while b": alive" not in received:
            received += await stream.answer.content.readany()
    assert received.startswith(b"id: 0\n\nid: 0\n: alive\n\n")


async def test_what_the_stream_does_not_keep_any_more_is_said(api: ApiServer) -> None:
    await tell(api, *[drained(n) for n in range(1, 6)])
    await api.bus.api(f"STREAM.PURGE.{subjects.EVENTS}", {"seq": 4})

    events = await read(api, all_of(), Last_Event_ID="1")
    assert shown(events) == ["expired", "node-4", "node-5", "caught_up"]
    assert json.loads(events[0].data) == {"first": 2, "last": 3, "why": "expired"}
    assert shown(await read(api, all_of("&since=2020-01-01")))[0] == "expired"
    # Who has seen up to there misses nothing; neither does who only wants the rest.
    assert shown(await read(api, all_of(), Last_Event_ID="3"))[0] == "node-4"
    assert shown(await read(api, all_of()))[0] == "node-4"


async def renew_stream(api: ApiServer) -> None:
    await api.bus.api(f"STREAM.DELETE.{subjects.EVENTS}")
    declared = {"name": subjects.EVENTS, "subjects": [subjects.EVENTS_ALL], "allow_direct": True}
    await api.bus.api(f"STREAM.CREATE.{subjects.EVENTS}", declared)


async def test_a_resumed_reader_is_told_that_the_stream_is_another(api: ApiServer) -> None:
    await tell(api, drained(1), drained(2))
    await renew_stream(api)
    await tell(api, drained(3))
    events = await read(api, all_of(), Last_Event_ID="2")
    assert shown(events) == ["renewed", "node-3", "caught_up"]


async def test_a_reader_outlives_a_restart_of_nats_without_loss_or_repetition(
    api: ApiServer,
) -> None:
    async with streamed(api, "/v1/events?type=penstock.node.") as stream:
        await stream.begun()
        await tell(api, drained(1))
        assert await about(stream, 1) == ["node-1"]
        for n in (2, 3):
            api.nats.kill()
            api.nats.start()
            await tell(api, drained(n))
            assert await about(stream, 1) == [f"node-{n}"]


async def test_a_reader_notices_that_nats_came_back_empty_handed(api: ApiServer) -> None:
    await tell(api, drained(1), drained(2), drained(3))
    async with streamed(api, "/v1/events?tail=1") as stream:
        assert await about(stream, 1) == ["node-3"]
        await renew_stream(api)
        api.nats.kill()
        api.nats.start()
        await tell(api, drained(4))
        assert await about(stream, 2) == ["renewed", "node-4"]


REFUSED: list[tuple[str, int, str]] = [
    ("endpoint=none", 404, "none"),
    ("node=a.*", 400, "is no id of a node"),
    ("type=penstock.worker", 400, "penstock.worker."),
    ("type=penstock.worker.exploded", 400, "penstock.worker.failed"),
    ("tail=-1", 400, "tail is a number up to 1000"),
    ("follow=yes", 400, "follow is true or false"),
    ("since=10m", 400, "since is a date"),
]


async def test_what_cannot_be_streamed_is_refused(api: ApiServer) -> None:
    for query, status, detail in REFUSED:
        answer = await api.ask("GET", f"/v1/events?{query}")
        assert (query, answer.status) == (query, status)
        assert detail in answer.document["detail"]
    answer = await api.ask("GET", "/v1/events", headers={"Last-Event-ID": "7.1"})
    assert (answer.status, answer.document["reason"]) == (400, "wrong_parameter")


async def test_a_key_that_may_read_is_needed(api: ApiServer) -> None:
    assert (await api.ask("GET", "/v1/events", key=None)).status == 401
    for scope, status in (("read", 200), ("deploy", 200), ("invoke", 403)):
        made = await api.ask("POST", "/v1/api-keys", {"name": scope, "scope": scope})
        key = made.document["key"]
        assert (await api.ask("HEAD", "/v1/events", key=key)).status == status


async def test_too_many_readers_are_refused(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.app.MAX_STREAMS", 1)
    async with running_api(nats_server, tmp_path / "api") as api:
        async with streamed(api, "/v1/events") as stream:
            await stream.begun()
            answer = await api.ask("GET", "/v1/events")
            assert (answer.status, answer.document["reason"]) == (503, "too_many_streams")
        await eventually(lambda: _is_free(api))


async def _is_free(api: ApiServer) -> bool:
    return (await api.ask("HEAD", "/v1/events")).status == 200


async def test_what_is_no_event_is_skipped(api: ApiServer) -> None:
    await tell(api, drained(1))
    await api.bus.store(f"{subjects.PREFIX}.events.node.x.drained", b"no event")
    await tell(api, drained(2))
    assert shown(await read(api, all_of())) == ["node-1", "node-2", "caught_up"]


# ---- the list


async def page(api: ApiServer, query: str = "") -> EventList:
    answer = await api.ask("GET", f"/v1/events{query}", headers=JSON)
    assert answer.status == 200, answer.document
    return EventList.of(answer.document)


async def test_the_newest_come_first_page_by_page(api: ApiServer) -> None:
    await tell(api, *[drained(n) for n in range(1, 6)])
    seen, cursor = [], ""
    for _ in range(3):
        found = await page(api, f"?limit=2{cursor}")
        seen.append([event.subject for event in found.events])
        await tell(api, assigned("wk-1", ENDPOINT_ID))  # what comes meanwhile moves nothing
        cursor = f"&cursor={found.next_cursor}"
    assert seen == [["node-5", "node-4"], ["node-3", "node-2"], ["node-1"]]
    assert cursor == "&cursor=None"
    assert [e.subject for e in (await page(api, "?type=penstock.worker.&limit=1")).events] == [
        "wk-1"
    ]


async def test_the_newest_are_found_however_far_back_they_lie(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.event_reader._FIRST_LOOK", 2)
    monkeypatch.setattr("penstock_api.event_reader._LOOK_GROWTH", 2)
    await tell(api, assigned("wk-1", ENDPOINT_ID, "node-b"), assigned("wk-2", ENDPOINT_ID))
    await tell(api, *[drained(n) for n in range(20)])
    await tell(api, assigned("wk-3", ENDPOINT_ID, "node-b"))
    found = await page(api, f"?endpoint={ENDPOINT_ID}&node=node-b")
    assert [event.subject for event in found.events] == ["wk-3", "wk-1"]
    assert found.next_cursor is None
    assert shown(await read(api, all_of(f"&endpoint={ENDPOINT_ID}&tail=2")))[:2] == ["wk-2", "wk-3"]


async def test_a_page_ends_where_enough_was_read_and_the_next_goes_on(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_api.event_reader._FIRST_LOOK", 4)
    monkeypatch.setattr("penstock_api.event_reader.MAX_READ", 8)
    await tell(api, assigned("wk-1", ENDPOINT_ID, "node-b"))
    await tell(api, *[assigned("wk-x", ENDPOINT_ID) for _ in range(20)])
    sizes, cursor = [], ""
    while "None" not in cursor:
        found = await page(api, f"?node=node-b{cursor}")
        sizes.append([event.subject for event in found.events])
        cursor = f"&cursor={found.next_cursor}"
    assert sizes == [[], ["wk-1"]]
    assert shown(await read(api, all_of("&node=node-b&tail=1")))[0] == "wk-1"


async def test_a_list_since_an_instant_has_what_was_told_later(api: ApiServer) -> None:
    await tell(api, drained(1))
    assert len((await page(api, "?since=2020-01-01")).events) == 1
    later = (CLOCK.utc() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert (await page(api, f"?since={later}")).events == ()


async def test_an_empty_stream_is_an_empty_list(api: ApiServer) -> None:
    assert (await page(api)).raw == {"events": [], "next_cursor": None}


async def test_a_cursor_of_another_list_is_refused(api: ApiServer) -> None:
    await api.create()
    await api.create(name="other", app_name="other")
    cursor = (await api.ask("GET", "/v1/endpoints?limit=1")).document["next_cursor"]
    answer = await api.ask("GET", f"/v1/events?cursor={cursor}", headers=JSON)
    assert (answer.status, answer.document["reason"]) == (400, "wrong_parameter")


async def test_a_batch_of_cloud_events_links_to_the_next(api: ApiServer) -> None:
    await tell(api, *[drained(n) for n in range(1, 4)])
    headers = {
        "Accept": "application/cloudevents-batch+json",
        "Authorization": f"Bearer {ADMIN_KEY}",
    }
    seen, path = [], "/v1/events?limit=2&type=penstock.node.drained"
    async with aiohttp.ClientSession(api.url, headers=headers) as session:
        while path:
            async with session.get(path) as answer:
                assert answer.content_type == "application/cloudevents-batch+json"
                batch = json.loads(await answer.read())
                read = [read_json(event) for event in batch]
                seen.append([row.of(data).about for row, data in read])
                following = answer.links.get("next")
                path = yarl.URL(following["url"]).path_qs if following else ""
    assert seen == [["node-3", "node-2"], ["node-1"]]


async def test_events_of_the_api_itself_say_which_service_told_them(api: ApiServer) -> None:
    await api.create()
    await eventually(lambda: stored(api))
    (event,) = (await page(api)).events
    assert event.source == f"/penstock/{Service.API}"
