"""A watched table: a live copy of a KV bucket's rows.

Theory of operation. A table has one runner task that walks for ever through

    connected → list and watch → (ended) → pause → …

A *watch* is one ephemeral push consumer (`deliver_policy: last_per_subject`) on a delivery subject
of its own: it first sends the last message of every key, then every change. Its listing is whole
when as many messages came as were pending at its creation, or when a message says that none
pends after it; rows that were not in it are removed. A watch ends when the connection is lost,
when the consumer's sequence shows a gap, or when its heartbeats stay away; then a new watch lists
everything again. Nothing is resumed: a memory bucket that came back empty, a purged history and a
stream made anew are all seen for what they are.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from penstock_common import subjects
from penstock_common.connection import Bus, Subscription
from penstock_common.entropy import random_ratio, random_secret
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.nats_retry import Backoff
from penstock_common.nats_wire import Received, is_marker, parse_ack_subject, status_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The server forgets a watch that nobody listens to after so long.
_INACTIVE_NS: Final = 10_000_000_000
_STREAM_NOT_FOUND: Final = 10059  # JetStream's err_code


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A decoded value and its revision in KV."""

    value: T
    revision: int


class WatchedTable(Generic[T]):
    """A live copy of a bucket's rows: list, watch, re-list after every reconnect."""

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        decode: Callable[[bytes], T],
        *,
        keys: str = ">",
        on_change: Callable[[str, Row[T] | None], None] | None = None,
        on_synced: Callable[[], None] | None = None,
        heartbeat_s: float = 5.0,
    ) -> None:
        """A table that is not started.

        Args:
            bus: the connection to watch over.
            bucket: name of the bucket (a constant of `subjects`).
            decode: value of a row from its bytes; a value it raises on is logged once and skipped:
                the key keeps the row it had, if any.
            keys: pattern of the keys to watch.
            on_change: called with key and new row, or None when the key is gone; also during
                listings, for what changed. What it raises is logged.
            on_synced: called when a listing is whole, the first one and each after a reconnect.
            heartbeat_s: how often the server shows that the watch still lives; a watch whose
                consumer was deleted is noticed after 2.5 times that.
        """
        self._bus = bus
        self._bucket = bucket
        self._stream = subjects.kv_stream(bucket)
        self._prefix = subjects.kv_subject(bucket, "")
        self._filter = subjects.kv_subject(bucket, keys)
        self._decode = decode
        self._on_change = on_change
        self._on_synced = on_synced
        self._heartbeat_s = heartbeat_s
        self._rows: dict[str, Row[T]] = {}
        self._revision = 0
        self._view = MappingProxyType(self._rows)
        self._undecodable: dict[str, int] = {}
        self._watch: _Watch | None = None
        self._synced = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._remove_callback: Callable[[], None] | None = None

    @property
    def rows(self) -> Mapping[str, Row[T]]:
        """Key → row, a live view. While disconnected: as last seen."""
        return self._view

    @property
    def revision(self) -> int:
        """Of the last change that `rows` show, removals included; 0 = none yet."""
        return self._revision

    @property
    def synced(self) -> bool:
        """Whether `rows` is whole and current as far as this connection knows."""
        return self._synced.is_set()

    async def wait_synced(self, *, wait_s: float = 10.0) -> None:
        """Wait until `synced`.

        Raises:
            BusTimeoutError: it did not come to that within `wait_s` seconds.
        """
        try:
            # Not wait_for: on Python 3.11 it loses a cancellation in the moment of success.
            async with asyncio.timeout(wait_s):
                await self._synced.wait()
        except TimeoutError:
            raise BusTimeoutError(
                f"bucket {self._bucket} could not be listed within {wait_s:g} s"
            ) from None

    async def start(self, *, wait_s: float = 10.0) -> None:
        """Begin, and wait for the first whole listing.

        Raises:
            BusTimeoutError: no whole listing within `wait_s` seconds; the table is stopped.
        """
        if self._runner is not None:
            raise RuntimeError("the table was started before")
        self._remove_callback = self._bus.on_disconnect(self._on_disconnect)
        self._runner = asyncio.create_task(self._run(), name=f"table-{self._bucket}")
        try:
            await self.wait_synced(wait_s=wait_s)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the watch; `rows` stay as they are. Safe to repeat."""
        if self._remove_callback is not None:
            self._remove_callback()
            self._remove_callback = None
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
            await asyncio.wait({runner})
        self._synced.clear()

    # ---- the runner

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            await self._bus.wait_ready()
            watch = _Watch(inbox=self._bus.new_inbox(), name=f"watch-{random_secret()[:16]}")
            ended = "broke"
            try:
                ended = await self._list_and_watch(watch)
            except BusDisconnectedError:
                ended = "disconnected"
            except (BusTimeoutError, NoRespondersError, BusRefusedError) as error:
                ended = str(error)
                if isinstance(error, NoRespondersError) or (
                    isinstance(error, BusRefusedError) and error.code == _STREAM_NOT_FOUND
                ):
                    self._bus.ensure_soon()
            except PenstockError as error:
                ended = str(error)
            except Exception:
                logger.exception("watch broke", extra={"action": "watch_broke"})
            finally:
                self._watch = None
                self._synced.clear()
                await self._forget(watch)
            if watch.listed:
                backoff.reset()
            if not self._bus.connected:
                continue
            logger.info(
                "watch ended, listing again",
                extra={"action": "watch_ended", "bucket": self._bucket, "reason": ended},
            )
            await asyncio.sleep(backoff.pause_s(random_ratio()))

    async def _list_and_watch(self, watch: "_Watch") -> str:
        """Watch until the watch ends; gives the reason."""
        self._watch = watch
        watch.subscription = self._bus.subscribe_nowait(
            watch.inbox, lambda message: self._on_message(watch, message)
        )
        heartbeat_ns = int(self._heartbeat_s * 1e9)
        answer = await self._bus.api(
            f"CONSUMER.CREATE.{self._stream}.{watch.name}.{self._filter}",
            {
                "stream_name": self._stream,
                "action": "create",
                "config": {
                    "name": watch.name,
                    "deliver_subject": watch.inbox,
                    "deliver_policy": "last_per_subject",
                    "filter_subject": self._filter,
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "replay_policy": "instant",
                    "flow_control": True,
                    "idle_heartbeat": heartbeat_ns,
                    "inactive_threshold": _INACTIVE_NS,
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            },
            timeout_s=5.0,
        )
        watch.created = True
        # What the consumer has sent before its answer was written is no longer pending.
        delivered = int(answer.get("delivered", {}).get("consumer_seq", 0))
        watch.initial = int(answer["num_pending"]) + delivered
        if not watch.listed and watch.received >= watch.initial:
            self._finish_listing(watch)
        while not watch.ended.done():
            seen = watch.heard
            await asyncio.wait({watch.ended}, timeout=2.5 * self._heartbeat_s)
            if watch.heard == seen and not watch.ended.done():
                return "heartbeats stay away"
        return watch.ended.result()

    async def _forget(self, watch: "_Watch") -> None:
        if watch.subscription is not None:
            await watch.subscription.close()
        if watch.created:
            # At most a courtesy: the server forgets it by itself after `_INACTIVE_NS`.
            with contextlib.suppress(BusDisconnectedError):
                self._bus.publish_nowait(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{watch.name}", b""
                )

    def _on_disconnect(self) -> None:
        self._synced.clear()
        if self._watch is not None:
            self._watch.end("disconnected")

    # ---- messages

    def _on_message(self, watch: "_Watch", message: Received) -> None:
        if watch is not self._watch or watch.ended.done():
            return
        watch.heard += 1
        status = status_of(message)
        if status == 100:
            self._on_idle(watch, message)
            return
        if status:
            watch.end(f"status {status}")
            return
        ack = parse_ack_subject(message.reply)
        watch.received += 1
        if ack.consumer_sequence != watch.received:
            watch.end("messages are missing")
            return
        self._apply(watch, message, ack.stream_sequence)
        if not watch.listed and (
            ack.pending == 0 or (watch.initial is not None and watch.received >= watch.initial)
        ):
            self._finish_listing(watch)

    def _on_idle(self, watch: "_Watch", message: Received) -> None:
        # Flow control: the server waits until it hears that this message was reached.
        stalled = message.reply or message.headers.get("Nats-Consumer-Stalled", "")
        if stalled:
            with contextlib.suppress(BusDisconnectedError):
                self._bus.publish_nowait(stalled, b"")
        last = message.headers.get("Nats-Last-Consumer", "")
        if last.isdigit() and int(last) != watch.received:
            watch.end("messages are missing")

    def _apply(self, watch: "_Watch", message: Received, revision: int) -> None:
        key = message.subject.removeprefix(self._prefix)
        self._revision = revision
        if is_marker(message.headers):
            watch.keys.discard(key)
            self._remove(key)
            return
        watch.keys.add(key)
        if self._undecodable.get(key) == revision:
            return
        try:
            value = self._decode(message.data)
        except Exception as error:  # noqa: BLE001  # any failure of any decoder; logged
            self._undecodable[key] = revision
            logger.error(
                "KV value cannot be decoded, skipped",
                extra={
                    "action": "kv_undecodable",
                    "bucket": self._bucket,
                    "key": key,
                    "revision": revision,
                    "error": str(error),
                },
            )
            return
        self._undecodable.pop(key, None)
        row = Row(value, revision)
        # A bucket that was made anew counts revisions from 1 again, so the value counts as well.
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._tell(key, row)

    def _remove(self, key: str) -> None:
        self._undecodable.pop(key, None)
        if self._rows.pop(key, None) is not None:
            self._tell(key, None)

    def _finish_listing(self, watch: "_Watch") -> None:
        watch.listed = True
        for key in [key for key in self._rows if key not in watch.keys]:
            self._remove(key)
        watch.keys.clear()
        self._synced.set()
        if self._on_synced is not None:
            try:
                self._on_synced()
            except Exception:
                logger.exception(
                    "on_synced failed",
                    extra={"action": "on_synced_failed", "bucket": self._bucket},
                )

    def _tell(self, key: str, row: Row[T] | None) -> None:
        if self._on_change is None:
            return
        try:
            self._on_change(key, row)
        except Exception:
            logger.exception(
                "on_change failed",
                extra={"action": "on_change_failed", "bucket": self._bucket, "key": key},
            )


class _Watch:
    """State of one push consumer."""

    def __init__(self, *, inbox: str, name: str) -> None:
        self.inbox = inbox
        self.name = name
        self.subscription: Subscription | None = None
        self.created = False
        #: messages of the consumer that came; equals its sequence as long as none is missing
        self.received = 0
        #: messages that make the listing; None until the server said so
        self.initial: int | None = None
        self.listed = False
        #: keys seen by the listing
        self.keys: set[str] = set()
        #: counts everything that came, heartbeats included
        self.heard = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
