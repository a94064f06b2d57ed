"""API keys over HTTP: shown once, scoped, with quotas, revoked; on a real nats-server."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_api.api_keys import EXPIRED_KEPT
from penstock_common import subjects
from penstock_common.messages import ApiKeyRecord
from penstock_common.nats.kv import Bucket
from penstock_common.states import EndpointState
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
PATH = "/v1/api-keys"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def make_key(api: ApiServer, **fields: Any) -> dict[str, Any]:
    answer = await api.ask("POST", PATH, {"name": "ours", "scope": "deploy", **fields})
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.document
    return made


async def deploy(api: ApiServer, key: str, app: str = "mine", **fields: Any) -> Any:
    document = {"app_name": app, "image": {"image": "acme/echo"}, **fields}
    return await api.ask("POST", "/v1/endpoints", document, key=key)


async def test_a_key_is_shown_once_and_stored_as_its_hash(api: ApiServer) -> None:
    made = await make_key(api, max_workers=4, max_gpus=8)
    key = made.pop("key")
    shown = await api.ask("GET", f"{PATH}/{made['id']}")
    assert shown.document == made
    assert (made["max_workers"], made["max_gpus"], made["workers"]) == (4, 8, 0)
    listed = (await api.ask("GET", PATH)).document["api_keys"]
    assert [each["id"] for each in listed] == ["key-admin", made["id"]]
    entry = await Bucket(api.bus, subjects.API_KEYS).get(made["id"])
    assert entry is not None
    assert key.encode() not in entry.value
    assert (await api.ask("GET", "/v1/endpoints", key=key)).status == 200


async def test_a_key_that_deploys_changes_its_own_endpoints_only(api: ApiServer) -> None:
    key = (await make_key(api))["key"]
    other = (await make_key(api))["key"]
    made = await deploy(api, key)
    assert made.status == 201
    path = f"/v1/endpoints/{made.document['id']}"
    patch = {"env": {"A": "b"}}
    refused = await api.ask("PATCH", path, patch, key=other)
    assert (refused.status, refused.document["reason"]) == (403, "forbidden")
    for method, where in (("DELETE", path), ("POST", f"{path}/pause"), ("POST", f"{path}/resume")):
        assert (await api.ask(method, where, key=other)).status == 403
    assert (await api.ask("POST", f"{path}/rollback", {}, key=other)).status == 403
    assert (await api.ask("PATCH", path, patch, key=key)).status == 200
    assert (await api.ask("PATCH", path, {"env": {"A": "c"}})).status == 200  # the administrator
    shown = await api.show("mine")
    assert shown["owner"] == made.document["owner"] != "key-admin"
    for method, where in (("GET", PATH), ("POST", PATH), ("GET", f"{PATH}/key-admin")):
        assert (
            await api.ask(method, where, {} if method == "POST" else None, key=key)
        ).status == 403


async def test_what_could_never_run_within_the_quota_is_refused(api: ApiServer) -> None:
    made = await make_key(api, max_workers=2, max_gpus=3)
    key, who = made["key"], f"API key {made['id']} may hold"
    wrong = await deploy(api, key, workers={"min": 3, "max": 3}, gpu={"count": 0})
    assert wrong.status == 422
    assert wrong.document["errors"] == [
        {"pointer": "/workers/min", "message": f"3 workers would be kept, and {who} 2"}
    ]
    wrong = await deploy(api, key, gpu={"count": 4})
    assert wrong.document["errors"] == [
        {"pointer": "/gpu/count", "message": f"a worker needs 4 GPUs, and {who} 3"}
    ]
    wrong = await deploy(api, key, workers={"min": 2, "max": 9}, gpu={"count": 2})
    assert wrong.document["errors"] == [
        {"pointer": "/workers/min", "message": f"2 workers would keep 4 GPUs, and {who} 3"}
    ]
    fits = await deploy(api, key, workers={"min": 1, "max": 9}, gpu={"count": 2})
    assert fits.status == 201, "max may be larger: the quota holds when workers start"
    path = f"/v1/endpoints/{fits.document['id']}"
    wrong = await api.ask("PATCH", path, {"workers": {"min": 2}}, key=key)
    assert wrong.status == 422
    wrong = await api.ask("PATCH", path, {"workers": {"min": 2}}, key=ADMIN_KEY)
    assert wrong.status == 422, "the quota is the owner's, whoever writes"
    await api.ask("PATCH", f"{PATH}/{made['id']}", {"max_gpus": None})
    assert (await api.ask("PATCH", path, {"workers": {"min": 2}}, key=key)).status == 200


async def test_a_quota_can_be_changed_and_taken_away(api: ApiServer) -> None:
    path = f"{PATH}/{(await make_key(api, max_workers=1))['id']}"
    changed = await api.ask("PATCH", path, {"max_workers": 5, "name": "theirs"})
    assert (changed.document["max_workers"], changed.document["name"]) == (5, "theirs")
    changed = await api.ask("PATCH", path, {"max_workers": None})
    assert changed.document["max_workers"] is None
    wrong = await api.ask("PATCH", path, {"scope": "admin"})
    assert wrong.document["errors"][0]["pointer"] == "/scope"
    assert (await api.ask("PATCH", path, {"name": None})).status == 422


async def test_a_revoked_key_opens_nothing_and_its_quota_stays(api: ApiServer) -> None:
    made, unused = await make_key(api, max_workers=1), await make_key(api)
    assert (await deploy(api, made["key"])).status == 201
    revoked = await api.ask("DELETE", f"{PATH}/{made['id']}")
    assert revoked.status == 200
    assert revoked.document["revoked_at"] is not None
    assert (await api.ask("GET", "/v1/endpoints", key=made["key"])).status == 401
    entry = await Bucket(api.bus, subjects.API_KEYS).get(made["id"])
    assert entry is not None
    record = ApiKeyRecord.decode(entry.value)
    assert (record.sha256, record.max_workers) == ("", 1)

    assert (await api.ask("DELETE", f"{PATH}/{unused['id']}")).status == 200
    assert (await api.ask("GET", f"{PATH}/{unused['id']}")).status == 404
    assert (await api.ask("GET", "/v1/endpoints", key=unused["key"])).status == 401


async def test_an_expired_key_is_told_so_and_goes_after_a_week(api: ApiServer) -> None:
    made = await make_key(api, scope="read", expires_in_s=3600)
    assert made["expires_at"] is not None
    assert (await api.ask("GET", "/v1/endpoints", key=made["key"])).status == 200
    (listed,) = [
        each
        for each in (await api.ask("GET", PATH)).document["api_keys"]
        if each["id"] == made["id"]
    ]
    assert listed["expires_at"] == made["expires_at"]

    entry = await Bucket(api.bus, subjects.API_KEYS).get(made["id"])
    assert entry is not None
    record = ApiKeyRecord.decode(entry.value)
    expired_at = CLOCK.utc() - timedelta(hours=1)
    await api.put(
        subjects.API_KEYS, made["id"], record.model_copy(update={"expires_at": expired_at})
    )

    async def refused() -> bool:
        answer = await api.ask("GET", "/v1/endpoints", key=made["key"])
        return answer.status == 401 and answer.document["reason"] == "expired_api_key"

    await eventually(refused)
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).status == 200, "it is shown for a while"

    expired_at -= EXPIRED_KEPT
    await api.put(
        subjects.API_KEYS, made["id"], record.model_copy(update={"expires_at": expired_at})
    )

    async def gone() -> bool:
        return (await api.ask("GET", f"{PATH}/{made['id']}")).status == 404

    await eventually(gone)


async def test_a_rotated_key_is_the_same_with_another_secret(api: ApiServer) -> None:
    made = await make_key(api, max_workers=2)
    assert (await deploy(api, made["key"])).status == 201
    path = f"{PATH}/{made['id']}/rotate"
    rotated = (await api.ask("POST", path, {"old_expires_in_s": 3600})).document
    assert (rotated["id"], rotated["max_workers"]) == (made["id"], 2)
    assert rotated["old_expires_at"] is not None
    for key in (made["key"], rotated["key"]):
        assert (await api.ask("PATCH", "/v1/endpoints/mine", {"env": {}}, key=key)).status == 200
    last = (await api.ask("POST", path)).document
    statuses = [
        (await api.ask("GET", "/v1/endpoints", key=each["key"])).status
        for each in (made, rotated, last)
    ]
    assert statuses == [401, 401, 200]
    assert (await api.ask("GET", f"{PATH}/{made['id']}")).document["old_expires_at"] is None
    wrong = await api.ask("POST", path, {"old_expires_in_s": -1})
    assert [e["pointer"] for e in wrong.document["errors"]] == ["/old_expires_in_s"]
    await api.ask("DELETE", f"{PATH}/{made['id']}")
    ended = await api.ask("POST", path)
    assert (ended.status, ended.document["reason"]) == (409, "api_key_ended")
    assert (await api.ask("POST", f"{PATH}/key-admin/rotate")).document["reason"] == "api_key_fixed"


async def test_the_administrators_key_is_its_files(api: ApiServer) -> None:
    for method, body in (("DELETE", None), ("PATCH", {"max_workers": 1})):
        fixed = await api.ask(method, f"{PATH}/key-admin", body)
        assert (fixed.status, fixed.document["reason"]) == (409, "api_key_fixed")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"scope": "root"}, "/scope"),
        ({"name": ""}, "/name"),
        ({"max_workers": -1}, "/max_workers"),
        ({"max_gpus": "2"}, "/max_gpus"),
        ({"scope": "read", "max_gpus": 2}, ""),
        ({"endpoints": ["echo"]}, ""),
        ({"scope": "invoke", "endpoints": ["nowhere"]}, "/endpoints/0"),
        ({"key": "mine"}, "/key"),
        ({"expires_in_s": 0}, "/expires_in_s"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "tomorrow"}, "/expires_at"),
        ({"expires_in_s": 60, "expires_at": "2099-01-01T00:00:00Z"}, ""),
    ],
)
async def test_wrong_documents_are_told(
    api: ApiServer, fields: dict[str, Any], pointer: str
) -> None:
    answer = await api.ask("POST", PATH, {"name": "ours", "scope": "deploy", **fields})
    assert answer.status == 422
    assert [error["pointer"] for error in answer.document["errors"]] == [pointer]


async def test_a_key_that_calls_names_its_endpoints(api: ApiServer) -> None:
    echo = await api.create("echo")
    made = await make_key(api, scope="invoke", endpoints=["echo", echo["id"]])
    assert made["endpoint_ids"] == [echo["id"]]
    assert (await api.ask("GET", "/v1/endpoints", key=made["key"])).status == 403


async def test_a_key_that_calls_follows_its_endpoint_and_not_the_name(api: ApiServer) -> None:
    echo = await api.create("echo")
    made = await make_key(api, scope="invoke", endpoints=["echo"])
    assert (await api.ask("PATCH", "/v1/endpoints/echo", {"app_name": "renamed"})).status == 200
    other = await api.create("echo")
    shown = (await api.ask("GET", f"{PATH}/{made['id']}")).document
    assert shown["endpoint_ids"] == [echo["id"]] != [other["id"]]
    await api.ask("DELETE", "/v1/endpoints/renamed")
    await api.say(echo["id"], EndpointState.DELETING)

    async def gone() -> bool:
        return (await api.ask("GET", f"/v1/endpoints/{echo['id']}")).status == 404

    await eventually(gone)
    shown = (await api.ask("GET", f"{PATH}/{made['id']}")).document
    assert shown["endpoint_ids"] == [echo["id"]], "none would mean all"
