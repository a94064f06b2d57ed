"""PUT and plan over HTTP: whole documents, with a real nats-server behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import Answer, ApiServer, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

ECHO: dict[str, Any] = {"app_name": "echo", "image": {"image": "acme/echo"}, "gpu": {"count": 0}}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def put(api: ApiServer, document: object, name: str = "echo", **headers: str) -> Answer:
    told = {key.replace("_", "-"): value for key, value in headers.items()}
    return await api.ask("PUT", f"/v1/endpoints/{name}", document, headers=told)


async def plan(api: ApiServer, document: object, name: str = "echo") -> Any:
    """The plan, with its tag as a member."""
    answer = await api.ask("POST", f"/v1/endpoints/{name}/plan", document)
    assert answer.status == 200, answer
    return {**answer.document, "etag": answer.headers.get("ETag")}


async def test_a_document_makes_the_endpoint_and_then_is_all_that_it_is(api: ApiServer) -> None:
    planned = await plan(api, ECHO)
    assert (planned["creates"], planned["etag"]) == (True, None)
    assert (await api.ask("GET", "/v1/endpoints/echo")).status == 404  # a plan does nothing

    made = await put(api, {**ECHO, "env": {"A": "1"}, "secrets": {"S": "x"}}, If_None_Match="*")
    assert made.status == 201
    assert made.headers["Location"] == f"/v1/endpoints/{made.document['id']}"

    planned = await plan(api, {**ECHO, "workers": {"max": 7}, "secrets": {"S": "x"}})
    assert planned["etag"] == made.headers["ETag"]
    assert [(c["pointer"], c["replaces_workers"]) for c in planned["changes"]] == [
        ("/env/A", True),
        ("/workers/max", False),
    ]
    assert planned["secrets_kept"] == ["S"]

    changed = await put(
        api, {**ECHO, "workers": {"max": 7}, "secrets": {"S": "x"}}, If_Match=planned["etag"]
    )
    assert (changed.status, changed.document["revision"]) == (200, planned["revision"])
    assert (changed.document["env"], changed.document["secrets"]) == ({}, ["S"])
    again = await put(api, {**ECHO, "workers": {"max": 7}, "secrets": {"S": "x"}})
    assert again.headers["ETag"] == changed.headers["ETag"]
    assert (await plan(api, {**ECHO, "workers": {"max": 7}}))["changes"] == []


async def test_a_change_since_the_plan_is_not_overwritten(api: ApiServer) -> None:
    await put(api, ECHO)
    planned = await plan(api, {**ECHO, "workers": {"max": 7}})
    await api.ask("PATCH", "/v1/endpoints/echo", {"workers": {"max": 5}})
    refused = await put(api, {**ECHO, "workers": {"max": 7}}, If_Match=planned["etag"])
    assert (refused.status, refused.document["reason"]) == (412, "precondition_failed")
    assert (await api.show("echo"))["workers"]["max"] == 5

    refused = await put(api, ECHO, If_None_Match="*")
    assert (refused.status, refused.document["reason"]) == (412, "precondition_failed")
    refused = await put(api, {**ECHO, "app_name": "new"}, "new", If_Match='"1"')
    assert (refused.status, refused.document["reason"]) == (412, "precondition_failed")
    refused = await put(api, ECHO, If_None_Match='"1"')
    assert (refused.status, refused.document["reason"]) == (400, "malformed_if_none_match")


async def test_of_many_who_make_it_at_once_one_does(api: ApiServer) -> None:
    answers = await asyncio.gather(*(put(api, ECHO, If_None_Match="*") for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [201] + [412] * 9
    answers = await asyncio.gather(
        *(put(api, {**ECHO, "app_name": "many"}, "many") for _ in range(10))
    )
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]


async def test_a_name_is_one_in_the_url_and_in_the_document(api: ApiServer) -> None:
    refused = await put(api, ECHO, "other")
    assert [e["pointer"] for e in refused.document["errors"]] == ["/app_name"]
    unknown = await put(api, ECHO, "ep-0000000000000")
    assert (unknown.status, unknown.document["reason"]) == (404, "endpoint_not_found")

    made = (await put(api, ECHO)).document
    renamed = await put(api, {**ECHO, "app_name": "other"}, made["id"])
    assert (renamed.status, renamed.document["app_name"]) == (200, "other")
    await put(api, ECHO)
    taken = await put(api, {**ECHO, "app_name": "other"})
    assert (taken.status, taken.document["reason"]) == (409, "app_name_taken")
    planned = await api.ask("POST", "/v1/endpoints/echo/plan", {**ECHO, "app_name": "other"})
    assert (planned.status, planned.document["reason"]) == (409, "app_name_taken")


async def test_a_plan_refuses_what_the_write_would(api: ApiServer) -> None:
    for document in ({**ECHO, "image": {"imag": "x"}}, {**ECHO, "env": {"A": "x" * 200_000}}):
        for path in ("", "/plan"):
            method = "POST" if path else "PUT"
            refused = await api.ask(method, f"/v1/endpoints/echo{path}", document)
            assert refused.status == (422 if "imag" in document["image"] else 413)
    key = (await api.ask("POST", "/v1/api-keys", {"name": "k", "scope": "deploy"})).document["key"]
    await put(api, ECHO)
    for method, path in (("PUT", "echo"), ("POST", "echo/plan")):
        refused = await api.ask(method, f"/v1/endpoints/{path}", ECHO, key=key)
        assert refused.status == 403
