"""Deliveries of webhooks outlive the api that makes them and the server that holds them."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.api_process import api_process
from tests.support.api_server import ADMIN_KEY, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.webhook_receiver import Taken, running_receiver

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PATH = "/v1/webhooks"
SETTINGS: dict[str, Any] = {
    "webhook_allowed_networks": "127.0.0.0/8",
    "webhook_retry_s": 0.05,
    # A receiver that stalls for a moment is not asked again.
    "webhook_timeout_s": 20,
}
#: After twice as long, and one second, another api makes what one has left behind.
LEAVES_S = 3.0
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
    settings = SETTINGS | {"webhook_timeout_s": LEAVES_S}
    environment = {f"PENSTOCK_API_{name.upper()}": str(value) for name, value in settings.items()}
    async with (
        running_receiver() as receiver,
        api_process(nats_server, folder, **environment) as first,
    ):
        killed, answered = asyncio.Event(), asyncio.Event()

        async def kill_first(_: Taken) -> web.Response:
            await answered.wait()  # what it tells of is told before its maker has its answer
            if not killed.is_set():
                os.kill(first.pid, signal.SIGKILL)
                killed.set()
            return web.Response()

        receiver.respond = kill_first
        document = {"url": receiver.url}
        async with first.session.post(PATH, json=document, headers=HEADERS) as answer:
            made = await answer.json()
        endpoint = {"app_name": "echo", "image": {"image": "acme/echo"}}
        async with first.session.post("/v1/endpoints", json=endpoint, headers=HEADERS) as answer:
            assert answer.status == 201
        answered.set()
        await killed.wait()
        await receiver.until(1)
        n_before = len(receiver.taken)  # one, unless the api was so slow that it tried again

        async with running_api(nats_server, folder, **settings) as second:
            taken = await receiver.until(n_before + 1)
            once, again = taken[0], taken[n_before]
            assert again.id == once.id
            assert again.body == once.body
            assert again.signed_with(made["secret"])
            shown = await delivery(second, made["id"], once.id)
            assert len(shown["attempts"]) == n_before, "of the last one nobody could write"


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

        async def create_at(api: ApiServer, name: str) -> None:
            for n in range(20):
                await api.create(f"{name}-{n}")

        await asyncio.gather(create_at(one, "one"), create_at(other, "other"))
        taken = await receiver.until(40)

        async def all_are_delivered() -> bool:
            path = f"{PATH}/{made['id']}"
            found = (await other.ask("GET", f"{path}/deliveries?state=delivered")).document
            waiting = (await other.ask("GET", path)).document["waiting"]
            return (len(found["deliveries"]), waiting) == (40, 0)

        await eventually(all_are_delivered)
        assert len({one.id for one in taken}) == len(taken) == 40
