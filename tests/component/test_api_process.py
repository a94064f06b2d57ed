"""`penstock-api` as a process: how it starts, says that it is ready, and ends."""

import asyncio
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from tests.support.api_process import api_settings, start_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]


@pytest.mark.parametrize("nats_alive", [True, False])
async def test_it_says_where_it_serves_and_ends_at_once_when_told(
    nats_server: NatsServer, tmp_path: Path, nats_alive: bool
) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.setblocking(False)
        process = await start_api(
            api_settings(nats_server, tmp_path)
            | {"NOTIFY_SOCKET": path, "PENSTOCK_API_SHUTDOWN_TIMEOUT_S": "600"}
        )
        async with asyncio.timeout(60):
            ready = (await asyncio.get_running_loop().sock_recv(notify, 4096)).decode()
    url = dict(line.split("=", 1) for line in ready.splitlines())["X_URL"]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        # An open, idle connection does not hold it up; nor does a NATS that is gone.
        if not nats_alive:
            nats_server.kill()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err, err.decode()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"PENSTOCK_API_PORT": "many"}, "port"),
        ({"PENSTOCK_API_ADMIN_KEY_FILE": "/nowhere"}, "/nowhere"),
        ({"PENSTOCK_API_SECRET_KEY_FILE": "/dev/null"}, "/dev/null"),
        ({"PENSTOCK_API_HOST": "203.0.113.7"}, "203.0.113.7"),
    ],
)
async def test_an_operators_mistake_ends_it_with_2(
    nats_server: NatsServer, tmp_path: Path, wrong: dict[str, str], told: str
) -> None:
    process = await start_api(api_settings(nats_server, tmp_path) | wrong)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 2, err.decode()
    assert told in err.decode()
    assert b"Traceback" not in err
