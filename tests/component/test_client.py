"""The typed client against a real api, and against what is none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from penstock_client import blocking
from penstock_client.client import PenstockClient
from penstock_client.errors import ApiError, NotServingError, UnreachableError, WaitTimeoutError
from penstock_common.states import EndpointState
from tests.support.api_server import ADMIN_KEY, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer, free_port

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[PenstockClient]:
    async with PenstockClient(api.url + "/", ADMIN_KEY) as connected:
        yield connected


async def test_every_route_has_a_typed_method(client: PenstockClient, api: ApiServer) -> None:
    made = await client.create_endpoint({"app_name": "echo", "image": {"image": "acme/echo"}})
    assert made.raw == await api.show("echo")
    assert (await client.show_endpoint("echo")).id == made.id
    assert [e.id for e in (await client.list_endpoints()).endpoints] == [made.id]
    assert (await client.update_endpoint("echo", {"public": True})).public
    assert (await client.pause_endpoint("echo")).state is EndpointState.PAUSED
    assert (await client.resume_endpoint("echo")).state is EndpointState.DEPLOYING
    begun = await client.share_traffic("echo", 10, {"env": {"COLOUR": "blue"}})
    assert (begun.revision, begun.canary and begun.canary.percent) == (2, 10)
    assert (await client.promote("echo")).canary is None
    await client.share_traffic("echo", 10, {"env": {"COLOUR": "red"}})
    assert (await client.abort("echo")).env == {"COLOUR": "blue"}
    assert (await client.list_workers("echo")).workers == ()
    assert (await client.list_nodes()).nodes == ()
    assert (await client.delete_endpoint("echo")).deleted_at is not None
    key = await client.create_api_key({"name": "ours", "scope": "deploy", "max_gpus": 2})
    assert [k.id for k in (await client.list_api_keys()).api_keys] == ["key-admin", key.id]
    assert (await client.update_api_key(key.id, {"max_gpus": 3})).max_gpus == 3
    assert (await client.revoke_api_key(key.id)).revoked_at is not None
    usage = await client.show_usage(since="2020-01-01T00:00:00+00:00")
    assert (usage.from_.year, usage.group_by, usage.rows) == (2020, "endpoint", ())


async def test_a_refusal_carries_the_problem(client: PenstockClient) -> None:
    with pytest.raises(ApiError) as caught:
        await client.create_endpoint({"app_name": "v1", "image": {}})
    assert (caught.value.status, caught.value.reason) == (422, "invalid_document")
    assert {e.pointer for e in caught.value.problem.errors} == {"/app_name", "/image"}
    with pytest.raises(ApiError, match="no endpoint"):
        await client.show_endpoint("a/b ?#%")


async def test_the_waits_end_as_they_should(client: PenstockClient, api: ApiServer) -> None:
    made = await client.create_endpoint({"app_name": "echo", "image": {"image": "acme/echo"}})
    with pytest.raises(WaitTimeoutError, match="is deploying"):
        await client.wait_until_serving("echo", timeout_s=0.3)
    await api.say(made.id, EndpointState.SERVING)
    assert (await client.wait_until_serving("echo", timeout_s=5)).id == made.id
    await client.pause_endpoint("echo")
    with pytest.raises(NotServingError, match="paused"):
        await client.wait_until_serving("echo", timeout_s=5)
    with pytest.raises(ApiError, match="nobody"):
        await client.wait_until_serving("nobody", timeout_s=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.wait_until_gone("echo", timeout_s=10))
        await client.delete_endpoint("echo")
        await api.say(made.id, EndpointState.DELETING)
    async with PenstockClient(api.url, "wrong") as stranger:
        with pytest.raises(ApiError, match="not known"):
            await stranger.wait_until_gone("echo", timeout_s=5)


async def test_a_wait_outlives_an_api_that_is_away(nats_server: NatsServer, tmp_path: Path) -> None:
    first = ApiServer(nats_server, tmp_path / "api")
    await first.start()
    made = await first.create()
    await first.say(made["id"], EndpointState.SERVING)
    async with PenstockClient(first.url, ADMIN_KEY) as client:
        await first.stop()
        wait = asyncio.create_task(client.wait_until_serving("echo", timeout_s=20))
        second = ApiServer(nats_server, tmp_path / "api", port=first.settings.port)
        await second.start()
        try:
            assert (await wait).id == made["id"]
        finally:
            await second.stop()


async def test_what_is_no_api_is_said_to_be_none(api: ApiServer) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async def other_json(_: web.Request) -> web.Response:
        return web.json_response({"endpoints": [{"id": 1}]})

    app = web.Application()
    app.router.add_get("/v1/nodes", page)
    app.router.add_get("/v1/endpoints", other_json)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with PenstockClient(f"http://127.0.0.1:{port}", "key") as client:
            with pytest.raises(UnreachableError, match="no Penstock api"):
                await client.list_nodes()
            with pytest.raises(UnreachableError, match="does not understand"):
                await client.list_endpoints()
    finally:
        await runner.cleanup()
    async with PenstockClient(f"http://127.0.0.1:{port}", "key") as client:
        with pytest.raises(UnreachableError, match="cannot be reached"):
            await client.list_nodes()
    async with PenstockClient("http://[nonsense", "key") as client:
        with pytest.raises(UnreachableError):
            await client.list_nodes()


async def test_an_answer_that_stays_away_is_given_up(api: ApiServer) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with PenstockClient(f"http://127.0.0.1:{port}", "key", timeout_s=0.2) as client:
        with pytest.raises(UnreachableError, match=r"within 0\.2 s"):
            await client.list_nodes()
    server.close()


async def test_code_without_a_loop_asks_by_the_facade(api: ApiServer) -> None:
    await api.create()
    listed = await asyncio.to_thread(
        blocking.ask, api.url, ADMIN_KEY, lambda client: client.list_endpoints()
    )
    assert [endpoint.app_name for endpoint in listed.endpoints] == ["echo"]
    await eventually(lambda: api.show("echo"))
