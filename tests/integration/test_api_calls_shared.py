"""Several api processes share the calls over NATS: what one has done the others know."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.api_process import ApiProcess, api_settings
from tests.support.nats_calls import Reply, calling
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def apis(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[list[ApiProcess]]:
    env = api_settings(nats_server, tmp_path)
    # The first makes the streams; the second finds them.
    running = [await ApiProcess.ready(env), await ApiProcess.ready(env)]
    yield running
    for api in running:
        await api.stop()
    for api in running:
        assert b"Traceback" not in api.log, api.log.decode()


async def test_whichever_answers_knows_what_was_done_before(
    nats_server: NatsServer, apis: list[ApiProcess]
) -> None:
    async with calling(nats_server.url) as caller:
        for n in range(25):
            app = f"echo-{n}"
            created = await caller.create(app)
            assert created.status == 200, created.document
            shown = await caller.call("endpoint.get", {"endpoint": app})
            assert shown.document == created.document
            change = {"endpoint": app, "change": {"workers": {"max": 7}}}
            assert (await caller.call("endpoint.update", change)).status == 200
            shown = await caller.call("endpoint.get", {"endpoint": app})
            assert shown.document["workers"]["max"] == 7
            assert (await caller.create(app)).document["reason"] == "app_name_taken"
    for api in apis:
        await api.stop()
        assert b'"call_answered"' in api.log, "it got no call at all"


async def test_one_ends_under_calls_and_none_is_lost(
    nats_server: NatsServer, apis: list[ApiProcess]
) -> None:
    stopping = asyncio.Event()

    async def call_on(number: int) -> list[Reply]:
        answers: list[Reply] = []
        async with calling(nats_server.url) as caller:
            while not stopping.is_set():
                answers.append(await caller.create(f"echo-{number}-{len(answers)}"))
        return answers

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call_on(number)) for number in range(4)]
        async with calling(nats_server.url) as caller:
            await caller.create("before")
            assert await apis[0].stop(signal.SIGTERM) == 0
            await caller.create("after")
        stopping.set()
    answered = [reply for task in callers for reply in task.result()]
    assert {reply.status for reply in answered} == {200}
    async with calling(nats_server.url) as caller:
        listed = (await caller.call("endpoint.list")).document["endpoints"]
    assert len(listed) == len(answered) + 2
