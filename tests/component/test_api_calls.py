"""The api over NATS: the same documents and the same errors as over HTTP, asked with nats-py."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import nats.errors
import pytest

from penstock_api.rpc import bus_client
from penstock_api.rpc.service import OPERATIONS
from penstock_common import subjects
from penstock_common.subjects import CALLS_READING
from tests.support.api_events import stored
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.asyncapi import validator
from tests.support.bus import eventually as until
from tests.support.nats_calls import Caller, calling
from tests.support.nats_server import NatsServer

KEY: Final = {"Idempotency-Key": "6f1c"}

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


@pytest.fixture
async def caller(api: ApiServer) -> AsyncIterator[Caller]:
    described = (await api.ask("GET", "/asyncapi.json", key=None)).document
    async with calling(api.nats.url, described) as caller:
        yield caller


async def test_an_endpoint_lives_its_life_over_nats(api: ApiServer, caller: Caller) -> None:
    events = await api.listen("penstock.v1.events.endpoint.>")
    created = await caller.create("echo", workers={"max": 2})
    endpoint_id = created.document["id"]
    assert created.headers["Content-Type"] == "application/json"
    assert created.document == await api.show("echo")
    assert (await caller.call("endpoint.get", {"endpoint": endpoint_id})).document == (
        created.document
    )
    change = {"endpoint": "echo", "change": {"workers": {"max": 3}}}
    updated = await caller.call(
        "endpoint.update", change, headers={"If-Match": created.headers["ETag"]}
    )
    assert updated.document["workers"]["max"] == 3
    assert (await caller.call("endpoint.pause", {"endpoint": "echo"})).document["state"] == "paused"
    resumed = await caller.call("endpoint.resume", {"endpoint": "echo"})
    assert resumed.document["state"] != "paused"
    listed = await caller.call("endpoint.list")
    assert listed.document == {"endpoints": [await api.show("echo")], "next_cursor": None}
    listed = await caller.call("worker.list", {"endpoint": "echo"})
    assert listed.document == {"workers": [], "next_cursor": None}
    deleted = await caller.call("endpoint.delete", {"endpoint": "echo"})
    assert deleted.document["deleted_at"] is not None
    await until(lambda: len(events) == 5)
    assert [e.subject.rsplit(".", 1)[1] for e in events] == (
        ["created", "updated", "paused", "resumed", "deleted"]
    )
    described = (await api.ask("GET", "/asyncapi.json")).document
    for event in events:
        validator(described, event.headers["ce-type"], "headers").validate(dict(event.headers))
        validator(described, event.headers["ce-type"], "payload").validate(json.loads(event.data))


async def test_lists_come_in_pages_and_filtered(caller: Caller) -> None:
    for n in range(3):
        await caller.create(f"echo-{n}")
    first = (await caller.call("endpoint.list", {"limit": 2})).document
    rest = (await caller.call("endpoint.list", {"cursor": first["next_cursor"]})).document
    assert [e["app_name"] for e in (*first["endpoints"], *rest["endpoints"])] == (
        ["echo-0", "echo-1", "echo-2"]
    )
    assert rest["next_cursor"] is None
    found = (await caller.call("endpoint.list", {"q": "-1", "state": "deploying"})).document
    assert [e["app_name"] for e in found["endpoints"]] == ["echo-1"]
    assert (await caller.call("endpoint.list", {"state": "failed"})).document["endpoints"] == []


async def test_errors_are_those_of_http(api: ApiServer, caller: Caller) -> None:
    wrong = {"image": {"image": "acme/echo"}, "workers": {"min": 5, "max": 1}, "gpus": 1}
    over_http = await api.ask("POST", "/v1/endpoints", wrong)
    over_nats = await caller.call("endpoint.create", wrong)
    assert over_nats.document == over_http.document
    assert over_nats.status == over_http.status == 422
    assert over_nats.headers["Content-Type"] == "application/problem+json"
    assert over_nats.headers["Nats-Service-Error"] == over_http.document["detail"]
    http_404 = await api.ask("GET", "/v1/endpoints/nobody")
    assert (await caller.call("endpoint.get", {"endpoint": "nobody"})).document == http_404.document
    await caller.create("echo")
    taken = await caller.create("echo")
    assert (taken.status, taken.document["reason"]) == (409, "app_name_taken")


#: call, body → status, reason, where in the body
MISTAKES: Final = [
    ("endpoint.create", b"{not json", 400, "malformed_json", None),
    ("endpoint.create", b"[" * 100_000, 400, "malformed_json", None),
    ("endpoint.create", b'{"name": "\\ud800"}', 400, "malformed_json", None),
    ("endpoint.create", b"\xff\xfe", 400, "malformed_json", None),
    ("endpoint.create", b"[]", 422, "invalid_document", ""),
    ("endpoint.get", b"", 422, "invalid_document", "/endpoint"),
    ("endpoint.get", b'{"endpoint": 1}', 422, "invalid_document", "/endpoint"),
    ("endpoint.get", b'{"endpoint": "a", "b": 1}', 422, "invalid_document", "/b"),
    ("endpoint.list", b'{"limit": 0}', 422, "invalid_document", "/limit"),
    ("endpoint.list", b'{"cursor": "?"}', 400, "malformed_page", None),
    ("endpoint.list", b'{"state": "asleep"}', 422, "invalid_document", "/state"),
    ("endpoint.delete", b'{"endpoint": "nobody"}', 404, "endpoint_not_found", None),
    ("endpoint.pause", b'{"endpoint": "nobody"}', 404, "endpoint_not_found", None),
    ("worker.list", b'{"endpoint": "nobody"}', 404, "endpoint_not_found", None),
    ("worker.list", b'{"state": "asleep"}', 422, "invalid_document", "/state"),
    (
        "endpoint.update",
        b'{"endpoint": "nobody", "change": {}}',
        404,
        "endpoint_not_found",
        None,
    ),
    ("endpoint.create", b" " * 1_100_000, 413, "body_too_large", None),
    ("endpoint.frobnicate", b"", 404, "no_such_call", None),
    ("endpoints.create", b"", 404, "no_such_call", None),
]


async def test_each_mistake_is_told(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", max_payload=8_388_608)
    server.start()
    try:
        async with (
            running_api(server, tmp_path / "api") as api,
            calling(server.url, (await api.ask("GET", "/asyncapi.json")).document) as caller,
        ):
            for name, body, status, reason, pointer in MISTAKES:
                refused = await caller.call(name, data=body)
                told = (refused.status, refused.document["status"], refused.document["reason"])
                assert told == (status, status, reason), (name, body[:40])
                pointers = [e["pointer"] for e in refused.document.get("errors", ())]
                assert pointers == ([] if pointer is None else [pointer]), (name, body[:40])
    finally:
        server.stop()


async def test_a_wrong_change_is_pointed_at_in_the_call(caller: Caller) -> None:
    await caller.create("echo")
    change = {"endpoint": "echo", "change": {"workers": {"max": -1}}}
    refused = await caller.call("endpoint.update", change)
    assert [e["pointer"] for e in refused.document["errors"]] == ["/change/workers/max"]


async def test_what_has_changed_meanwhile_is_not_changed(caller: Caller) -> None:
    created = await caller.create("echo")
    body = {"endpoint": "echo", "change": {"public": True}}
    await caller.call("endpoint.update", body)
    # Nobody loses a guard by the case of a header's letters, which NATS keeps apart.
    for name in ("If-Match", "if-match", "IF-MATCH"):
        headers = {name: created.headers["ETag"]}
        stale = await caller.call("endpoint.delete", {"endpoint": "echo"}, headers=headers)
        assert (stale.status, stale.document["reason"]) == (412, "precondition_failed")
    malformed = await caller.call(
        "endpoint.delete", {"endpoint": "echo"}, headers={"If-Match": "7"}
    )
    assert (malformed.status, malformed.document["reason"]) == (400, "malformed_if_match")


async def test_a_call_that_is_sent_again_is_done_once(caller: Caller) -> None:
    document = {"image": {"image": "acme/echo"}}
    first = await caller.call("endpoint.create", document, headers=KEY)
    again = await caller.call("endpoint.create", document, headers=KEY)
    assert again.document == first.document
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert len((await caller.call("endpoint.list")).document["endpoints"]) == 1
    reused = await caller.call("endpoint.create", {"name": "other"}, headers=KEY)
    assert (reused.status, reused.document["reason"]) == (422, "idempotency_key_reused")


async def test_an_answer_larger_than_nats_takes_says_so(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", max_payload=200_000)
    server.start()
    try:
        async with running_api(server, tmp_path / "api"), calling(server.url) as caller:
            for n in range(3):
                await caller.create(f"echo-{n}", env={"TEXT": "x" * 80_000})
            refused = await caller.call("endpoint.list")
            assert (refused.status, refused.document["reason"]) == (413, "answer_too_large")
            assert "limit" in refused.document["detail"]
            page = await caller.call("endpoint.list", {"limit": 1})
            assert len(page.document["endpoints"]) == 1
    finally:
        server.stop()


async def test_more_calls_than_it_takes_are_refused_at_once(
    api: ApiServer, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_client, "MAX_CALLS", 2)
    created = await asyncio.gather(*(caller.create(f"echo-{n}") for n in range(20)))
    refused = [c for c in created if c.status != 200]
    assert {(c.status, c.document["reason"]) for c in refused} == {(503, "too_many_calls")}
    assert all(c.headers["Retry-After"] == "1" for c in refused)
    assert len(created) - len(refused) == (
        len((await caller.call("endpoint.list")).document["endpoints"])
    )


async def test_a_failure_of_the_api_is_told_and_logged(
    caller: Caller, api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    # What is no endpoint's record was written by no api; its keys are well-formed all the same.
    await caller.create("echo")
    record = await api.record(
        (await caller.call("endpoint.get", {"endpoint": "echo"})).document["id"]
    )
    broken = record.encode().replace(b'"app_name":"echo"', b'"app_name":7')
    await api.bus.store(f"$KV.PENSTOCK_ENDPOINTS.{record.endpoint_id}", broken)
    failed = await caller.call("endpoint.pause", {"endpoint": "echo"})
    assert (failed.status, failed.document["reason"]) == (500, "internal")
    assert "app_name" not in failed.document["detail"]
    assert any(r.__dict__.get("action") == "call_failed" for r in caplog.records)


async def test_an_answer_waits_for_what_others_have_written_before(
    api: ApiServer, caller: Caller
) -> None:
    created = await caller.create("echo")
    record = await api.record(created.document["id"])
    # The api's own table stands still for a moment, as it may on a busy machine.
    stream = subjects.kv_stream(subjects.ENDPOINTS)
    (watch,) = (await api.bus.api(f"CONSUMER.NAMES.{stream}"))["consumers"]
    until_at = (CLOCK.utc() + timedelta(seconds=1)).isoformat()
    await api.bus.api(f"CONSUMER.PAUSE.{stream}.{watch}", {"pause_until": until_at})
    changed = record.model_copy(update={"paused": True})
    await api.put(subjects.ENDPOINTS, record.endpoint_id, changed)
    shown = await caller.call("endpoint.get", {"endpoint": "echo"})
    assert shown.document["state"] == "paused"


async def test_a_call_without_a_place_for_the_answer_is_done(
    api: ApiServer, caller: Caller
) -> None:
    await caller.client.publish(
        "penstock.v1.api.endpoint.create", b'{"app_name": "echo", "image": {"image": "acme/echo"}}'
    )
    await caller.client.publish("penstock.v1.api.endpoint.nothing", b"")

    async def made() -> bool:
        return bool((await caller.call("endpoint.list")).document["endpoints"])

    await eventually(made)


async def test_no_caller_has_the_api_write_for_it(api: ApiServer, caller: Caller) -> None:
    created = await caller.create("echo")
    before = await api.record(created.document["id"])
    target = subjects.kv_subject(subjects.ENDPOINTS, before.endpoint_id)
    await eventually(lambda: stored(api))  # that it was made is told behind it
    events = await api.listen(subjects.EVENTS_ALL)
    for reply in (target, subjects.endpoint_event("ep-1", "created"), "_INBOX", "_INBOX.*.a"):
        await caller.client.publish("penstock.v1.api.endpoint.list", b"", reply=reply)
        await caller.client.publish("penstock.v1.api.endpoint.nothing", b"", reply=reply)
    # Calls of one connection come in their order, and this one is answered.
    assert (await caller.call("endpoint.get", {"endpoint": "echo"})).status == 200
    assert await api.record(before.endpoint_id) == before
    assert events == []


async def test_it_takes_calls_again_after_a_restart_of_nats(api: ApiServer, caller: Caller) -> None:
    await caller.create("echo")
    api.nats.kill()
    api.nats.start()
    async with calling(api.nats.url) as again:
        async with asyncio.timeout(60):
            while True:
                try:
                    shown = await again.call("endpoint.get", {"endpoint": "echo"}, timeout_s=2)
                except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                    await asyncio.sleep(0.05)
                    continue
                if shown.status == 200:
                    break
                assert shown.status == 503, shown
    assert shown.document["app_name"] == "echo"


def test_what_only_reads_is_what_a_reader_may_call() -> None:
    patterns = {p.rsplit(".", 1)[1] for p in CALLS_READING}
    for operation in OPERATIONS:
        reads = operation.name.rsplit(".", 1)[1] in patterns
        assert reads is not operation.changes, operation.name
        assert operation.name.count(".") == 1
