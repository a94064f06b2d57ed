"""Revisions over HTTP, and the way back by itself, with a real nats-server behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.messages import EndpointStatus
from penstock_common.nats.kv import Bucket
from penstock_common.states import EndpointState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def revisions(api: ApiServer) -> list[tuple[int, str]]:
    listed = (await api.ask("GET", "/v1/endpoints/echo/revisions")).document["revisions"]
    return [(r["revision"], r["cause"]) for r in listed]


async def test_back_by_hand_and_forth_again(api: ApiServer) -> None:
    await api.create("echo")
    assert await revisions(api) == [(1, "created")]
    await api.ask("PATCH", "/v1/endpoints/echo", {"env": {"A": "1"}})
    await api.ask("PATCH", "/v1/endpoints/echo", {"workers": {"max": 5}})
    back = await api.ask("POST", "/v1/endpoints/echo/rollback", {})
    assert (back.status, back.document["revision"], back.document["env"]) == (200, 3, {})
    assert back.document["workers"]["max"] == 5
    again = await api.ask("POST", "/v1/endpoints/echo/rollback", {"revision": 2})
    assert (again.document["revision"], again.document["env"]) == (4, {"A": "1"})
    assert await revisions(api) == [
        (4, "rolled_back"),
        (3, "rolled_back"),
        (2, "updated"),
        (1, "created"),
    ]


async def test_what_cannot_be_gone_back_to_is_refused(api: ApiServer) -> None:
    await api.create("echo")
    for body, code, reason in (
        ({}, 404, "revision_not_found"),
        ({"revision": 9}, 404, "revision_not_found"),
        ({"revision": "1"}, 422, "invalid_document"),
        ({"revison": 1}, 422, "invalid_document"),
        ([], 422, "invalid_document"),
    ):
        answer = await api.ask("POST", "/v1/endpoints/echo/rollback", body)
        assert (answer.status, answer.document["reason"]) == (code, reason)
    same = await api.ask("POST", "/v1/endpoints/echo/rollback", {"revision": 1})
    assert (same.status, same.document["revision"]) == (200, 1)


async def test_a_failed_revision_is_left_once(api: ApiServer) -> None:
    made = await api.create("echo")
    await api.ask("PATCH", "/v1/endpoints/echo", {"env": {"A": "1"}})
    status = EndpointStatus(
        endpoint_id=made["id"],
        state=EndpointState.UPDATING,
        message="exited with code 7",
        revision=2,
        good_revision=1,
        failed_revision=2,
        fencing_token=1,
        updated_at=CLOCK.utc(),
    )
    await Bucket(api.bus, subjects.ENDPOINT_STATUS).put(made["id"], status.encode())

    async def went_back() -> bool:
        return bool((await api.show("echo"))["revision"] == 3)

    await eventually(went_back)
    record = await api.record(made["id"])
    assert (record.spec.env, record.same_as) == ({}, (1,))
    assert record.revision_why is not None
    assert "exited with code 7" in record.revision_why
    # The old verdict says nothing of the revision after it.
    patched = await api.ask("PATCH", "/v1/endpoints/echo", {"env": {"A": "2"}})
    assert patched.document["revision"] == 4
    assert await revisions(api) == [
        (4, "updated"),
        (3, "rolled_back"),
        (2, "updated"),
        (1, "created"),
    ]
