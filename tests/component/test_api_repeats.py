"""Requests that are sent again, and changes of what has changed."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.messages import RepeatRecord
from penstock_common.nats.kv import Bucket, WatchedTable
from tests.support.api_server import ApiServer, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

ECHO = {"image": {"image": "acme/echo"}}
KEY = {"Idempotency-Key": "6f1c-1"}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def n_endpoints(api: ApiServer) -> int:
    return len((await api.ask("GET", "/v1/endpoints")).document["endpoints"])


async def test_a_repeat_gets_the_first_answer_and_makes_nothing(api: ApiServer) -> None:
    first = await api.ask("POST", "/v1/endpoints", ECHO, headers=KEY)
    again = await api.ask("POST", "/v1/endpoints", ECHO, headers=KEY)
    assert (first.status, again.status) == (201, 201)
    assert again.document == first.document
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await n_endpoints(api) == 1


async def test_a_change_and_a_deletion_are_answered_again_too(api: ApiServer) -> None:
    await api.create("echo")
    seen = (await api.ask("GET", "/v1/endpoints/echo")).headers["ETag"]
    path, headers = "/v1/endpoints/echo", {**KEY, "If-Match": seen}
    first = await api.ask("PATCH", path, {"public": True}, headers=headers)
    again = await api.ask("PATCH", path, {"public": True}, headers=headers)
    assert (first.status, again.status) == (200, 200)  # and not 412: the tag has moved since
    assert again.document == first.document
    auth = {"name": "ours", "username": "robot", "password": "secret-1"}
    auth_id = (await api.ask("POST", "/v1/registry-auths", auth)).document["id"]
    gone = [await api.ask("DELETE", f"/v1/registry-auths/{auth_id}", headers=KEY) for _ in range(2)]
    assert [answer.status for answer in gone] == [200, 200]
    assert gone[0].document == gone[1].document
    assert (await api.ask("DELETE", f"/v1/registry-auths/{auth_id}")).status == 404


async def test_an_answer_without_a_body_is_given_again_as_well(api: ApiServer) -> None:
    template = {"name": "t", "imageName": "acme/echo", "isServerless": True}
    made = (await api.ask("POST", "/runpod/v1/templates", template)).document
    path = f"/runpod/v1/templates/{made['id']}"
    gone = [await api.ask("DELETE", path, headers=KEY) for _ in range(2)]
    assert [(answer.status, answer.document) for answer in gone] == [(204, None)] * 2
    assert gone[1].headers["Idempotent-Replayed"] == "true"


async def test_many_at_once_make_one(api: ApiServer) -> None:
    answers = await asyncio.gather(
        *(api.ask("POST", "/v1/endpoints", ECHO, headers=KEY) for _ in range(10))
    )
    assert {a.status for a in answers} <= {201, 409}
    assert len({a.document["id"] for a in answers if a.status == 201}) == 1
    for refused in (a for a in answers if a.status == 409):
        assert refused.document["reason"] == "request_under_way"
        assert refused.headers["Retry-After"] == "1"
    assert await n_endpoints(api) == 1


async def test_a_key_belongs_to_one_body_one_route_and_one_caller(api: ApiServer) -> None:
    created = await api.ask("POST", "/v1/endpoints", ECHO, headers=KEY)
    other = await api.ask("POST", "/v1/endpoints", {**ECHO, "public": True}, headers=KEY)
    assert (other.status, other.document["reason"]) == (422, "idempotency_key_reused")
    paused = await api.ask("POST", f"/v1/endpoints/{created.document['id']}/pause", headers=KEY)
    assert (paused.status, paused.document["state"]) == (200, "paused")
    stranger = await api.ask("POST", "/v1/endpoints", ECHO, headers=KEY, key="not-a-key")
    assert stranger.status == 401


async def test_a_request_that_failed_gives_its_key_back(api: ApiServer) -> None:
    refused = await api.ask("POST", "/v1/endpoints", {"image": {}}, headers=KEY)
    assert refused.status == 422
    mended = await api.ask("POST", "/v1/endpoints", ECHO, headers=KEY)
    assert mended.status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_malformed_key_is_refused(api: ApiServer, key: str) -> None:
    refused = await api.ask("POST", "/v1/endpoints", ECHO, headers={"Idempotency-Key": key})
    assert (refused.status, refused.document["reason"]) == (400, "malformed_idempotency_key")


async def test_what_is_kept_is_sealed_and_expires(api: ApiServer) -> None:
    document = {**ECHO, "app_name": "canary-app"}
    await api.ask("POST", "/v1/endpoints", document, headers=KEY)
    table = WatchedTable(api.bus, subjects.REPEATS, RepeatRecord.decode)
    await table.start()
    try:
        ((name, row),) = table.rows.items()
    finally:
        await table.stop()
    assert row.value.sealed is not None
    assert b"canary-app" not in row.value.encode()
    assert "6f1c-1" not in name
    info = await api.bus.api(
        f"STREAM.MSG.GET.{subjects.kv_stream(subjects.REPEATS)}",
        {"last_by_subj": subjects.kv_subject(subjects.REPEATS, name)},
        timeout_s=5.0,
    )
    assert "Nats-TTL" in base64.b64decode(info["message"]["hdrs"]).decode()
    assert await Bucket(api.bus, subjects.REPEATS).get(name) is not None


async def test_a_change_is_made_to_what_was_seen_alone(api: ApiServer) -> None:
    created = await api.ask("POST", "/v1/endpoints", {**ECHO, "app_name": "echo"})
    seen = (await api.ask("GET", "/v1/endpoints/echo")).headers["ETag"]
    assert created.headers["ETag"] == seen
    path, patch = "/v1/endpoints/echo", {"workers": {"max": 5}}
    changed = await api.ask("PATCH", path, patch, headers={"If-Match": seen})
    assert changed.status == 200
    for method, document in (("PATCH", patch), ("DELETE", None)):
        stale = await api.ask(method, path, document, headers={"If-Match": seen})
        assert (stale.status, stale.document["reason"]) == (412, "precondition_failed")
    malformed = await api.ask("DELETE", path, headers={"If-Match": "unquoted"})
    assert (malformed.status, malformed.document["reason"]) == (400, "malformed_if_match")
    now = changed.headers["ETag"]
    assert now != seen
    gone = await api.ask("DELETE", path, headers={"If-Match": now})
    assert gone.status == 202


async def test_lists_come_in_pages_and_filtered(api: ApiServer) -> None:
    for number in range(5):
        await api.create(f"app-{number}")
    await api.ask("POST", "/v1/endpoints/app-3/pause")
    seen, cursor = [], ""
    while True:
        page = await api.ask("GET", f"/v1/endpoints?limit=2{cursor}")
        seen += [e["app_name"] for e in page.document["endpoints"]]
        if page.document["next_cursor"] is None:
            break
        cursor = f"&cursor={page.document['next_cursor']}"
    assert seen == [f"app-{number}" for number in range(5)]
    for query, expected in (
        ("state=paused", ["app-3"]),
        ("state=deploying&q=APP-1", ["app-1"]),
        ("q=nothing", []),
    ):
        found = await api.ask("GET", f"/v1/endpoints?{query}")
        assert [e["app_name"] for e in found.document["endpoints"]] == expected
    refused = await api.ask("GET", "/v1/endpoints?state=sleeping")
    assert (refused.status, refused.document["reason"]) == (400, "malformed_filter")
    assert "paused" in refused.document["detail"]


async def test_an_answer_without_a_body_is_given_again(api: ApiServer) -> None:
    made = await api.create()
    path, headers = f"/runpod/v1/endpoints/{made['id']}", {"Idempotency-Key": "once"}
    first = await api.ask("DELETE", path, headers=headers)
    again = await api.ask("DELETE", path, headers=headers)
    assert [first.status, again.status] == [204, 204]
    assert again.headers["Idempotent-Replayed"] == "true"
