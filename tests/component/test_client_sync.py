"""The synchronous client against a real api, in scripts of their own."""

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import assert_type

import pytest

from penstock_client.calls.logs import LogDocument
from penstock_client.documents import EndpointDocument, EndpointList, NodeDetail, UsageReport
from penstock_client.sync.client import PenstockSyncClient
from penstock_common.states import WorkerState
from tests.support.api_server import ADMIN_KEY, ApiServer, running_api
from tests.support.flaky_proxy import LOSE, Refuse, flaky_proxy
from tests.support.log_writer import writer_of
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

BEGIN = """
import asyncio, os, socket, sys, threading
from penstock_client.errors import *
from penstock_client.retrying import RetryPolicy
from penstock_client.sync.client import PenstockSyncClient

url, key = sys.argv[1:]
ECHO = {"app_name": "echo", "image": {"image": "acme/echo"}}

def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ApiError as error:
        return error.reason
    raise AssertionError("it was not refused")

def sockets():
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    found = []
    for link in links:
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:
            pass  # the list's own
    return [name for name in found if name.startswith("socket:")]

before = sockets()
"""
END = """
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert sockets() == before, sockets()
"""


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def run(url: str, script: str) -> str:
    """What a script prints that ends well, where every warning is an error."""
    text = BEGIN + textwrap.dedent(script) + END
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", text, url, ADMIN_KEY),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


async def test_a_script_has_every_call_and_leaves_nothing_behind(api: ApiServer) -> None:
    await run(
        api.url,
        """
        with PenstockSyncClient(url, key) as client:
            made = client.endpoints.create(ECHO)
            assert client.endpoints.show("echo") == made
            assert [e.app_name for e in client.endpoints.list(page_size=1)] == ["echo"]
            assert client.endpoints.update("echo", {"public": True}, if_match=made.etag).public
            stale = client.endpoints.update
            assert refused(stale, "echo", {}, if_match=made.etag) == "precondition_failed"
            assert refused(client.endpoints.show, "nobody") == "endpoint_not_found"
            assert list(client.workers.list("echo")) == []
            assert client.nodes.list().whole().nodes == ()
            try:
                client.endpoints.wait_until_serving("echo", timeout_s=0.2)
            except WaitTimeoutError as error:
                assert "is deploying" in str(error)
            else:
                raise AssertionError("it serves")
            client.endpoints.delete("echo")
        try:
            client.endpoints.show("echo")
        except RuntimeError as error:
            assert "closed" in str(error)
        else:
            raise AssertionError("it is still open")
        """,
    )


async def test_lines_come_as_they_are_written_and_may_be_left_midway(api: ApiServer) -> None:
    await api.create("echo")
    writer = await writer_of(api)
    await writer.assign()
    await writer.write("one", "two")
    script = """
        client = PenstockSyncClient(url, key)
        for line in client.workers.logs("echo", "wk-1", follow=True):
            print(line.text, flush=True)
            break
        left = client.endpoints.logs("echo", follow=True)
        print(next(left).text)
        client.close()
        del left
        """
    assert await run(api.url, script) == "one\none\n"
    await writer.write("three", ended=True)
    await writer.say(WorkerState.FAILED)
    script = """
        with PenstockSyncClient(url, key) as client:
            *lines, end = client.workers.logs("echo", "wk-1", follow=True)
            print(*(line.text for line in lines), end.why)
        """
    assert await run(api.url, script) == "one two three ended\n"


async def test_it_works_where_an_event_loop_runs_already_and_from_many_threads(
    api: ApiServer,
) -> None:
    await run(
        api.url,
        """
        async def cell():  # as in a notebook
            with PenstockSyncClient(url, key) as client:
                return client.endpoints.create(ECHO)

        made = asyncio.run(cell())
        with PenstockSyncClient(url, key) as client:
            seen = []
            threads = [
                threading.Thread(target=lambda: seen.append(client.endpoints.show("echo")))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert seen == [made] * 8
        """,
    )


async def test_it_sends_again_what_failed(api: ApiServer) -> None:
    async with flaky_proxy(api.url) as proxy:
        proxy.faults += [LOSE, Refuse(503, {"Retry-After": "0"}, "nats_disconnected")]
        await run(
            proxy.url,
            """
            with PenstockSyncClient(url, key) as client:
                made = client.endpoints.create(ECHO)
                assert len(list(client.endpoints.list())) == 1
            """,
        )
        assert [seen.method for seen in proxy.seen] == ["POST"] * 3 + ["GET"]
        assert len({seen.headers.get("Idempotency-Key") for seen in proxy.seen[:3]}) == 1


async def test_what_is_no_api_and_what_is_silent_are_told(api: ApiServer) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    script = """
        once = RetryPolicy(max_attempts=1)
        for wrong in ("http://[nonsense", "127.0.0.1:1", "http://127.0.0.1:1", url):
            with PenstockSyncClient(wrong, key, timeout_s=0.2, retry=once) as client:
                try:
                    client.nodes.show("node-a")
                except UnreachableError as error:
                    print("within" in str(error), "cannot be reached" in str(error))
        """
    told = await run(f"http://127.0.0.1:{port}", script)
    assert told.splitlines() == ["False True"] * 3 + ["True False"]
    silent.close()


def _types(client: PenstockSyncClient) -> None:
    """Read by mypy alone: every call says what it gives."""
    assert_type(client.endpoints.show("echo"), EndpointDocument)
    assert_type(client.endpoints.list().whole(), EndpointList)
    assert_type(iter(client.endpoints.list()), Iterator[EndpointDocument])
    assert_type(client.nodes.drain("node-a"), NodeDetail)
    assert_type(client.usage.show(), UsageReport)
    assert_type(next(client.endpoints.logs("echo")), LogDocument)
