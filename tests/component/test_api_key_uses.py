"""When keys were used last, over HTTP and in the bucket, on a real nats-server."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_api.key_uses import MOST_WRITES, KeyUseBook
from penstock_api.store import Store
from penstock_common import subjects
from penstock_common.key_uses import EVERY_S
from penstock_common.messages import ApiKeyRecord, KeyUse, KeyUseReport
from penstock_common.nats.connection import Received
from penstock_common.nats.kv import Bucket
from tests.component.test_cli_commands import Penstock, penstock
from tests.fakes.clock import ManualClock
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

__all__ = ["penstock"]

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


@pytest.fixture
async def store(api: ApiServer) -> AsyncIterator[Store]:
    store = Store(api.bus, CLOCK)
    await store.start()
    yield store
    await store.stop()


async def have_keys(api: ApiServer, store: Store, *key_ids: str) -> None:
    for key_id in key_ids:
        key = ApiKeyRecord(key_id=key_id, sha256=key_id, scope="read", created_at=CLOCK.utc())
        await api.put(subjects.API_KEYS, key_id, key)

    async def shown() -> bool:
        return set(key_ids) <= store.api_keys.rows.keys()

    await eventually(shown)


async def written(api: ApiServer, key_id: str) -> tuple[KeyUse, int] | None:
    entry = await Bucket(api.bus, subjects.KEY_USES).get(key_id)
    return (KeyUse.decode(entry.value), entry.revision) if entry else None


def report(**used: Any) -> Received:
    message = KeyUseReport(router_id="rt-1", used={k.replace("_", "-"): v for k, v in used.items()})
    return Received(subjects.key_uses("rt-1"), message.encode(), {}, "")


async def test_who_asks_the_api_is_seen_by_its_key(api: ApiServer) -> None:
    document = {"name": "eye", "scope": "read"}
    used = (await api.ask("POST", "/v1/api-keys", document)).document
    refused = (await api.ask("POST", "/v1/api-keys", document)).document
    unused = (await api.ask("POST", "/v1/api-keys", document)).document
    assert used["last_used_at"] is None
    assert (await api.ask("GET", "/v1/nodes", key=used["key"])).status == 200
    assert (await api.ask("GET", "/v1/audit", key=refused["key"])).status == 403

    async def shown() -> dict[str, Any] | None:
        listed = (await api.ask("GET", "/v1/api-keys")).document["api_keys"]
        uses = {key["id"]: key["last_used_at"] for key in listed}
        return uses if uses[used["id"]] and uses[refused["id"]] else None

    uses = await eventually(shown)
    assert uses is not None
    assert uses[unused["id"]] is None
    assert uses["key-admin"] is not None


async def test_a_use_is_written_once_a_minute_whoever_tells_it(
    api: ApiServer, store: Store
) -> None:
    await have_keys(api, store, "key-1")
    clock = ManualClock()
    one, two = (KeyUseBook(api.bus, store, clock) for _ in range(2))
    began = clock.utc()
    one.hear(report(key_1=began, key_none=began))
    await one.tick()
    first = await written(api, "key-1")
    assert first is not None
    assert first[0].at == began
    assert await written(api, "key-none") is None, "there is no such key"

    async def is_shown() -> bool:
        return store.last_use("key-1") == began

    await eventually(is_shown)
    clock.advance(EVERY_S / 2)
    for book in (one, two):
        book.note("key-1")
        await book.tick()
    assert await written(api, "key-1") == first
    clock.advance(EVERY_S)
    two.note("key-1")
    await two.tick()
    second = await written(api, "key-1")
    assert second is not None
    assert second[0].at == began + timedelta(seconds=EVERY_S * 1.5)


async def test_many_keys_are_written_in_their_turn(api: ApiServer, store: Store) -> None:
    names = [f"key-{n}" for n in range(MOST_WRITES + 3)]
    await have_keys(api, store, *names)
    book = KeyUseBook(api.bus, store, ManualClock())
    for name in names:
        book.note(name)
    await book.tick()
    assert [await written(api, name) for name in names[MOST_WRITES:]] == [None] * 3
    assert await written(api, names[MOST_WRITES - 1]) is not None
    await book.tick()
    assert None not in [await written(api, name) for name in names]


async def test_of_a_key_that_is_gone_nothing_is_left(api: ApiServer, store: Store) -> None:
    await have_keys(api, store, "key-1")
    book = KeyUseBook(api.bus, store, ManualClock())
    book.note("key-1")
    book.hear(Received(subjects.key_uses("rt-1"), b"nonsense", {}, ""))
    await book.tick()
    assert await written(api, "key-1") is not None
    await Bucket(api.bus, subjects.API_KEYS).delete("key-1")

    async def is_gone() -> bool:
        await book.tick()
        return await written(api, "key-1") is None

    await eventually(is_gone)


async def test_the_command_shows_a_key(penstock: Penstock) -> None:  # the fixture
    made = await penstock("key", "create", "ours", "--scope", "invoke", "--json")
    key_id = json.loads(made.out)["id"]
    shown = (await penstock("key", "show", key_id)).out
    assert [line.split()[0] for line in shown.splitlines()] == [
        *("key", "name", "scope", "endpoints", "made", "last", "expires", "workers", "GPUs"),
    ]
    assert "not yet" in shown
    use = KeyUse(key_id=key_id, at=CLOCK.utc())
    await penstock.api.put(subjects.KEY_USES, key_id, use)

    async def is_listed() -> bool:
        listed = (await penstock("key", "list")).out
        return f"{use.at:%Y-%m-%d %H:%M}" in listed.splitlines()[2]

    await eventually(is_listed)
    assert f"{use.at:%Y-%m-%d %H:%M:%S} UTC" in (await penstock("key", "show", key_id)).out
