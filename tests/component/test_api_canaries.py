"""Canaries over HTTP: begun, shared otherwise, promoted, aborted, refused; and back by itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.messages import EndpointStatus
from penstock_common.nats.kv import Bucket
from penstock_common.states import EndpointState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
PATH = "/v1/endpoints/echo"
BLUE = {"env": {"COLOUR": "blue"}}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        await server.create("echo")
        yield server


async def begin(api: ApiServer, percent: int = 10) -> dict[str, Any]:
    answer = await api.ask("POST", f"{PATH}/canary", {"percent": percent, "change": BLUE})
    assert answer.status == 200, answer.document
    document: dict[str, Any] = answer.document
    return document


async def causes(api: ApiServer) -> list[tuple[int, str, list[int]]]:
    listed = (await api.ask("GET", f"{PATH}/revisions")).document["revisions"]
    return [(r["revision"], r["cause"], r["same_as"]) for r in listed]


async def test_begun_shared_otherwise_and_promoted(api: ApiServer) -> None:
    begun = await begin(api)
    assert begun["canary"] == {"percent": 10, "stable_revision": 1}
    assert (begun["revision"], begun["env"]) == (2, {"COLOUR": "blue"})
    more = await api.ask("POST", f"{PATH}/canary", {"percent": 50})
    assert more.document["canary"] == {"percent": 50, "stable_revision": 1}
    assert more.document["revision"] == 2
    promoted = await api.ask("POST", f"{PATH}/promote")
    assert (promoted.document["canary"], promoted.document["revision"]) == (None, 2)
    assert promoted.document["env"] == {"COLOUR": "blue"}
    assert await causes(api) == [(2, "updated", []), (1, "created", [])]


async def test_an_abort_goes_back_and_keeps_what_makes_no_revision(api: ApiServer) -> None:
    await begin(api)
    limits = await api.ask("PATCH", PATH, {"workers": {"max": 7}})
    assert (limits.status, limits.document["canary"]["percent"]) == (200, 10)
    aborted = await api.ask("POST", f"{PATH}/abort")
    assert (aborted.document["revision"], aborted.document["canary"]) == (3, None)
    assert aborted.document["env"] == {}
    assert aborted.document["workers"]["max"] == 7
    assert await causes(api) == [
        (3, "rolled_back", [1]),
        (2, "updated", []),
        (1, "created", []),
    ]


async def test_what_a_canary_forbids_is_refused_with_the_way_out(api: ApiServer) -> None:
    for path in ("promote", "abort"):
        answer = await api.ask("POST", f"{PATH}/{path}")
        assert (answer.status, answer.document["reason"]) == (409, "no_canary")
    await begin(api)
    for method, path, body in (
        ("PATCH", PATH, {"env": {"COLOUR": "red"}}),
        ("POST", f"{PATH}/rollback", {}),
        ("POST", f"{PATH}/rollback", {"revision": 1}),
        ("POST", f"{PATH}/canary", {"percent": 20, "change": BLUE}),
    ):
        answer = await api.ask(method, path, body)
        assert (answer.status, answer.document["reason"]) == (409, "canary_running")
        assert "promote or abort" in answer.document["detail"]
    shown = (await api.ask("GET", PATH)).document
    assert (shown["revision"], shown["canary"]["percent"]) == (2, 10)


async def test_wrong_requests_say_what_is_wrong(api: ApiServer) -> None:
    for body, pointer in (
        ({"percent": 0, "change": BLUE}, ""),
        ({"percent": 100, "change": BLUE}, ""),
        ({"percent": 10.5, "change": BLUE}, ""),
        ({"change": BLUE}, ""),
        ({"percent": 10}, "/change"),
        ({"percent": 10, "change": {}}, "/change"),
        ({"percent": 10, "change": {"workers": {"max": 9}}}, "/change"),
        ({"percent": 10, "change": {"image": {"http_prot": 1}}}, "/change/image/http_prot"),
        ({"percent": 10, "change": {"canary": {"percent": 10}, **BLUE}}, "/change/canary"),
    ):
        answer = await api.ask("POST", f"{PATH}/canary", body)
        assert (answer.status, answer.document["reason"]) == (422, "invalid_document")
        assert answer.document["errors"][0]["pointer"] == pointer


async def test_a_canary_that_cannot_start_is_given_up_for_the_stable_revision(
    api: ApiServer,
) -> None:
    begun = await begin(api)
    status = EndpointStatus(
        endpoint_id=begun["id"],
        state=EndpointState.SERVING,
        message="exited with exit code 7",
        revision=2,
        good_revision=1,
        failed_revision=2,
        fencing_token=1,
        updated_at=CLOCK.utc(),
    )
    await Bucket(api.bus, subjects.ENDPOINT_STATUS).put(begun["id"], status.encode())

    async def back() -> dict[str, Any] | None:
        shown = (await api.ask("GET", PATH)).document
        return shown if shown["revision"] == 3 else None

    shown = await eventually(back)
    assert shown is not None
    assert (shown["canary"], shown["env"]) == (None, {})
    (why,) = [
        r["why"]
        for r in (await api.ask("GET", f"{PATH}/revisions")).document["revisions"]
        if r["revision"] == 3
    ]
    assert why == "canary 2 could not start, went back to revision 1: exited with exit code 7"
