"""What the api answers about a key holds at every router when its answer is there.

The api and two routers are real, and so are the clients' connections, which are kept open; the
scheduler is played.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from penstock_api import router_sight
from tests.fakes.router_world import running_world, until
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer
from tests.support.router_process import router_process
from tests.support.upstream import running_upstream

pytestmark = [pytest.mark.nats, pytest.mark.slow]


class Kept:
    """A client's connection to a router that stays open over its requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, url: str) -> "Kept":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def ask(self, key: str, app: str = "echo") -> tuple[int, str]:
        """Status and body of an answer on this very connection."""
        lines = f"GET /{app}/sleep?s=0 HTTP/1.1", "Host: h", f"Authorization: Bearer {key}", "", ""
        self._writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(60):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            body = await self._reader.readexactly(length)
        return int(head.split()[1]), body.decode()

    def close(self) -> None:
        self._writer.close()


class Site:
    """The api, the addresses of two routers, and a kept connection to each."""

    def __init__(self, api: ApiServer, urls: list[str], kept: list[Kept], other: str) -> None:
        self.api = api
        self.urls = urls
        self.kept = kept
        #: id of another endpoint than `echo`
        self.other = other

    async def make_key(self, **fields: Any) -> dict[str, Any]:
        document = {"name": "ours", "scope": "invoke", **fields}
        answer = await self.api.ask("POST", "/v1/api-keys", document)
        assert answer.status == 201, answer
        made: dict[str, Any] = answer.document
        return made

    async def statuses(self, key: str) -> list[int]:
        """What both routers answer, on kept and on fresh connections."""
        fresh = [await Kept.to(url) for url in self.urls]
        try:
            answers = await asyncio.gather(*(each.ask(key) for each in (*self.kept, *fresh)))
        finally:
            for each in fresh:
                each.close()
        return [status for status, _ in answers]


@pytest_asyncio.fixture
async def site(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    # A router that stands still is not waited for for ever; here it comes to itself again.
    monkeypatch.setattr(router_sight, "SIGHT_TIMEOUT_S", 60.0)
    async with (
        running_api(nats_server, tmp_path / "api") as api,
        running_world(nats_server.url) as world,
        running_upstream() as worker,
        router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-1") as one,
        router_process(tmp_path, nats_url=nats_server.url, port="0", router_id="rt-2") as two,
    ):
        urls = [(await process.ready())["X_URL"] for process in (one, two)]
        endpoint_id = await world.put_endpoint("echo", public=False)
        other = await world.put_endpoint("other", public=False)
        for number in (1, 2):
            await world.assign(endpoint_id, f"wk-{number}", f"rt-{number}")
            await world.put_worker_status(f"wk-{number}", worker.port)

        def drives(router_id: str) -> bool:
            report = world.last_report(router_id, endpoint_id)
            return report is not None and any(w.accepting for w in report.workers)

        await until(lambda: drives("rt-1") and drives("rt-2"))
        kept = [await Kept.to(url) for url in urls]
        yield Site(api, urls, kept, other)
        for each in kept:
            each.close()


async def test_a_revoked_key_is_refused_everywhere_as_soon_as_that_is_answered(site: Site) -> None:
    for _ in range(5):
        made = await site.make_key()
        assert await site.statuses(made["key"]) == [200] * 4
        assert (await site.api.ask("GET", "/v1/nodes", key=made["key"])).status == 403
        assert (await site.api.ask("DELETE", f"/v1/api-keys/{made['id']}")).status == 200
        assert await site.statuses(made["key"]) == [401] * 4
        assert (await site.api.ask("GET", "/v1/nodes", key=made["key"])).status == 401

    # The same for the secret that was rotated away.
    made = await site.make_key()
    assert await site.statuses(made["key"]) == [200] * 4
    path = f"/v1/api-keys/{made['id']}/rotate"
    second = (await site.api.ask("POST", path, {"old_expires_in_s": 3600})).document["key"]
    assert await site.statuses(made["key"]) == await site.statuses(second) == [200] * 4
    assert (await site.api.ask("GET", "/v1/nodes", key=made["key"])).status == 403
    third = (await site.api.ask("POST", path)).document["key"]
    assert await site.statuses(made["key"]) == await site.statuses(second) == [401] * 4
    assert await site.statuses(third) == [200] * 4


async def test_a_use_at_a_router_is_shown_at_the_api(site: Site) -> None:
    unused, used = [await site.make_key() for _ in range(2)]
    assert (used["last_used_at"], (await site.kept[1].ask(used["key"]))[0]) == (None, 200)

    async def last_use(key: dict[str, Any]) -> Any:
        answer = await site.api.ask("GET", f"/v1/api-keys/{key['id']}")
        return answer.document["last_used_at"]

    at = datetime.fromisoformat(await eventually(lambda: last_use(used)))
    assert used["created_at"] <= at.isoformat().replace("+00:00", "Z")
    assert at <= CLOCK.utc()
    assert await last_use(unused) is None
    for _ in range(20):  # it is told once in a minute
        assert (await site.kept[0].ask(used["key"]))[0] == 200
    assert datetime.fromisoformat(await last_use(used)) == at


async def test_a_key_opens_its_endpoints_until_it_expires_by_the_clock_alone(site: Site) -> None:
    for_another = (await site.make_key(endpoints=[site.other]))["key"]
    assert await site.statuses(for_another) == [403] * 4
    lasting = (await site.make_key(endpoints=["echo"], expires_in_s=3600))["key"]
    assert (await site.kept[1].ask(lasting, "other"))[0] == 403
    made = await site.make_key(endpoints=["echo"], expires_in_s=2)
    status, _ = await site.kept[0].ask(made["key"])
    assert status == 200 or CLOCK.utc() >= datetime.fromisoformat(made["expires_at"])

    async def expired() -> bool:
        return await site.statuses(made["key"]) == [401] * 4

    await eventually(expired)
    for kept in site.kept:
        status, body = await kept.ask(made["key"])
        assert (status, "expired_api_key" in body) == (401, True)
    answer = await site.api.ask("GET", "/v1/nodes", key=made["key"])
    assert (answer.status, answer.document["reason"]) == (401, "expired_api_key")
