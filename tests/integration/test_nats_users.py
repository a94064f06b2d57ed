"""What the server lets each NATS user do, with the configuration that `penstock up` writes."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from penstock_cli.local.data_dir import DataDir
from penstock_common import subjects
from penstock_common.events.catalogue import Service
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, WatchedTable
from penstock_common.nats.layout import BUCKETS
from penstock_common.nats.permissions import INTEGRATION, INTEGRATION_READER, USERS
from penstock_common.nats.streams import ensure_streams
from penstock_common.settings import NatsSettings
from penstock_common.subjects import inbox_prefix
from tests.support.api_server import CLOCK, eventually, running_api
from tests.support.nats_calls import Caller
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.webhook_receiver import running_receiver

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.nats]


@dataclass
class Site:
    """A data directory, and a server with its configuration."""

    folder: DataDir
    server: NatsServer

    def password(self, user: str) -> str:
        return self.folder.nats_password_files[user].read_text().strip()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with DataDir(tmp_path / "data") as folder:
        port, monitor = free_port(), free_port()
        config = folder.write_nats_config("127.0.0.1", port, monitor)
        server = NatsServer.configured(config, port, monitor)
        server.start()
        yield Site(folder, server)
        server.stop()


@dataclass
class User:
    """A connection, and what the server has refused it."""

    client: Client
    refused: list[str] = field(default_factory=list)

    async def settle(self) -> None:
        """Return when the server has answered all that was sent before."""
        await asyncio.sleep(0)
        await self.client.flush()

    async def may_publish(self, subject: str) -> bool:
        before = len(self.refused)
        await self.client.publish(subject, b"{}")
        await self.settle()
        return len(self.refused) == before

    async def may_subscribe(self, subject: str) -> bool:
        before = len(self.refused)
        subscription = await self.client.subscribe(subject)
        await self.settle()
        allowed = len(self.refused) == before
        await subscription.unsubscribe()
        return allowed


@asynccontextmanager
async def logged_in(site: Site, user: str) -> AsyncIterator[User]:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        site.server.url,
        user=user,
        password=site.password(user),
        inbox_prefix=inbox_prefix(user).encode(),
        error_cb=note,
    )
    try:
        yield User(client, refused)
    finally:
        await client.close()


def api_settings(site: Site) -> dict[str, Any]:
    return {"nats_user": Service.API.value, "nats_password": site.password(Service.API)}


async def test_an_integration_makes_an_endpoint_and_hears_of_it(site: Site, tmp_path: Path) -> None:
    async with (
        running_api(site.server, tmp_path / "api", **api_settings(site)),
        logged_in(site, INTEGRATION) as integration,
        logged_in(site, INTEGRATION_READER) as reader,
    ):
        heard = await integration.client.subscribe("penstock.v1.events.endpoint.>")
        also_heard = await reader.client.subscribe("penstock.v1.events.>")
        await integration.settle()
        await reader.settle()
        created = await Caller(integration.client).create("echo")
        assert created.status == 200
        shown = await Caller(reader.client).call("endpoint.get", {"endpoint": "echo"})
        assert shown.document == created.document
        assert len((await Caller(reader.client).call("endpoint.list")).document["endpoints"]) == 1
        assert (await Caller(reader.client).call("worker.list", {"endpoint": "echo"})).status == 200
        for subscription in (heard, also_heard):
            event = await subscription.next_msg(timeout=60)
            assert event.headers is not None
            assert event.headers["ce-type"] == "penstock.endpoint.created"
            assert json.loads(event.data)["app_name"] == "echo"
        assert integration.refused == reader.refused == []


async def test_the_apis_user_may_all_that_webhooks_take(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = {"webhook_allowed_networks": "127.0.0.1/32"}
    async with (
        running_receiver() as receiver,
        running_api(site.server, tmp_path / "api", **api_settings(site), **allowed) as api,
    ):
        made = await api.ask("POST", "/v1/webhooks", {"url": receiver.url})
        path = f"/v1/webhooks/{made.document['id']}"
        assert made.document["waiting"] == 0, "NATS was asked"
        await api.create("echo")
        assert (await api.ask("POST", f"{path}/test")).status == 202
        await receiver.until(2)

        async def both_are_delivered() -> bool:
            answer = await api.ask("GET", f"{path}/deliveries?state=delivered")
            return len(answer.document["deliveries"]) == 2

        await eventually(both_are_delivered)
        for change in ({"event_types": ["penstock.node."]}, {"enabled": False}):
            assert (await api.ask("PATCH", path, change)).status == 200
        assert (await api.ask("DELETE", path)).status == 200
    actions = {getattr(entry, "action", "") for entry in caplog.records}
    assert not actions & {"nats_denied", "webhook_remains", "webhooks_not_swept"}


async def test_the_server_refuses_a_reader_what_changes_something(
    site: Site, tmp_path: Path
) -> None:
    async with (
        running_api(site.server, tmp_path / "api", **api_settings(site)) as api,
        logged_in(site, INTEGRATION_READER) as reader,
    ):
        for verb in ("create", "update", "delete", "pause", "resume"):
            with pytest.raises(nats.errors.TimeoutError):
                await Caller(reader.client).call(f"endpoint.{verb}", {}, timeout_s=0.1)
            await reader.settle()
            assert f"penstock.v1.api.endpoint.{verb}" in reader.refused[-1].lower()
        assert (await api.ask("GET", "/v1/endpoints")).document["endpoints"] == []


@pytest.mark.parametrize("user", [INTEGRATION, INTEGRATION_READER])
async def test_neither_reaches_anything_else(site: Site, user: str) -> None:
    async with logged_in(site, user) as integration:
        for subject in (
            subjects.kv_subject(subjects.ENDPOINTS, "ep-1"),
            subjects.kv_subject(subjects.API_KEYS, "key-admin"),
            f"$JS.API.STREAM.DELETE.{subjects.kv_stream(subjects.ENDPOINTS)}",
            f"$JS.API.DIRECT.GET.{subjects.kv_stream(subjects.API_KEYS)}",
            f"$JS.API.STREAM.MSG.GET.{subjects.kv_stream(subjects.REGISTRY_AUTHS)}",
            f"$JS.API.CONSUMER.CREATE.{subjects.EVENTS}.mine",
            subjects.endpoint_event("ep-1", "created"),
            subjects.queue_metrics("ep-1"),
            subjects.router_grant("rt-1"),
            f"{inbox_prefix(Service.API)}.x",
            "_INBOX.x",
            "penstock.v1.apis",
        ):
            assert not await integration.may_publish(subject), subject
        for subject in (
            ">",
            "$KV.>",
            "penstock.v1.>",
            "penstock.v1.api.>",
            subjects.LOGS_ALL,
            "_INBOX.>",
            f"{inbox_prefix(INTEGRATION if user == INTEGRATION_READER else INTEGRATION_READER)}.>",
        ):
            assert not await integration.may_subscribe(subject), subject
        assert await integration.may_subscribe("penstock.v1.events.worker.ep-1.>")


@pytest.mark.parametrize("user", USERS)
async def test_nobody_is_let_in_with_a_wrong_password(site: Site, user: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    try:
        await reader.readline()
        login = json.dumps({"user": user, "pass": "wrong", "verbose": False, "pedantic": False})
        writer.write(f"CONNECT {login}\r\nPING\r\n".encode())
        async with asyncio.timeout(60):
            assert b"Authorization Violation" in await reader.readline()
    finally:
        writer.close()


@asynccontextmanager
async def bus_of(site: Site, user: str) -> AsyncIterator[Bus]:
    settings = NatsSettings(
        nats_url=site.server.url, nats_user=user, nats_password=SecretStr(site.password(user))
    )
    bus = await Bus.connect(settings, name=user, clock=CLOCK)
    try:
        yield bus
    finally:
        await bus.close()


@pytest.mark.parametrize("service", Service)
async def test_a_service_writes_what_is_its_own_and_nothing_else(
    site: Site, service: Service
) -> None:
    async with bus_of(site, service) as bus, logged_in(site, service) as user:
        await ensure_streams(bus)  # each of them may be the first after a restart
        for bucket in BUCKETS:
            if bucket.writer is service:
                await Bucket(bus, bucket.name).put("a", b"{}")
                await Bucket(bus, bucket.name).delete("a")
            else:
                assert not await user.may_publish(subjects.kv_subject(bucket.name, "a")), bucket


@pytest.mark.parametrize("service", Service)
async def test_a_service_reads_what_the_table_says(site: Site, service: Service) -> None:
    async with bus_of(site, Service.API) as api, bus_of(site, service) as bus:
        await ensure_streams(api)
        for bucket in BUCKETS:
            if service is bucket.writer or service in bucket.readers:
                table = WatchedTable(bus, bucket.name, lambda data: data)
                await table.start()
                await table.stop()
                assert await Bucket(bus, bucket.name).latest("a") == (None, 0)
                assert await Bucket(bus, bucket.name).get("a") is None
        async with logged_in(site, service) as user:
            for bucket in BUCKETS:
                if service is not bucket.writer and service not in bucket.readers:
                    stream = subjects.kv_stream(bucket.name)
                    assert not await user.may_publish(f"$JS.API.STREAM.MSG.GET.{stream}"), bucket
                    assert not await user.may_publish(f"$JS.API.CONSUMER.CREATE.{stream}.w"), bucket


async def test_the_program_of_the_docs_runs(site: Site, tmp_path: Path) -> None:
    page = (ROOT / "docs/integrations.md").read_text()
    program = page.split("```python\n", 1)[1].split("```", 1)[0]
    async with running_api(site.server, tmp_path / "api", **api_settings(site)):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            env={
                "NATS_URL": site.server.url,
                "NATS_PASSWORD_FILE": str(site.folder.nats_password_files[INTEGRATION]),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert re.fullmatch(
        r"made ep-\w+ http://router\.test:8080/echo\n"
        r"heard penstock\.endpoint\.created echo\n"
        r"up to 4 workers\n"
        r"refused 404 endpoint_not_found\n"
        r"there are \['echo'\]\n",
        output.decode(),
    ), output.decode()


def test_the_docs_tell_the_permissions() -> None:
    page = (ROOT / "docs/integrations.md").read_text()
    for user in (INTEGRATION, INTEGRATION_READER):
        permissions = USERS[user]
        assert permissions is not None
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{user}` |"))
        for subject in (*permissions.publish, subjects.EVENTS_ALL, f"nats.{user}.password"):
            assert f"{subject}`" in row
