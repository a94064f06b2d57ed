"""Connections over TLS: who is trusted, and what a person is told when it does not come to one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock_common.clock import SystemClock
from penstock_common.entropy import random_id
from penstock_common.errors import BusDisconnectedError
from penstock_common.nats.connection import Bus
from penstock_common.settings import NatsSettings
from tests.support.nats_cluster import write_certificates
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
LOGIN = {"nats_user": "api", "nats_password": "canary-33"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and certificates of it for a server and a client."""
    folder = tmp_path_factory.mktemp("pki")
    write_certificates(folder, ("server", "client"))
    return folder


@asynccontextmanager
async def serving(folder: Path, tls: str) -> AsyncIterator[NatsServer]:
    server = NatsServer(folder / "nats")
    config = folder / "nats/nats.conf"
    config.write_text(
        f"{config.read_text()}{tls}\nauthorization {{ user: api, password: canary-33 }}\n"
    )
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        server.stop()


def block(pki: Path, *more: str) -> str:
    cert, key = pki / "server.pem", pki / "server.key"
    return "\n".join([f'tls {{ cert_file: "{cert}", key_file: "{key}"', *more, "}"])


def settings(server: NatsServer, pki: Path | None, **changes: Any) -> NatsSettings:
    ca = {"nats_tls_ca_file": pki / "ca.pem"} if pki else {}
    return NatsSettings(
        **{"nats_url": server.url.replace("nats://", "tls://"), **LOGIN, **ca, **changes}
    )


async def refusal(wanted: NatsSettings) -> str:
    """What is said when no connection came about for as long as one may take on a busy machine."""
    with pytest.raises(BusDisconnectedError) as refused:
        await Bus.connect(wanted, name="t", clock=SystemClock(), wait_s=3.0)
    return str(refused.value)


async def encrypted(server: NatsServer, wanted: NatsSettings) -> bool:
    """Connect, and give whether the server says that the connection is encrypted."""
    name = random_id("t")
    bus = await Bus.connect(wanted, name=name, clock=SystemClock(), wait_s=60.0)
    try:
        assert (await bus.api("INFO"))["api"]["level"] >= 0
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.monitor_url}/connz") as answer,
        ):
            connections = (await answer.json())["connections"]
            (connection,) = (found for found in connections if found["name"] == name)
            return "tls_version" in connection
    finally:
        await bus.close()


async def test_the_ca_of_the_settings_is_trusted_and_no_other(pki: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    write_certificates(stranger, ())
    async with serving(tmp_path, block(pki)) as server:
        assert await encrypted(server, settings(server, pki))
        other_name = settings(server, pki, nats_url=f"tls://localhost:{server.port}")
        plain = settings(server, None, nats_url=server.url)
        unknown, another, named, unencrypted = await asyncio.gather(
            refusal(settings(server, None)),
            refusal(settings(server, stranger)),
            refusal(other_name),
            refusal(plain),
        )
        for said in (unknown, another):
            assert "is not trusted" in said
            assert "nats_tls_ca_file must hold the CA that signed it" in said
        assert "does not carry the name localhost" in named
        assert "takes only TLS: write tls:// in nats_url" in unencrypted


async def test_tls_means_encrypted_or_not_at_all(pki: Path, tmp_path: Path) -> None:
    """nats-py would log in without TLS where the server does not insist on it."""
    async with serving(tmp_path / "offers", block(pki) + "\nallow_non_tls: true") as server:
        assert await encrypted(server, settings(server, pki))
        assert not await encrypted(server, settings(server, None, nats_url=server.url))
    async with serving(tmp_path / "plain", "") as server:
        assert "offers no TLS: nothing was sent" in await refusal(settings(server, pki))


async def test_a_server_may_ask_for_a_certificate(pki: Path, tmp_path: Path) -> None:
    mutual = block(pki, f'ca_file: "{pki / "ca.pem"}", verify: true')
    async with serving(tmp_path, mutual) as server:
        own = {
            "nats_tls_cert_file": pki / "client.pem",
            "nats_tls_key_file": pki / "client.key",
        }
        assert await encrypted(server, settings(server, pki, **own))
        assert "set nats_tls_cert_file and nats_tls_key_file" in await refusal(
            settings(server, pki)
        )
