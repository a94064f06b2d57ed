"""`penstock worker logs` and `penstock endpoint logs`, and the client below them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_client.client import PenstockClient
from penstock_client.documents import LogEndDocument, LogLineDocument
from penstock_client.errors import ApiError
from penstock_common.states import WorkerState
from tests.support.api_server import ADMIN_KEY, ApiServer, running_api
from tests.support.commands import command, run
from tests.support.log_writer import Writer, writer_of
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def gone_worker(api: ApiServer) -> Writer:
    writer = await writer_of(api)
    await writer.write("one", "two")
    await writer.write("three", ended=True)
    return writer


async def test_a_worker_s_lines_are_printed_though_it_is_gone(api: ApiServer) -> None:
    await gone_worker(api)
    await api.create("other")

    assert await run(api, "worker", "logs", "wk-1") == (0, "one\ntwo\nthree\n", "")
    assert await run(api, "worker", "logs", "wk-1", "--tail", "1") == (0, "three\n", "")
    code, out, _ = await run(api, "worker", "logs", "wk-1", "--json")
    assert [json.loads(line)["n"] for line in out.splitlines()] == [1, 2, 3]
    assert code == 0


async def test_an_endpoint_s_lines_stand_behind_their_workers(api: ApiServer) -> None:
    await gone_worker(api)
    await (await writer_of(api, "wk-2")).write("four")

    code, out, err = await run(api, "endpoint", "logs", "echo")

    assert (code, err) == (0, "")
    assert out == "wk-1 one\nwk-1 two\nwk-1 three\nwk-2 four\n"


async def test_an_unknown_worker_is_refused(api: ApiServer) -> None:
    await gone_worker(api)

    code, out, err = await run(api, "worker", "logs", "wk-none")

    assert (code, out) == (5, "")
    assert "no worker 'wk-none'" in err


async def test_following_goes_on_until_one_leaves(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one")
    process = await command(api, "worker", "logs", "wk-1", "--follow")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"one\n"
        await writer.write("two")
        assert await process.stdout.readline() == b"two\n"
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_following_ends_with_the_worker(api: ApiServer) -> None:
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one")
    process = await command(api, "worker", "logs", "wk-1", "-f")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"one\n"
        await writer.write("two", ended=True)
        await writer.say(WorkerState.FAILED)
        out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"two\n")


async def test_the_client_goes_on_behind_the_last_line_when_the_api_restarts(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    port, folder = free_port(), tmp_path / "api"
    async with PenstockClient(f"http://127.0.0.1:{port}", ADMIN_KEY) as client:
        lines = client.workers.logs("echo", "wk-1", follow=True)
        async with running_api(nats_server, folder, port=port) as first:
            writer = await writer_of(first)
            await writer.assign()
            await writer.write("one", "two")
            seen = [await anext(lines), await anext(lines)]
            # The next answer is waited for while the api goes and comes back.
            waiting = asyncio.ensure_future(anext(lines))
        async with running_api(nats_server, folder, port=port) as second:
            writer.api = second
            await writer.write("three", ended=True)
            await writer.say(WorkerState.FAILED)
            seen += [await waiting, await anext(lines)]
    texts = [document.text for document in seen if isinstance(document, LogLineDocument)]
    assert texts == ["one", "two", "three"]
    assert isinstance(seen[-1], LogEndDocument)
    assert seen[-1].why == "ended"


async def test_the_client_tells_a_refusal(api: ApiServer) -> None:
    await api.create("echo")
    async with PenstockClient(api.url, ADMIN_KEY) as client:
        with pytest.raises(ApiError) as caught:
            await anext(client.workers.logs("echo", "wk-none"))
    assert (caught.value.status, caught.value.reason) == (404, "worker_not_found")
