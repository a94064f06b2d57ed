"""The typed client against a real api, and against what is none."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from penstock_client.client import PenstockClient
from penstock_client.errors import ApiError, NotServingError, UnreachableError, WaitTimeoutError
from penstock_common.states import EndpointState
from tests.support.api_server import ADMIN_KEY, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

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
    made = await client.endpoints.create({"app_name": "echo", "image": {"image": "acme/echo"}})
    assert made.raw == await api.show("echo")
    assert (await client.endpoints.show("echo")).id == made.id
    assert [e.id for e in (await client.endpoints.list().whole()).endpoints] == [made.id]
    assert (await client.endpoints.update("echo", {"public": True})).public
    assert (await client.endpoints.pause("echo")).state is EndpointState.PAUSED
    assert (await client.endpoints.resume("echo")).state is EndpointState.DEPLOYING
    begun = await client.endpoints.share_traffic("echo", 10, {"env": {"COLOUR": "blue"}})
    assert (begun.revision, begun.canary and begun.canary.percent) == (2, 10)
    assert (await client.endpoints.promote("echo")).canary is None
    await client.endpoints.share_traffic("echo", 10, {"env": {"COLOUR": "red"}})
    assert (await client.endpoints.abort("echo")).env == {"COLOUR": "blue"}
    assert (await client.workers.list("echo").whole()).workers == ()
    assert (await client.nodes.list().whole()).nodes == ()
    assert (await client.endpoints.delete("echo")).deleted_at is not None
    key = await client.api_keys.create({"name": "ours", "scope": "deploy", "max_gpus": 2})
    assert [k.id for k in (await client.api_keys.list().whole()).api_keys] == ["key-admin", key.id]
    assert (await client.api_keys.update(key.id, {"max_gpus": 3})).max_gpus == 3
    assert (await client.api_keys.show(key.id)).max_gpus == 3
    assert (await client.api_keys.revoke(key.id)).revoked_at is not None
    usage = await client.usage.show(since="2020-01-01T00:00:00+00:00")
    assert (usage.from_.year, usage.group_by, usage.rows) == (2020, "endpoint", ())


async def test_volumes_prewarms_and_registry_auths_have_typed_methods(
    client: PenstockClient,
) -> None:
    document = {"name": "ours", "username": "robot", "password": "secret-1"}
    auth = await client.registry_auths.create(document)
    assert [found.id async for found in client.registry_auths.list()] == [auth.id]
    assert (await client.registry_auths.show(auth.id)).username == "robot"
    source = {"type": "nfs", "server": "10.0.0.9", "path": "/models"}
    volume = await client.volumes.create({"name": "models", "source": source})
    assert (await client.volumes.rename(volume.id, "weights")).name == "weights"
    assert [found.name async for found in client.volumes.list()] == ["weights"]
    assert (await client.volumes.show(volume.id)).source == volume.source
    assert (await client.volumes.delete(volume.id)).id == volume.id
    prewarm = await client.prewarms.create({"image": "acme/echo", "registry_auth_id": auth.id})
    assert [found.id async for found in client.prewarms.list()] == [prewarm.id]
    assert (await client.prewarms.show(prewarm.id)).image == "acme/echo"
    with pytest.raises(ApiError) as caught:
        await client.registry_auths.delete(auth.id)
    assert caught.value.reason == "registry_auth_in_use"
    assert (await client.prewarms.delete(prewarm.id)).id == prewarm.id
    assert (await client.registry_auths.delete(auth.id)).id == auth.id


async def test_webhooks_have_typed_methods(client: PenstockClient) -> None:
    made = await client.webhooks.create({"url": "https://receiver.invalid/", "enabled": False})
    assert made.secret.startswith("whsec_")
    assert [found.id async for found in client.webhooks.list()] == [made.id]
    rotated = await client.webhooks.rotate_secret(made.id, grace_s=60)
    assert rotated.secret != made.secret
    assert rotated.previous_secret_until is not None
    with pytest.raises(ApiError) as caught:
        await client.webhooks.test(made.id)
    assert caught.value.reason == "webhook_disabled"
    assert (await client.webhooks.update(made.id, {"enabled": True})).enabled
    begun = await client.webhooks.test(made.id)
    tried = await client.webhooks.wait_for_attempt(made.id, begun.event_id, after=0, timeout_s=60)
    assert tried.attempts[0].error is not None
    assert (await client.webhooks.redeliver(made.id, begun.event_id)).event_id == begun.event_id
    listed = [found.event_id async for found in client.webhooks.deliveries(made.id, page_size=1)]
    assert listed == [begun.event_id]

    async def is_failing() -> bool:
        return (await client.webhooks.show(made.id)).last_error is not None

    assert await eventually(is_failing)
    assert (await client.webhooks.delete(made.id)).id == made.id
    with pytest.raises(ApiError) as caught:
        await client.webhooks.show(made.id)
    assert caught.value.status == 404


async def test_a_list_is_had_over_all_its_pages(client: PenstockClient, api: ApiServer) -> None:
    names = [f"echo-{n}" for n in range(5)]
    for name in names:
        await client.endpoints.create({"app_name": name, "image": {"image": "acme/echo"}})
    listing = client.endpoints.list(page_size=2)
    assert [len(page.endpoints) async for page in listing.pages()] == [2, 2, 1]
    assert [endpoint.app_name async for endpoint in listing] == names
    assert (await listing.whole()).raw == (await client.endpoints.list().whole()).raw
    await client.endpoints.pause("echo-3")
    paused = client.endpoints.list(state=EndpointState.PAUSED, page_size=1)
    assert [endpoint.app_name async for endpoint in paused] == ["echo-3"]
    found = client.endpoints.list(name_part="O-4")
    assert [endpoint.app_name async for endpoint in found] == ["echo-4"]


async def test_a_refusal_carries_the_problem(client: PenstockClient) -> None:
    with pytest.raises(ApiError) as caught:
        await client.endpoints.create({"app_name": "v1", "image": {}})
    assert (caught.value.status, caught.value.reason) == (422, "invalid_document")
    assert {e.pointer for e in caught.value.problem.errors} == {"/app_name", "/image"}
    with pytest.raises(ApiError, match="no endpoint"):
        await client.endpoints.show("a/b ?#%")


async def test_the_waits_end_as_they_should(client: PenstockClient, api: ApiServer) -> None:
    made = await client.endpoints.create({"app_name": "echo", "image": {"image": "acme/echo"}})
    with pytest.raises(WaitTimeoutError, match="is deploying"):
        await client.endpoints.wait_until_serving("echo", timeout_s=0.3)
    await api.say(made.id, EndpointState.SERVING)
    assert (await client.endpoints.wait_until_serving("echo", timeout_s=60)).id == made.id
    await client.endpoints.pause("echo")
    with pytest.raises(NotServingError, match="paused"):
        await client.endpoints.wait_until_serving("echo", timeout_s=60)
    with pytest.raises(ApiError, match="nobody"):
        await client.endpoints.wait_until_serving("nobody", timeout_s=60)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.endpoints.wait_until_gone("echo", timeout_s=60))
        await client.endpoints.delete("echo")
        await api.say(made.id, EndpointState.DELETING)
    async with PenstockClient(api.url, "wrong") as stranger:
        with pytest.raises(ApiError, match="not known"):
            await stranger.endpoints.wait_until_gone("echo", timeout_s=60)


async def test_a_wait_outlives_an_api_that_is_away(nats_server: NatsServer, tmp_path: Path) -> None:
    first = ApiServer(nats_server, tmp_path / "api")
    await first.start()
    made = await first.create()
    await first.say(made["id"], EndpointState.SERVING)
    async with PenstockClient(first.url, ADMIN_KEY) as client:
        await first.stop()
        wait = asyncio.create_task(client.endpoints.wait_until_serving("echo", timeout_s=60))
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
                await client.nodes.list().whole()
            with pytest.raises(UnreachableError, match="does not understand"):
                await client.endpoints.list().whole()
    finally:
        await runner.cleanup()
    async with PenstockClient(f"http://127.0.0.1:{port}", "key") as client:
        with pytest.raises(UnreachableError, match="cannot be reached"):
            await client.nodes.list().whole()
    async with PenstockClient("http://[nonsense", "key") as client:
        with pytest.raises(UnreachableError):
            await client.nodes.list().whole()


async def test_an_answer_that_stays_away_is_given_up(api: ApiServer) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with PenstockClient(f"http://127.0.0.1:{port}", "key", timeout_s=0.2) as client:
        with pytest.raises(UnreachableError, match=r"within 0\.2 s"):
            await client.nodes.list().whole()
    server.close()
