"""Deliveries of webhooks outlive the api that makes them and the server that holds them."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from penstock_common import sealing
from tests.support.api_server import ADMIN_KEY, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.service_process import service_process
from tests.support.webhook_receiver import Taken, running_receiver

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PATH = "/v1/webhooks"
SETTINGS: dict[str, Any] = {
    "webhook_allowed_networks": "127.0.0.0/8",
    "webhook_retry_s": 0.05,
    "webhook_timeout_s": 0.5,
}
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


async def delivery(api: ApiServer, webhook_id: str, event_id: str) -> Any:
    """The delivery once it has succeeded."""

    async def is_delivered() -> Any:
        answer = await api.ask("GET", f"{PATH}/{webhook_id}/deliveries/{event_id}")
        delivered = answer.status == 200 and answer.document["state"] == "delivered"
        return answer.document if delivered else None

    return await eventually(is_delivered)


async def test_an_api_killed_before_it_noted_the_answer_means_the_same_event_again(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    folder = tmp_path / "api"
    folder.mkdir()
    (folder / "admin.key").write_text(ADMIN_KEY)
    (folder / "secret.key").write_text(sealing.new_key())
    own = {
        "nats_url": nats_server.url,
        "port": 0,
        "admin_key_file": folder / "admin.key",
        "secret_key_file": folder / "secret.key",
    }
    async with (
        running_receiver() as receiver,
        service_process("api", tmp_path, **own, **SETTINGS) as first,
        aiohttp.ClientSession(headers=HEADERS) as session,
    ):

        async def die_first(_: Taken) -> web.Response:
            if first.process.returncode is None:
                first.process.kill()
                await first.process.wait()
            return web.Response()

        receiver.respond = die_first
        url = (await first.ready())["X_URL"]
        async with session.post(url + PATH, json={"url": receiver.url}) as answer:
            made = await answer.json()
        endpoint = {"app_name": "echo", "image": {"image": "acme/echo"}}
        async with session.post(f"{url}/v1/endpoints", json=endpoint) as answer:
            assert answer.status == 201
        await receiver.until(1)
        await first.process.wait()

        async with running_api(nats_server, folder, **SETTINGS) as second:
            once, again = await receiver.until(2)
            assert again.id == once.id
            assert again.body == once.body
            assert again.signed_with(made["secret"])
            shown = await delivery(second, made["id"], once.id)
            assert len(shown["attempts"]) == 1, "of the other one nobody could write"


async def test_what_waits_is_delivered_after_a_restart_of_nats(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    well = False

    async def respond(_: Taken) -> web.Response:
        return web.Response(status=200 if well else 500)

    async with (
        running_receiver() as receiver,
        running_api(nats_server, tmp_path / "api", **SETTINGS) as api,
    ):
        receiver.respond = respond
        made = (await api.ask("POST", PATH, {"url": receiver.url})).document
        await api.create("echo")
        await receiver.until(2)
        nats_server.kill()
        nats_server.start()
        well = True
        shown = await delivery(api, made["id"], receiver.taken[0].id)
        assert [attempt["n"] for attempt in shown["attempts"]] == [
            *range(1, len(shown["attempts"]) + 1)
        ]
        assert {taken.id for taken in receiver.taken} == {shown["event_id"]}


async def test_several_apis_deliver_each_event_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_receiver() as receiver, AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(running_api(nats_server, tmp_path / "api", **SETTINGS))
            for _ in range(2)
        ]
        made = (await one.ask("POST", PATH, {"url": receiver.url})).document
        await asyncio.gather(
            *(api.create(f"echo-{n}-{m}") for m, api in enumerate((one, other)) for n in range(20))
        )
        taken = await receiver.until(40)

        async def all_are_delivered() -> bool:
            path = f"{PATH}/{made['id']}"
            found = (await other.ask("GET", f"{path}/deliveries?state=delivered")).document
            waiting = (await other.ask("GET", path)).document["waiting"]
            return (len(found["deliveries"]), waiting) == (40, 0)

        await eventually(all_are_delivered)
        assert len({one.id for one in taken}) == len(taken) == 40
