"""What Penstock changes by itself stands in the audit trail too, once, whoever of several apis did it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_api.audit.notes import note_write
from penstock_api.audit.own_changes import OwnChange
from penstock_api.audit.reader import AuditFilter, AuditReader
from penstock_api.audit.trail import AuditTrail
from penstock_common import subjects
from penstock_common.errors import BusTimeoutError
from penstock_common.events.catalogue import Service
from penstock_common.messages import (
    ApiKeyRecord,
    AuditTarget,
    JoinTokenRecord,
)
from penstock_common.states import EndpointState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

LONG_AGO = CLOCK.utc() - timedelta(days=30)
CHANGE = OwnChange(
    audit_id="au-ep-1-2",
    by=Service.SCHEDULER,
    action="endpoints_roll_back",
    why="revision 2 could not start",
    target=AuditTarget(kind="endpoint", id="ep-1", name="echo"),
)


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def told(api: ApiServer, query: str) -> list[dict[str, Any]]:
    answer = await api.ask("GET", f"/v1/audit?{query}")
    assert answer.status == 200, answer
    return [
        {**record, "changes": {c["pointer"]: (c["before"], c["after"]) for c in record["changes"]}}
        for record in answer.document["records"]
    ]


async def concluded(api: ApiServer, query: str) -> list[dict[str, Any]]:
    """The records, once there are some and the outcome of each is known."""

    async def look() -> list[dict[str, Any]]:
        records = await told(api, query)
        return records if all(record["status"] for record in records) else []

    return await eventually(look)


async def test_a_revision_that_cannot_start_is_left_on_record_once_by_however_many_apis(
    api: ApiServer, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "another"):
        made = await api.create("echo")
        await api.ask("PATCH", "/v1/endpoints/echo", {"env": {"COLOUR": "green"}})
        await api.say(
            made["id"],
            EndpointState.UPDATING,
            message="exited with code 7",
            revision=2,
            good_revision=1,
            failed_revision=2,
        )
        (record,) = await concluded(api, "key=scheduler")
        await api.becomes("echo", revision=3)
    assert record | {"at": "", "last_at": ""} == {
        "id": f"au-{made['id']}-2",
        "at": "",
        "last_at": "",
        "count": 1,
        "request_id": "",
        "key_id": "scheduler",
        "key_name": "",
        "source": "",
        "forwarded_for": "",
        "action": "endpoints_roll_back",
        "route": "",
        "targets": [{"kind": "endpoint", "id": made["id"], "name": "echo"}],
        "status": 200,
        "reason": "",
        "why": "revision 2 could not start, went back to revision 1: exited with code 7",
        "changes": {"/env/COLOUR": ("green", None), "/revision": (2, 3)},
        "changes_left_out": 0,
    }
    assert [r["key_id"] for r in await told(api, "target=echo")] == [
        "scheduler",
        "key-admin",
        "key-admin",
    ]


async def test_a_canary_that_cannot_start_is_left_on_record(api: ApiServer) -> None:
    made = await api.create("echo")
    body = {"percent": 10, "change": {"env": {"COLOUR": "green"}}}
    assert (await api.ask("POST", "/v1/endpoints/echo/canary", body)).status == 200
    await api.say(made["id"], EndpointState.UPDATING, revision=2, failed_revision=2)
    (record,) = await concluded(api, "key=scheduler")
    assert (record["action"], record["status"]) == ("endpoints_abort", 200)
    assert record["why"] == "canary 2 could not start, went back to revision 1"
    assert record["changes"]["/revision"] == (2, 3)


async def test_what_an_api_that_died_began_is_concluded_by_the_next(api: ApiServer) -> None:
    died, next_one, reader = (
        AuditTrail(api.bus, CLOCK),
        AuditTrail(api.bus, CLOCK),
        AuditReader(api.bus),
    )
    with pytest.raises(BusTimeoutError):
        async with died.own(CHANGE):
            raise BusTimeoutError
    (attempted,) = (await reader.page(AuditFilter(), 10, None)).records
    assert (attempted.status, attempted.key_id, attempted.why) == (None, "scheduler", CHANGE.why)
    async with next_one.own(CHANGE):
        note_write("endpoint", "ep-1", None, None)
    (record,) = (await reader.page(AuditFilter(), 10, None)).records
    assert (record.status, record.reason) == (200, "")


async def test_who_was_overtaken_says_so_and_takes_nobody_s_word_back(api: ApiServer) -> None:
    first, second, reader = (
        AuditTrail(api.bus, CLOCK),
        AuditTrail(api.bus, CLOCK),
        AuditReader(api.bus),
    )
    async with first.own(CHANGE):
        pass  # somebody's PATCH came before
    (record,) = (await reader.page(AuditFilter(), 10, None)).records
    assert (record.status, record.reason) == (409, "overtaken")

    other = OwnChange("au-ep-1-3", CHANGE.by, CHANGE.action, CHANGE.why, CHANGE.target)
    async with first.own(other), second.own(other):
        note_write("endpoint", "ep-1", None, None)
    records = (await reader.page(AuditFilter(), 10, None)).records
    assert [(r.audit_id, r.status) for r in records] == [("au-ep-1-3", 200), ("au-ep-1-2", 409)]


async def test_keys_and_join_tokens_that_expired_long_ago_go_on_record(api: ApiServer) -> None:
    key = ApiKeyRecord(
        key_id="key-1",
        name="ours",
        sha256="0" * 64,
        scope="read",
        created_at=LONG_AGO,
        expires_at=LONG_AGO,
    )
    token = JoinTokenRecord(
        token_id="jt-1",
        sha256="0" * 64,
        max_uses=1,
        created_at=LONG_AGO,
        expires_at=LONG_AGO,
        made_by="key-admin",
    )
    await api.put(subjects.API_KEYS, key.key_id, key)
    await api.put(subjects.JOIN_TOKENS, token.token_id, token)

    async def both() -> bool:
        return len(await told(api, "key=api")) == 2

    await eventually(both)
    records = await concluded(api, "key=api")
    assert {(r["action"], r["targets"][0]["id"], r["status"], r["why"]) for r in records} == {
        ("api_keys_delete", "key-1", 200, "expired"),
        ("join_tokens_delete", "jt-1", 200, "expired"),
    }


async def test_another_admin_key_in_its_file_is_on_record(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api") as api:
        assert await told(api, "") == [], "the first key is no change"
    (tmp_path / "api" / "admin.key").write_text("another-admin-key-of-the-tests-01234\n")
    again = ApiServer(nats_server, tmp_path / "api")
    await again.start()
    try:
        answer = await again.ask("GET", "/v1/audit", key="another-admin-key-of-the-tests-01234")
        (record,) = answer.document["records"]
        assert (record["key_id"], record["action"]) == ("api", "api_keys_rotate")
        assert record["targets"] == [{"kind": "api_key", "id": "key-admin", "name": ""}]
        (change,) = record["changes"]
        assert change == {
            "target": "key-admin",
            "pointer": "/sha256",
            "before": "(hidden)",
            "after": "(hidden)",
        }
    finally:
        await again.stop()
