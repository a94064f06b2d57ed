"""A watched table: a live copy of a KV bucket's rows.

Theory of operation. A table has one runner task that walks for ever through

    connected → list and watch → (ended) → pause → …

A *watch* (watch.py) is one ephemeral push consumer on a delivery subject of its own: it first
sends the last message of every key, then every change. Its listing is whole when as many messages
came as were pending at its creation, or when a message says that none pends after it, and when it
has reached what the stream's leader held before it began: on a cluster any server of the stream
may serve it, and one that was started a moment ago lacks what was written meanwhile. Only a whole
listing touches the rows, all of it at once; rows that were not in it are removed. A watch ends when
the connection is lost, when the consumer's sequence shows a gap, or when its heartbeats stay away
(its server died, or its consumer was deleted); then a new watch lists everything again. Nothing is
resumed: a memory bucket that came back empty, a purged history and a stream made anew are all seen
for what they are.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from penstock_common import subjects
from penstock_common.entropy import random_ratio
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.nats.connection import Bus
from penstock_common.nats.retry import Backoff, patience
from penstock_common.nats.watch import Watch
from penstock_common.nats.wire import Received, is_marker, parse_ack_subject, status_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: While a listing is not whole it is looked at so often …
_LISTING_LOOK_S: Final = 0.5
#: … and given up when nothing more comes for so long.
_LISTING_STALLED_S: Final = 2.0
#: Heartbeats in a row that stay away until a watch is given up.
_MISSED_HEARTBEATS: Final = 2

# JetStream's err_codes
_STREAM_NOT_FOUND: Final = 10059
_NO_MESSAGE: Final = 10037


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
        heartbeat_s: float = 2.0,
    ) -> None:
        """A table that is not started.

        Args:
            bus: the connection to watch over.
            bucket: name of the bucket (a constant of `subjects`).
            decode: value of a row from its bytes; a value it raises on is logged once and skipped:
                the key keeps the row it had, if any.
            keys: pattern of the keys to watch.
            on_change: called with key and new row, or None when the key is gone; at the end of a
                listing for all that changed. What it raises is logged.
            on_synced: called when a listing is whole, the first one and each after a reconnect.
            heartbeat_s: how often the server shows that the watch still lives; a watch whose
                consumer is gone is noticed within three times that.
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
        self._watch: Watch | None = None
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
        backoff, wait = Backoff(), patience()
        while True:
            await self._bus.wait_ready()
            watch = Watch(self._bus, self._stream, self._filter)
            ended = "broke"
            try:
                ended = await self._list_and_watch(watch, timeout_s=wait.pause_s(1.0))
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
                await watch.forget()
            if watch.listed:
                backoff.reset()
                wait.reset()
            if not self._bus.connected:
                continue
            logger.info(
                "watch ended, listing again",
                extra={"action": "watch_ended", "bucket": self._bucket, "reason": ended},
            )
            await asyncio.sleep(backoff.pause_s(random_ratio()))

    async def _list_and_watch(self, watch: Watch, *, timeout_s: float) -> str:
        """Watch until the watch ends; gives the reason. Its making may take `timeout_s`."""
        self._watch = watch
        watch.needed = await self._newest()
        await watch.begin(
            lambda message: self._on_message(watch, message),
            heartbeat_s=self._heartbeat_s,
            timeout_s=timeout_s,
        )
        self._finish_if_whole(watch)
        silent_s = stalled_s = 0.0
        while not watch.ended.done():
            listed, heard, received = watch.listed, watch.heard, watch.received
            look_s = self._heartbeat_s if listed else min(_LISTING_LOOK_S, self._heartbeat_s)
            await asyncio.wait({watch.ended}, timeout=look_s)
            # Looks are counted, not time: a process that stalled has read nothing yet.
            silent_s = silent_s + look_s if watch.heard == heard else 0.0
            stalled_s = stalled_s + look_s if watch.received == received else 0.0
            if watch.ended.done():
                break
            if silent_s >= _MISSED_HEARTBEATS * self._heartbeat_s:
                return "heartbeats stay away"
            if not watch.listed:
                if stalled_s >= _LISTING_STALLED_S:
                    return "its server lags behind"
                # What was needed may have expired since.
                watch.needed = min(watch.needed, await self._newest())
                self._finish_if_whole(watch)
        return watch.ended.result()

    async def _newest(self) -> int:
        """Sequence of the last message that the stream's leader has of these keys; 0 = none."""
        try:
            answer = await self._bus.api(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": self._filter}
            )
        except BusRefusedError as error:
            if error.code == _NO_MESSAGE:
                return 0
            raise
        return int(answer["message"]["seq"])

    def _on_disconnect(self) -> None:
        self._synced.clear()
        if self._watch is not None:
            self._watch.end("disconnected")

    # ---- messages

    def _on_message(self, watch: Watch, message: Received) -> None:
        if watch is not self._watch or watch.ended.done():
            return
        watch.heard += 1
        status = status_of(message)
        if status == 100:
            watch.on_idle(message)
            return
        if status:
            watch.end(f"status {status}")
            return
        ack = parse_ack_subject(message.reply)
        watch.received += 1
        if ack.consumer_sequence != watch.received:
            watch.end("messages are missing")
            return
        watch.reached = ack.stream_sequence
        watch.counted = watch.counted or ack.pending == 0
        key = message.subject.removeprefix(self._prefix)
        gone = is_marker(message.headers)
        row = None if gone else self._row(key, message.data, ack.stream_sequence)
        if not watch.listed:
            watch.list(key, row, gone=gone)
            self._finish_if_whole(watch)
            return
        self._revision = ack.stream_sequence
        if gone:
            self._remove(key)
        elif row is not None:
            self._set(key, row)

    def _row(self, key: str, data: bytes, revision: int) -> Row[T] | None:
        """The row that a message brings; None = it cannot be decoded."""
        if self._undecodable.get(key) == revision:
            return None
        try:
            value = self._decode(data)
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
            return None
        self._undecodable.pop(key, None)
        return Row(value, revision)

    def _set(self, key: str, row: Row[T]) -> None:
        # A bucket that was made anew counts revisions from 1 again, so the value counts as well.
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._tell(key, row)

    def _remove(self, key: str) -> None:
        self._undecodable.pop(key, None)
        if self._rows.pop(key, None) is not None:
            self._tell(key, None)

    def _finish_if_whole(self, watch: Watch) -> None:
        if watch.listed or not watch.whole:
            return
        watch.listed = True
        listing, watch.listing = watch.listing, {}
        self._revision = watch.reached
        for key, row in listing.items():
            if row is not None:
                self._set(key, row)
        for key in [key for key in self._rows if key not in listing]:
            self._remove(key)
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
