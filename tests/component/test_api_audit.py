"""The audit trail over HTTP, on a real nats-server: who changed what, and that nothing is missing."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock_api.audit.reader import AuditFilter, AuditReader
from penstock_api.audit.trail import TICK_S, Attempt, AuditTrail, Bounds
from penstock_common import subjects
from penstock_common.errors import BusDisconnectedError
from penstock_common.nats.connection import Bus
from penstock_common.nats.streams import ensure_streams
from penstock_common.settings import NatsSettings
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

if TYPE_CHECKING:
    from penstock_common.messages import AuditRecord

pytestmark = [pytest.mark.nats]

SECRET = "canary-of-a-secret"
ATTEMPT = Attempt("a_b", "POST /v1/a", "req-1", "key-1", "ours", "127.0.0.1")


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def trail(api: ApiServer, query: str = "") -> list[dict[str, Any]]:
    answer = await api.ask("GET", f"/v1/audit{query}")
    assert answer.status == 200, answer
    records: list[dict[str, Any]] = answer.document["records"]
    return records


async def test_a_change_is_on_record_when_it_is_answered(api: ApiServer) -> None:
    made = await api.create("echo", env={"COLOUR": "blue"}, secrets={"TOKEN": SECRET})
    patch = {"env": {"COLOUR": "green"}, "secrets": {"TOKEN": f"{SECRET}-2"}}
    answer = await api.ask(
        "PATCH",
        "/v1/endpoints/echo",
        patch,
        headers={"X-Request-Id": "my-request", "X-Forwarded-For": "192.0.2.7"},
    )
    assert (answer.status, answer.headers["X-Request-Id"]) == (200, "my-request")
    changed, created = await trail(api)
    assert changed["changes"] == [
        {
            "target": made["id"],
            "pointer": "/env/COLOUR",
            "before": "blue",
            "after": "green",
        },
        {"target": made["id"], "pointer": "/revision", "before": 1, "after": 2},
        {
            "target": made["id"],
            "pointer": "/secrets/TOKEN",
            "before": "(hidden)",
            "after": "(hidden)",
        },
    ]
    target = {"kind": "endpoint", "id": made["id"], "name": "echo"}
    assert changed | {"id": "", "at": "", "last_at": "", "changes": []} == {
        "id": "",
        "at": "",
        "last_at": "",
        "count": 1,
        "request_id": "my-request",
        "key_id": "key-admin",
        "key_name": "",
        "source": "127.0.0.1",
        "forwarded_for": "192.0.2.7",
        "action": "endpoints_update",
        "route": "PATCH /v1/endpoints/{endpoint}",
        "targets": [target],
        "status": 200,
        "reason": "",
        "why": "",
        "changes": [],
        "changes_left_out": 0,
    }
    assert (created["action"], created["status"]) == ("endpoints_create", 201)
    assert created["targets"] == [target]
    assert created["request_id"].startswith("req-")
    assert {"pointer": "/app_name", "before": None, "after": "echo", "target": made["id"]} in (
        created["changes"]
    )
    assert SECRET not in json.dumps([changed, created])


async def test_every_kind_of_change_leaves_one_record_in_every_dialect(api: ApiServer) -> None:
    await api.create("echo")
    asked: list[tuple[str, str, Any, str, set[str]]] = [
        ("POST", "/v1/endpoints/echo/pause", None, "endpoints_pause", {"/paused"}),
        ("POST", "/v1/api-keys", {"name": "k", "scope": "read"}, "api_keys_create", {"/scope"}),
        ("POST", "/v1/prewarms", {"image": "acme/x"}, "prewarms_create", {"/image"}),
        (
            "POST",
            "/v1/registry-auths",
            {"name": "r", "username": "u", "password": SECRET},
            "registry_auths_create",
            {"/username", "/sealed/password"},
        ),
        (
            "POST",
            "/v1/volumes",
            {"name": "v", "source": {"type": "nfs", "server": "10.0.0.9", "path": "/x"}},
            "volumes_create",
            {"/source/server"},
        ),
        (
            "POST",
            "/runpod/v1/templates",
            {"name": "t", "imageName": "acme/x", "isServerless": True},
            "runpod_templates_create",
            {"/name"},
        ),
        (
            "POST",
            "/gpu-instance/openapi/v1/endpoint/delete",
            {"id": "none"},
            "novita_v1_endpoints_delete",
            set(),
        ),
    ]
    for method, path, document, action, pointers in asked:
        answer = await api.ask(method, path, document)
        record, before = (await trail(api, "?limit=2"))[:2]
        assert (record["action"], record["status"]) == (action, answer.status), answer
        assert before["action"] != action, "one record a request"
        changed = {change["pointer"] for change in record["changes"]}
        assert pointers <= changed
        assert bool(record["reason"]) == (answer.status >= 400)
        assert SECRET not in json.dumps(record)
    await api.ask("GET", "/v1/endpoints")
    assert len(await trail(api)) == len(asked) + 1, "who only reads leaves none"


async def test_a_plan_changes_nothing_and_leaves_no_record(api: ApiServer) -> None:
    document = {"app_name": "echo", "image": {"image": "acme/echo"}}
    planned = await api.ask("POST", "/v1/endpoints/echo/plan", document)
    assert (planned.status, planned.document["creates"]) == (200, True)
    assert await trail(api) == []


async def test_what_is_refused_is_on_record_and_who_guesses_is_counted(api: ApiServer) -> None:
    key = (await api.ask("POST", "/v1/api-keys", {"name": "eye", "scope": "read"})).document
    wrong = await api.ask("POST", "/v1/endpoints", {"app_name": "UPPER"})
    (record,) = await trail(api, "?action=endpoints_create")
    assert (record["status"], record["reason"], record["changes"]) == (422, "invalid_document", [])
    assert wrong.headers["X-Request-Id"] == record["request_id"]

    began = CLOCK.monotonic()
    for n in range(50):
        await api.ask("GET", "/v1/endpoints", key=f"guess-{n}")
    await api.ask("DELETE", "/v1/endpoints/echo", key=key["key"])

    async def counted() -> bool:
        denied = await trail(api, "?key=nobody")
        return bool(sum(each["count"] for each in denied) == 50)

    await eventually(counted)
    denied = await trail(api, "?key=nobody")
    windows = (CLOCK.monotonic() - began) / TICK_S + 2  # those that it took, begun and ended within
    assert len(denied) <= windows
    assert {(d["status"], d["reason"], d["action"]) for d in denied} == {
        (401, "unauthorized", "endpoints_show_all")
    }
    (lacking,) = [r for r in await trail(api, f"?key={key['id']}") if r["status"] == 403]
    assert (lacking["key_name"], lacking["action"]) == ("eye", "endpoints_delete")
    assert "guess-" not in json.dumps(await trail(api))


async def test_a_request_that_is_answered_again_leaves_one_record(api: ApiServer) -> None:
    for _ in range(2):
        await api.ask(
            "POST",
            "/v1/api-keys",
            {"name": "k", "scope": "read"},
            headers={"Idempotency-Key": "one"},
        )
    (record,) = await trail(api)
    assert record["action"] == "api_keys_create"


async def test_the_trail_is_paged_and_filtered(api: ApiServer) -> None:
    keys = [
        (await api.ask("POST", "/v1/api-keys", {"name": f"k{n}", "scope": "deploy"})).document
        for n in range(3)
    ]
    for n, key in enumerate(keys):
        document = {"app_name": f"app-{n}", "image": {"image": "acme/echo"}}
        await api.ask("POST", "/v1/endpoints", document, key=key["key"])
    everything = await trail(api)
    assert [r["at"] for r in everything] == sorted((r["at"] for r in everything), reverse=True)
    assert len(everything) == 6
    pages: list[dict[str, Any]] = []
    cursor, last = "", {}
    for _ in range(3):
        last = (await api.ask("GET", f"/v1/audit?limit=2{cursor}")).document
        pages += last["records"]
        cursor = f"&cursor={last['next_cursor']}"
    assert pages == everything
    assert last["next_cursor"] is None

    mine = await trail(api, f"?key={keys[1]['id']}")
    assert [r["targets"][0]["name"] for r in mine] == ["app-1"]
    assert await trail(api, "?target=app-1") == mine
    assert await trail(api, f"?target={mine[0]['targets'][0]['id']}") == mine
    assert len(await trail(api, "?action=api_keys_create")) == 3
    middle = everything[2]["at"].replace("+00:00", "Z")
    assert await trail(api, f"?since={middle}") == everything[:3]
    assert await trail(api, f"?until={middle}") == everything[3:]
    assert await trail(api, "?until=2020-01-01") == []
    tomorrow = (CLOCK.utc() + timedelta(days=1)).date().isoformat()
    assert await trail(api, f"?since={tomorrow}") == []
    for query in ("?key=a.b", "?key=*", "?since=soon", "?who=me", "?limit=0", "?cursor=WyJ4Il0"):
        assert (await api.ask("GET", f"/v1/audit{query}")).status == 400, query
    assert (await api.ask("GET", "/v1/audit", key=keys[0]["key"])).status == 403


async def test_a_rare_record_is_found_over_several_pages(api: ApiServer) -> None:
    writer, reader = AuditTrail(api.bus, CLOCK), AuditReader(api.bus, max_read=100)
    async with writer.recorded(ATTEMPT) as deed:
        deed.answered(200)
    for _ in range(300):
        async with writer.recorded(
            Attempt("other", "POST /v1/b", "req-2", "key-2", "", "127.0.0.1")
        ) as deed:
            deed.answered(200)
    wanted = AuditFilter(action="a_b")
    found: list[AuditRecord] = []
    below, pages = None, 0
    while True:
        page = await reader.page(wanted, 10, below)
        found += page.records
        pages += 1
        if page.below is None:
            break
        below = page.below
    assert [record.request_id for record in found] == ["req-1"]
    assert pages > 1
    (one,) = (await reader.page(AuditFilter(key="key-1"), 10, None)).records
    assert one == found[0], "of one key, others' records are not read"


async def test_a_caller_pushes_out_its_own_records_alone(api: ApiServer) -> None:
    writer = AuditTrail(api.bus, CLOCK, Bounds(of_key=5, trim_every=10))
    reader = AuditReader(api.bus)
    for key, n in (("key-1", 2), ("key-2", 40)):
        for number in range(n):
            attempt = Attempt("a", "POST /v1/a", f"{key}-{number}", key, "", "")
            async with writer.recorded(attempt) as deed:
                deed.answered(200)
    await writer.tick()
    records = (await reader.page(AuditFilter(), 100, None)).records
    assert [record.request_id for record in records] == [
        *(f"key-2-{number}" for number in range(39, 34, -1)),
        *("key-1-1", "key-1-0"),
    ]


async def test_without_nats_nothing_is_done_and_what_was_begun_is_told_as_attempted(
    nats_server: NatsServer,
) -> None:
    bus = await Bus.connect(NatsSettings(nats_url=nats_server.url), name="test", clock=CLOCK)
    try:
        await ensure_streams(bus)
        writer, reader = AuditTrail(bus, CLOCK), AuditReader(bus)
        async with writer.recorded(ATTEMPT) as deed:
            nats_server.kill()
            deed.answered(200)  # the deed was done just before
        with pytest.raises(BusDisconnectedError):
            async with writer.recorded(ATTEMPT):
                pytest.fail("it was not on record")
        nats_server.start()
        await eventually(lambda: asyncio.sleep(0, bus.connected))
        (record,) = (await reader.page(AuditFilter(), 10, None)).records
        assert (record.status, record.request_id) == (None, "req-1")
        await writer.tick()
        (record,) = (await reader.page(AuditFilter(), 10, None)).records
        assert record.status == 200
        info = await bus.api(f"STREAM.INFO.{subjects.AUDIT}")
        assert info["state"]["messages"] == 1
    finally:
        await bus.close()


async def test_a_deed_that_is_cancelled_stays_attempted(api: ApiServer) -> None:
    writer, reader = AuditTrail(api.bus, CLOCK), AuditReader(api.bus)
    begun = asyncio.Event()

    async def act() -> None:
        async with writer.recorded(ATTEMPT):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(ZeroDivisionError):
        async with writer.recorded(ATTEMPT):
            raise ZeroDivisionError
    failed, attempted = (await reader.page(AuditFilter(), 10, None)).records
    assert attempted.status is None
    assert (failed.status, failed.reason) == (500, "internal")
