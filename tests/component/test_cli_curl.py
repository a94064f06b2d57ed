"""`penstock endpoint curl` with the system's curl, against a server in a router's place."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.component.test_cli_commands import Penstock
from tests.support.api_server import ADMIN_KEY, running_api
from tests.support.nats_server import NatsServer
from tests.support.requirements import require

pytestmark = [pytest.mark.nats, pytest.mark.slow]


class RouterInPlace:
    """Keeps what it was asked, and holds its answers until `release`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization")
        self.asked.append((request.method, request.path_qs, key, await request.read()))
        self.arrived.set()
        await self.release.wait()
        return web.json_response({"ok": True})


@pytest.fixture
async def router() -> RouterInPlace:
    made = RouterInPlace()
    made.release.set()
    return made


@pytest.fixture
async def penstock(
    nats_server: NatsServer, tmp_path: Path, router: RouterInPlace
) -> AsyncIterator[Penstock]:
    require(shutil.which("curl") is not None, "curl")
    async with (
        serving(router) as url,
        running_api(nats_server, tmp_path / "api", router_url=url) as api,
    ):
        await api.create("echo")
        yield Penstock(api, tmp_path)


@asynccontextmanager
async def serving(router: RouterInPlace) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", router.answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


async def test_the_endpoint_is_called_with_what_stands_there(
    penstock: Penstock, router: RouterInPlace
) -> None:
    called = await penstock("endpoint", "curl", "echo", "/v1/models?a=b", "--silent", "--fail")
    assert (called.code, called.out) == (0, '{"ok": true}')
    body = '{"text": "a \'quoted\' $HOME  body"}'
    posted = await penstock("endpoint", "curl", "echo", "/x", "--", "-s", "--data", body)
    assert posted.code == 0
    piped = await penstock("endpoint", "curl", "echo", "-s", "-d", "@-", stdin="from stdin")
    assert piped.code == 0
    key = f"Bearer {ADMIN_KEY}"
    assert router.asked == [
        ("GET", "/echo/v1/models?a=b", key, b""),
        ("POST", "/echo/x", key, body.encode()),
        ("POST", "/echo", key, b"from stdin"),
    ]


async def test_the_key_stands_in_no_process_list(
    penstock: Penstock, router: RouterInPlace, tmp_path: Path
) -> None:
    router.release.clear()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock_cli", "endpoint", "curl", "echo", "/held", "-s"),
        stdout=asyncio.subprocess.DEVNULL,
        env=penstock.env,
        cwd=tmp_path,
    )
    async with asyncio.timeout(60):
        await router.arrived.wait()
    words = (Path("/proc") / str(process.pid) / "cmdline").read_bytes().decode().split("\0")
    router.release.set()
    assert await process.wait() == 0
    # curl has taken the process over, and was told where the key is, not what.
    assert (words[0], words[1], words[3]) == (
        "curl",
        "--config",
        f"{penstock.api.settings.router_url}/echo/held",
    )
    assert ADMIN_KEY not in " ".join(words)
    assert router.asked[0][2] == f"Bearer {ADMIN_KEY}"


async def test_a_public_endpoint_is_called_without_a_key(
    penstock: Penstock, router: RouterInPlace
) -> None:
    await penstock.api.create("open", public=True)
    assert (await penstock("endpoint", "curl", "open", "-s")).code == 0
    assert router.asked == [("GET", "/open", None, b"")]


async def test_the_command_is_printed_without_the_key(
    penstock: Penstock, router: RouterInPlace
) -> None:
    printed = await penstock("endpoint", "curl", "--print", "echo", "/x", "-d", "a b")
    url = penstock.api.settings.router_url
    assert printed.out == f"curl -H 'Authorization: Bearer ****' {url}/echo/x -d 'a b'\n"
    assert router.asked == []


async def test_without_curl_it_says_so(penstock: Penstock, tmp_path: Path) -> None:
    missing = await penstock("endpoint", "curl", "echo", PATH=str(tmp_path / "empty"))
    assert (missing.code, "there is no curl in PATH" in missing.err) == (1, True)
    unknown = await penstock("endpoint", "curl", "nobody", PATH=os.environ["PATH"])
    assert (unknown.code, "there is no endpoint 'nobody'" in unknown.err) == (5, True)
