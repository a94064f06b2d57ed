"""`Bucket` and `WatchedTable` against a real nats-server."""

import asyncio
import base64
import functools
from collections.abc import AsyncIterator

import pytest

from penstock_common import subjects
from penstock_common.errors import (
    BusTimeoutError,
    MessageTooLargeError,
    NoRespondersError,
    WrongRevisionError,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Entry, Fence, Row, WatchedTable
from penstock_common.nats.streams import ensure_streams
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        yield bus


@pytest.fixture
def bucket(bus: Bus) -> Bucket:
    return Bucket(bus, subjects.NODES)


class Changes(list[tuple[str, str | None]]):
    """What a table told, as (key, value)."""

    def note(self, key: str, row: Row[str] | None) -> None:
        self.append((key, row.value if row else None))


def make_table(
    bus: Bus, changes: Changes | None = None, *, keys: str = ">", heartbeat_s: float = 0.2
) -> WatchedTable[str]:
    """One that soon notices when its consumer is gone, and may list anew when the server is slow."""
    return WatchedTable(
        bus,
        subjects.NODES,
        bytes.decode,
        keys=keys,
        on_change=changes.note if changes is not None else None,
        heartbeat_s=heartbeat_s,
    )


# ---- Bucket


async def test_put_get_delete(bucket: Bucket) -> None:
    assert await bucket.get("a.b") is None
    assert await bucket.latest("a.b") == (None, 0)
    revision = await bucket.put("a.b", b"\x00value")
    assert await bucket.get("a.b") == Entry("a.b", b"\x00value", revision)
    assert await bucket.latest("a.b") == (Entry("a.b", b"\x00value", revision), revision)
    await bucket.delete("a.b")
    assert await bucket.get("a.b") is None
    entry, last = await bucket.latest("a.b")
    assert entry is None
    assert last == await bucket.last_revision("a.b") > revision
    await bucket.delete("never-there")


async def test_an_empty_value_is_a_value(bucket: Bucket) -> None:
    revision = await bucket.put("a", b"")
    assert await bucket.get("a") == Entry("a", b"", revision)
    assert await bucket.latest("a") == (Entry("a", b"", revision), revision)


async def test_put_expects_a_revision(bucket: Bucket) -> None:
    first = await bucket.put("a", b"1", revision=0)
    with pytest.raises(WrongRevisionError):
        await bucket.put("a", b"2", revision=0)
    second = await bucket.put("a", b"2", revision=first)
    with pytest.raises(WrongRevisionError):
        await bucket.delete("a", revision=first)
    await bucket.delete("a", revision=second)
    with pytest.raises(WrongRevisionError):
        await bucket.put("a", b"3", revision=second)
    await bucket.put("a", b"3", revision=await bucket.last_revision("a"))


async def test_only_one_of_many_writers_wins_a_revision(bucket: Bucket) -> None:
    results = await asyncio.gather(
        *(bucket.put("a", b"%d" % i, revision=0) for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, WrongRevisionError) for r in results) == 19


async def test_a_fence_refuses_writes_once_its_key_moved(bucket: Bucket) -> None:
    lease = await bucket.put("lease", b"me")
    await bucket.put("a", b"1", fence=Fence("lease", lease))
    await bucket.delete("a", fence=Fence("lease", lease))
    await bucket.put("lease", b"you")
    with pytest.raises(WrongRevisionError):
        await bucket.put("a", b"2", fence=Fence("lease", lease))
    with pytest.raises(WrongRevisionError):
        await bucket.delete("a", fence=Fence("lease", lease))
    assert await bucket.get("a") is None


async def test_a_write_takes_one_expectation(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match="not both"):
        await bucket.put("a", b"", revision=0, fence=Fence("b", 1))


async def test_a_key_expires(bucket: Bucket) -> None:
    now = asyncio.get_running_loop().time
    before = now()
    revision = await bucket.put("a", b"", ttl_s=1)
    assert await bucket.get("a") is not None or now() - before >= 1
    while await bucket.get("a") is not None:
        assert now() - before < 60
        await asyncio.sleep(0.05)
    assert await bucket.last_revision("a") > revision
    with pytest.raises(ValueError, match="at least 1"):
        await bucket.put("a", b"", ttl_s=0)


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "a b", "a*", ">", "a\r\nb", "ä"])
async def test_what_is_no_key(bucket: Bucket, key: str) -> None:
    with pytest.raises(ValueError, match="no KV key"):
        await bucket.put(key, b"")
    with pytest.raises(ValueError, match="no KV key"):
        await bucket.get(key)


async def test_a_missing_bucket(bus: Bus) -> None:
    missing = Bucket(bus, "PENSTOCK_NONE")
    with pytest.raises(NoRespondersError):
        await missing.put("a", b"")
    with pytest.raises(NoRespondersError):
        await missing.get("a")


async def test_too_large_a_value(bucket: Bucket) -> None:
    with pytest.raises(MessageTooLargeError):
        await bucket.put("a", b"x" * 1_048_576, ttl_s=5)


async def test_deleted_keys_leave_nothing_for_good(bus: Bus, bucket: Bucket) -> None:
    """Worker ids are never used again: their markers must not pile up."""
    await bucket.put("a", b"")
    await bucket.delete("a")
    answer = await bus.api(
        f"STREAM.MSG.GET.{subjects.kv_stream(subjects.NODES)}",
        {"last_by_subj": subjects.kv_subject(subjects.NODES, "a")},
    )
    assert b"Nats-TTL: 60s" in base64.b64decode(answer["message"]["hdrs"])


# ---- WatchedTable


async def test_a_table_lists_then_follows(bus: Bus, bucket: Bucket) -> None:
    one = await bucket.put("n.1", b"one")
    await bucket.put("n.2", b"two")
    await bucket.delete("n.2")
    changes = Changes()
    table = make_table(bus, changes, heartbeat_s=10)
    await table.start()
    assert table.synced
    assert dict(table.rows) == {"n.1": Row("one", one)}
    assert changes == [("n.1", "one")]

    three = await bucket.put("n.3", b"three")
    await bucket.put("n.1", b"uno")
    await eventually(lambda: len(changes) == 3)  # a value that is overwritten sooner may be skipped
    await bucket.delete("n.1")
    await bucket.put("n.4", b"four", ttl_s=3)  # long enough to be seen
    await eventually(lambda: len(changes) == 6)
    assert changes[1:] == [
        ("n.3", "three"),
        ("n.1", "uno"),
        ("n.1", None),
        ("n.4", "four"),
        ("n.4", None),  # expired: the server tells
    ]
    assert dict(table.rows) == {"n.3": Row("three", three)}
    await table.stop()
    assert not table.synced


async def test_whoever_is_cancelled_as_a_table_gets_whole_is_cancelled(bus: Bus) -> None:
    tables: list[WatchedTable[bytes]] = []

    async def start() -> None:
        await tables[0].start()
        await asyncio.Event().wait()  # it would go on, had it lost its cancellation

    starting: list[asyncio.Task[None]] = []

    def on_synced() -> None:  # the listing is whole, and `start` not told yet
        starting[0].cancel()

    tables.append(WatchedTable(bus, subjects.NODES, bytes, on_synced=on_synced))
    starting.append(asyncio.create_task(start(), name="start"))
    done, _ = await asyncio.wait(starting, timeout=60)
    assert done
    assert starting[0].cancelled()


async def test_an_empty_bucket_is_synced_at_once(bus: Bus) -> None:
    synced: list[bool] = []
    table = WatchedTable(
        bus, subjects.NODES, bytes.decode, on_synced=lambda: synced.append(table.synced)
    )
    await table.start(wait_s=60)
    assert synced == [True]
    await table.stop()
    await table.stop()


async def test_a_table_of_some_keys(bus: Bus, bucket: Bucket) -> None:
    await bucket.put("n.1", b"1")
    await bucket.put("m.1", b"2")
    table = make_table(bus, keys="n.*")
    await table.start()
    await bucket.put("m.2", b"3")
    await bucket.put("n.2", b"4")
    await eventually(lambda: "n.2" in table.rows)
    assert set(table.rows) == {"n.1", "n.2"}
    await table.stop()


async def test_a_large_listing_is_whole_when_synced(bus: Bus, bucket: Bucket) -> None:
    for start in range(0, 3000, 500):
        await asyncio.gather(*(bucket.put(f"k{i}", b"x" * 500) for i in range(start, start + 500)))
    at_sync: list[int] = []
    table = WatchedTable(
        bus, subjects.NODES, bytes.decode, on_synced=lambda: at_sync.append(len(table.rows))
    )
    await table.start()
    assert at_sync == [3000]
    await table.stop()


async def test_a_listing_among_writes_ends_and_misses_nothing(bus: Bus, bucket: Bucket) -> None:
    last: dict[str, bytes] = {}
    done = asyncio.Event()

    async def write() -> None:
        i = 0
        while not done.is_set():
            key = f"k{i % 50}"
            last[key] = b"%d" % i
            await bucket.put(key, last[key])
            i += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        tables = []
        for _ in range(20):
            table = make_table(bus)
            await table.start(wait_s=60)
            tables.append(table)
        done.set()
    for table in tables:
        seen = functools.partial(_values, table)
        await eventually(lambda seen=seen: seen() == last)  # type: ignore[misc]  # default argument
        await table.stop()


def _values(table: WatchedTable[str]) -> dict[str, bytes]:
    return {key: row.value.encode() for key, row in table.rows.items()}


async def test_what_cannot_be_decoded_is_logged_once_and_skipped(
    bus: Bus, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    def undecodable() -> list[str]:
        return [
            r.key  # type: ignore[attr-defined]  # from extra
            for r in caplog.records
            if getattr(r, "action", "") == "kv_undecodable"
        ]

    await bucket.put("bad", b"\xff")
    await bucket.put("worsened", b"good")
    changes = Changes()
    table = make_table(bus, changes)
    await table.start()
    await bucket.put("worsened", b"\xff")
    await bucket.put("good", b"1")
    await eventually(lambda: "good" in table.rows)
    assert undecodable() == ["bad", "worsened"]
    assert table.rows["worsened"].value == "good"
    assert "bad" not in table.rows

    assert table._watch is not None
    table._watch.end("test")  # list again
    await eventually(lambda: not table.synced)
    await eventually(lambda: table.synced)
    assert undecodable() == ["bad", "worsened"]
    assert changes == [("worsened", "good"), ("good", "1")]
    await bucket.put("bad", b"mended")
    await bucket.delete("worsened")
    await eventually(lambda: set(table.rows) == {"bad", "good"})
    await table.stop()


async def test_an_on_change_that_raises_is_logged_and_the_next_is_called(
    bus: Bus, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(key: str, row: Row[str] | None) -> None:
        raise LookupError(key)

    def explode_too() -> None:
        raise LookupError

    table = WatchedTable(
        bus, subjects.NODES, bytes.decode, on_change=explode, on_synced=explode_too
    )
    await table.start()
    await bucket.put("a", b"1")
    await bucket.put("b", b"1")
    await eventually(lambda: set(table.rows) == {"a", "b"})
    actions = [getattr(r, "action", "") for r in caplog.records]
    assert actions.count("on_change_failed") == 2
    assert actions.count("on_synced_failed") == 1
    await table.stop()


async def test_a_deleted_consumer_is_noticed_and_nothing_is_missed(
    bus: Bus, bucket: Bucket
) -> None:
    changes = Changes()
    table = make_table(bus, changes)
    await table.start()
    await bucket.put("kept", b"1")
    await bucket.put("gone", b"1")
    await eventually(lambda: len(table.rows) == 2)
    assert table._watch is not None
    stream = subjects.kv_stream(subjects.NODES)
    await bus.api(f"CONSUMER.DELETE.{stream}.{table._watch.name}")
    await bucket.delete("gone")
    await bucket.put("new", b"1")
    await eventually(lambda: set(table.rows) == {"kept", "new"})
    assert changes[2:] in (
        [("new", "1"), ("gone", None)],
        [("gone", None), ("new", "1")],
    )
    await table.stop()


async def test_a_bucket_that_is_made_anew_is_followed(bus: Bus, bucket: Bucket) -> None:
    """Its revisions begin at 1 again, so equal revisions are not equal values."""
    changes = Changes()
    table = make_table(bus, changes)
    await bucket.put("a", b"old")
    await table.start()
    await bus.api(f"STREAM.DELETE.{subjects.kv_stream(subjects.NODES)}")
    await ensure_streams(bus)
    await bucket.put("a", b"new")
    await eventually(lambda: table.rows.get("a") == Row("new", 1) and table.synced)
    # Between the two it may have been listed empty.
    assert [told for told in changes if told != ("a", None)] == [("a", "old"), ("a", "new")]
    await table.stop()


async def test_a_bucket_that_is_missing_is_made_by_the_ensure_hook(bus: Bus) -> None:
    """Nobody else makes it: a service does nothing."""
    table = make_table(bus)
    await table.start()
    await bus.api(f"STREAM.DELETE.{subjects.kv_stream(subjects.NODES)}")
    await eventually(lambda: not table.synced)
    await eventually(lambda: table.synced)
    await table.stop()


async def test_start_without_a_bucket_ends_in_time(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as bus:
        table = make_table(bus)
        with pytest.raises(BusTimeoutError, match="could not be listed"):
            await table.start(wait_s=0.4)
        assert bus._exchange._subscribed.keys() == {1}  # the bus's own inbox
        assert table._runner is None


async def test_a_watch_leaves_no_consumer_behind(bus: Bus) -> None:
    async def consumers() -> int:
        answer = await bus.api(f"STREAM.INFO.{subjects.kv_stream(subjects.NODES)}")
        return int(answer["state"]["consumer_count"])

    table = make_table(bus)
    await table.start()
    for _ in range(3):
        assert table._watch is not None
        table._watch.end("test")
        await eventually(lambda: not table.synced)
        await eventually(lambda: table.synced)
    await table.stop()
    deadline = asyncio.get_running_loop().time() + 60  # the server deletes after its answer
    while await consumers():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_a_table_tells_how_far_it_has_followed(bus: Bus, bucket: Bucket) -> None:
    assert await bucket.newest_revision() == 0
    table = WatchedTable(bus, subjects.NODES, lambda data: data)
    await table.start()
    assert table.revision == 0
    first, last = await bucket.put("k0", b"x"), await bucket.put("k1", b"x")
    assert await bucket.newest_revision() == last == first + 1
    await bucket.delete("k0")
    newest = await bucket.newest_revision()
    assert newest == last + 1
    await eventually(lambda: table.revision == newest)
    assert "k0" not in table.rows
    await table.stop()
    # One that begins later has followed as far.
    later = WatchedTable(bus, subjects.NODES, lambda data: data)
    await later.start()
    assert later.revision == newest
    await later.stop()
