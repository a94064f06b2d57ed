"""Webhooks end to end: a real nats-server, the real api, a real HTTP receiver."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from penstock_api.webhooks.outbox import Outbox
from penstock_common import subjects
from penstock_common.events.cloud_event import STRUCTURED
from penstock_common.messages import WebhookRecord
from penstock_common.nats.kv import Bucket, Entry
from penstock_common.nats.stream_reader import StreamReader
from tests.support.api_server import ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.webhook_receiver import Receiver, Taken, running_receiver

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PATH = "/v1/webhooks"
SETTINGS = {
    "webhook_allowed_networks": "127.0.0.0/8",
    "webhook_retry_s": 0.05,
    # A receiver that hangs does so until its test lets it go.
    "webhook_timeout_s": 60.0,
}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api", **SETTINGS) as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as server:
        yield server


async def make(api: ApiServer, url: str, **fields: Any) -> dict[str, Any]:
    answer = await api.ask("POST", PATH, {"url": url, **fields})
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.document
    return made


async def deliveries(api: ApiServer, webhook_id: str, query: str = "") -> list[dict[str, Any]]:
    answer = await api.ask("GET", f"{PATH}/{webhook_id}/deliveries{query}")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.document["deliveries"]
    return found


async def becomes(api: ApiServer, webhook_id: str, event_id: str, **fields: Any) -> dict[str, Any]:
    """The delivery's document once these fields have these values."""

    async def is_so() -> dict[str, Any] | None:
        answer = await api.ask("GET", f"{PATH}/{webhook_id}/deliveries/{event_id}")
        found = answer.document
        fits = answer.status == 200 and all(found[k] == v for k, v in fields.items())
        return found if fits else None

    found = await eventually(is_so)
    assert found is not None
    return found


async def stored(api: ApiServer, webhook_id: str) -> Entry:
    entry = await Bucket(api.bus, subjects.WEBHOOKS).get(webhook_id)
    assert entry is not None
    return entry


async def until_stored(api: ApiServer, event_type: str, about: str) -> None:
    """Return once this event lies in the stream: it is published behind its request."""
    reader = StreamReader(api.bus, subjects.EVENTS)

    async def is_stored() -> bool:
        page = await reader.after(0, subjects.events("*", about))
        return any(m.headers["ce-type"] == event_type for m in page.messages)

    await eventually(is_stored)


async def test_an_event_is_delivered_signed_and_written_down(
    api: ApiServer, receiver: Receiver
) -> None:
    made = await make(api, f"{receiver.url}/hook?token=t", event_types=["penstock.endpoint."])
    endpoint = await api.create("echo")
    (taken,) = await receiver.until(1)

    assert taken.headers["Content-Type"] == f"{STRUCTURED}; charset=utf-8"
    assert taken.signed_with(made["secret"])
    event = taken.event
    assert (event["specversion"], event["type"]) == ("1.0", "penstock.endpoint.created")
    assert event["subject"] == event["endpointid"] == endpoint["id"]
    assert event["id"] == taken.id
    assert event["data"]["app_name"] == "echo"

    detail = await becomes(api, made["id"], taken.id, state="delivered")
    assert detail["event"] == event
    (attempt,) = detail["attempts"]
    assert (attempt["n"], attempt["status"], attempt["error"]) == (1, 200, None)
    assert attempt["response"] == "thanks"

    async def is_well() -> bool:
        shown = (await api.ask("GET", f"{PATH}/{made['id']}")).document
        well = shown["failing_since"] is None and shown["last_success_at"] is not None
        return bool(well and shown["waiting"] == 0)

    await eventually(is_well)


async def test_a_receiver_that_fails_is_asked_again_until_it_recovers(
    api: ApiServer, receiver: Receiver
) -> None:
    receiver.answer(500, 302, headers={"Location": f"{receiver.url}/elsewhere"}, text="x" * 5_000)
    made = await make(api, receiver.url)
    await api.create("echo")
    taken = await receiver.until(3)
    assert {one.id for one in taken} == {taken[0].id}
    assert {one.path for one in taken} == {"/"}, "a redirect is not followed"
    detail = await becomes(api, made["id"], taken[0].id, state="delivered")
    assert [attempt["status"] for attempt in detail["attempts"]] == [500, 302, 200]
    assert len(detail["attempts"][0]["response"]) == 256
    assert await deliveries(api, made["id"], "?state=failed") == []
    assert len(await deliveries(api, made["id"], "?state=delivered")) == 1


async def test_a_slow_receiver_holds_up_nobody_else(api: ApiServer, receiver: Receiver) -> None:
    release = asyncio.Event()

    async def hang(_: Taken) -> web.Response:
        await release.wait()
        return web.Response()

    async with running_receiver() as slow:
        slow.respond = hang
        await make(api, slow.url)
        await make(api, receiver.url)
        for number in range(12):
            await api.create(f"echo-{number}")
        await receiver.until(12)
        await slow.until(8)
        assert len(slow.taken) == 8, "no more than its concurrency is under way"
        release.set()


async def test_a_rotated_secret_signs_beside_the_new_one(
    api: ApiServer, receiver: Receiver
) -> None:
    made = await make(api, receiver.url)
    rotated = (await api.ask("POST", f"{PATH}/{made['id']}/rotate-secret")).document
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"] is not None
    await api.create("one")
    (both,) = await receiver.until(1)
    assert both.signed_with(made["secret"])
    assert both.signed_with(rotated["secret"])

    last = await api.ask("POST", f"{PATH}/{made['id']}/rotate-secret", {"grace_s": 0})
    assert last.document["previous_secret_until"] is None
    await api.create("two")
    new = (await receiver.until(2))[1]
    assert new.signed_with(last.document["secret"])
    assert not new.signed_with(rotated["secret"])


async def test_a_receiver_that_is_gone_gets_nothing_more(
    api: ApiServer, receiver: Receiver
) -> None:
    receiver.answer(410)
    made = await make(api, receiver.url)
    await api.create("echo")

    async def is_disabled() -> bool:
        shown = (await api.ask("GET", f"{PATH}/{made['id']}")).document
        return (shown["enabled"], shown["disabled_reason"]) == (False, "gone")

    await eventually(is_disabled)
    (gone,) = receiver.taken
    await becomes(api, made["id"], gone.id, state="failed")

    async def is_on_record() -> bool:
        audit = (await api.ask("GET", f"/v1/audit?key=api&target={made['id']}")).document
        (record,) = audit["records"]
        assert record["why"] == "its receiver answered 410 Gone"
        return "/enabled" in {change["pointer"] for change in record["changes"] or ()}

    await eventually(is_on_record)  # the outcome is written behind the change
    refused = await api.ask("POST", f"{PATH}/{made['id']}/test")
    assert (refused.status, refused.document["reason"]) == (409, "webhook_disabled")
    meanwhile = await api.create("meanwhile")
    await until_stored(api, "penstock.endpoint.created", meanwhile["id"])

    again = await api.ask("PATCH", f"{PATH}/{made['id']}", {"enabled": True})
    assert (again.document["enabled"], again.document["disabled_reason"]) == (True, None)
    await api.create("later")
    last = (await receiver.until(2))[1]
    assert last.event["data"]["app_name"] == "later", "what happened meanwhile is not sent"


async def test_a_given_up_event_is_sent_again_on_request(
    api: ApiServer, receiver: Receiver
) -> None:
    receiver.answer(410)
    made = await make(api, receiver.url)
    await api.create("echo")
    (first,) = await receiver.until(1)
    await becomes(api, made["id"], first.id, state="failed")

    async def is_disabled() -> bool:
        return not (await api.ask("GET", f"{PATH}/{made['id']}")).document["enabled"]

    await eventually(is_disabled)
    await api.ask("PATCH", f"{PATH}/{made['id']}", {"enabled": True})
    receiver.answer(503)
    path = f"{PATH}/{made['id']}/deliveries/{first.id}/redeliver"
    answer = await api.ask("POST", path)
    assert (answer.status, answer.document["n_attempts"]) == (202, 1)
    again = (await receiver.until(3))[1:]
    assert [one.id for one in again] == [first.id] * 2
    assert again[1].body == first.body
    detail = await becomes(api, made["id"], first.id, state="delivered")
    assert [attempt["n"] for attempt in detail["attempts"]] == [1, 2, 3]
    for other in ("ev-none", "*", "%3E", "a.b", "a%20b", "%0D%0A"):
        unknown = await api.ask("POST", path.replace(first.id, other))
        assert (unknown.status, unknown.document["reason"]) == (404, "delivery_not_found")


async def test_a_test_event_comes_whatever_the_filter_says(
    api: ApiServer, receiver: Receiver
) -> None:
    made = await make(api, receiver.url, event_types=["penstock.node.lost"])
    other = await make(api, f"{receiver.url}/other")
    answer = await api.ask("POST", f"{PATH}/{made['id']}/test")
    assert answer.status == 202
    event_id = answer.document["event_id"]
    await becomes(api, made["id"], event_id, state="delivered", event_type="penstock.webhook.test")
    (taken,) = receiver.taken
    assert (taken.path, taken.id) == ("/", event_id)
    assert taken.signed_with(made["secret"])
    assert await deliveries(api, other["id"]) == []


async def test_a_test_event_goes_to_a_receiver_that_is_held_back(
    api: ApiServer, receiver: Receiver
) -> None:
    receiver.answer(503, headers={"Retry-After": "3600"})
    made = await make(api, receiver.url)
    await api.create("one")
    await receiver.until(1)
    held = await becomes(api, made["id"], receiver.taken[0].id, n_attempts=1)
    assert held["state"] == "waiting"
    two = await api.create("two")
    await until_stored(api, "penstock.endpoint.created", two["id"])
    answer = await api.ask("POST", f"{PATH}/{made['id']}/test")
    await becomes(api, made["id"], answer.document["event_id"], state="delivered")
    assert [taken.event["type"] for taken in receiver.taken] == [
        "penstock.endpoint.created",
        "penstock.webhook.test",
    ]

    async def two_wait() -> bool:
        return bool((await api.ask("GET", f"{PATH}/{made['id']}")).document["waiting"] == 2)

    await eventually(two_wait)


async def test_an_edited_filter_counts_from_the_answer_on(
    api: ApiServer, receiver: Receiver
) -> None:
    made = await make(api, receiver.url, event_types=["penstock.endpoint.deleted"])
    before = await api.create("before")
    await until_stored(api, "penstock.endpoint.created", before["id"])
    changed = await api.ask(
        "PATCH",
        f"{PATH}/{made['id']}",
        {"event_types": ["penstock.endpoint.created", "penstock.endpoint.paused"]},
    )
    assert changed.status == 200
    after = await api.create("after")
    (taken,) = await receiver.until(1)
    assert taken.event["subject"] == after["id"], "what was not wanted then is not sent later"

    changed = await api.ask("PATCH", f"{PATH}/{made['id']}", {"endpoints": ["before"]})
    assert changed.document["endpoints"] == [before["id"]]
    for name in ("after", "before"):
        assert (await api.ask("POST", f"/v1/endpoints/{name}/pause")).status == 200
    last = (await receiver.until(2))[1]
    assert last.event["subject"] == before["id"]


async def test_consumers_that_belong_to_no_webhook_are_swept(
    api: ApiServer, receiver: Receiver
) -> None:
    outbox = Outbox(api.bus, ack_wait_s=30)
    made = await make(api, receiver.url)
    kept = await make(api, receiver.url)
    record = WebhookRecord.decode((await stored(api, made["id"])).value)
    for left_over in ({"webhook_id": "wh-gone"}, {"epoch": 7}):
        await outbox.ensure(record.model_copy(update=left_over))
    assert {("wh-gone", 1), (made["id"], 7)} <= await outbox.consumers()
    off = await api.ask("PATCH", f"{PATH}/{made['id']}", {"enabled": False})
    assert off.document["disabled_reason"] == "by_hand"

    async def the_rest_is_gone() -> bool:
        return await outbox.consumers() == {(kept["id"], 1)}

    await eventually(the_rest_is_gone)


async def test_a_deleted_webhook_leaves_nothing(api: ApiServer, receiver: Receiver) -> None:
    made = await make(api, receiver.url)
    await api.create("echo")
    await receiver.until(1)
    assert (await api.ask("DELETE", f"{PATH}/{made['id']}")).status == 200
    await api.create("later")

    async def nothing_is_left() -> bool:
        names = await api.bus.api(f"CONSUMER.NAMES.{subjects.EVENTS}", {"offset": 0})
        stream = await api.bus.api(f"STREAM.INFO.{subjects.DELIVERIES}")
        return not names["consumers"] and stream["state"]["messages"] == 0

    await eventually(nothing_is_left)
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).status == 404
    assert len(receiver.taken) == 1
