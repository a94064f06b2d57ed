"""KV buckets, by raw publishes: no client-side buffering, a TTL and a fence per write.

A bucket B is the stream `KV_B` over the subjects `$KV.B.<key>` with one message a subject
(ADR-8 of NATS); a key's revision is its message's sequence, so revisions of a bucket grow over
all keys. A key that is deleted or expires leaves a marker for a while; the marker has a revision
too. `WatchedTable` (table.py) is a live copy of a bucket.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock_common import subjects
from penstock_common.errors import BusRefusedError
from penstock_common.nats.connection import Bus
from penstock_common.nats.table import Row, WatchedTable
from penstock_common.nats.wire import is_marker, parse_headers, status_of

__all__ = ["MARKER_TTL_S", "Bucket", "Entry", "Fence", "Row", "WatchedTable", "is_key"]

#: How long the marker of a deleted or expired key stays. Watchers hear of it at once or find out
#: when they list again, so it must only outlive a read of the revision and the write after it.
MARKER_TTL_S: Final = 60

_KEY: Final = re.compile(r"[-/_=a-zA-Z0-9]+(\.[-/_=a-zA-Z0-9]+)*")
_NO_MESSAGE: Final = 10037  # JetStream's err_code


def is_key(text: str) -> bool:
    """Whether this can be a key at all."""
    return _KEY.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's last value."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A write carrying it is refused once the key's last revision is another (same bucket only)."""

    key: str
    revision: int


class Bucket:
    """One KV bucket."""

    def __init__(self, bus: Bus, name: str) -> None:
        """The bucket `name` (a constant of `subjects`) over `bus`; nothing is sent."""
        self._bus = bus
        self._name = name
        self._stream = subjects.kv_stream(name)

    async def get(self, key: str) -> Entry | None:
        """The last value; None when the key is absent, deleted or expired.

        Any replica answers: on a cluster it may lag behind the last write (`latest` does not).

        Raises:
            BusDisconnectedError, BusTimeoutError: as for `Bus.request`.
            NoRespondersError: there is no such bucket.
            BusRefusedError: the server refused to read.
        """
        subject = self._subject(key)
        answer = await self._bus.request(f"$JS.API.DIRECT.GET.{self._stream}.{subject}", b"")
        status = status_of(answer)
        if status == 404:
            return None
        if status:
            raise BusRefusedError(f"direct get of {subject}: status {status}")
        if is_marker(answer.headers):
            return None
        return Entry(key, answer.data, int(answer.headers["Nats-Sequence"]))

    async def latest(self, key: str) -> tuple[Entry | None, int]:
        """The last value and the last revision, as the stream's leader knows them.

        Returns:
            (entry, revision): entry is None and revision above 0 when a marker of a delete or an
            expiry is the last; (None, 0) when the key was never written or its marker is gone.

        Raises:
            BusDisconnectedError, BusTimeoutError, NoRespondersError: as for `Bus.request`.
            BusRefusedError: e.g. there is no such bucket.
        """
        message = await self._last(self._subject(key))
        if message is None:
            return None, 0
        revision = int(message["seq"])
        if is_marker(parse_headers(base64.b64decode(message.get("hdrs", "")))):
            return None, revision
        return Entry(key, base64.b64decode(message.get("data", "")), revision), revision

    async def last_revision(self, key: str) -> int:
        """Last revision of the key, delete and expiry markers included; 0 = never written.

        Raises:
            BusDisconnectedError, BusTimeoutError, NoRespondersError, BusRefusedError: as for
                `latest`.
        """
        return (await self.latest(key))[1]

    async def newest_revision(self) -> int:
        """Of the last write of whichever key, delete and expiry markers included; 0 = none is there.

        Raises:
            BusDisconnectedError, BusTimeoutError, NoRespondersError, BusRefusedError: as for
                `latest`.
        """
        message = await self._last(subjects.kv_subject(self._name, ">"))
        return 0 if message is None else int(message["seq"])

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        ttl_s: int | None = None,
        fence: Fence | None = None,
    ) -> int:
        """Write and give the new revision.

        Args:
            key: tokens of letters, digits and `-/_=`, joined by dots.
            value: any bytes; value and headers together at most the server's `max_payload`.
            revision: expected last one (0 = never written), or None for any.
            ttl_s: whole seconds, at least 1, after which the key expires; None = never.
            fence: refuse the write unless this other key's last revision is still that one.

        Raises:
            ValueError: `revision` and `fence` together (a message carries only one expectation),
                a TTL below 1, or a bad key.
            WrongRevisionError: the expectation does not hold; nothing was written.
            BusTimeoutError: it may or may not have been written; read it back.
            BusDisconnectedError, NoRespondersError, BusRefusedError, MessageTooLargeError: nothing
                was written.
        """
        headers = self._expectation(revision, fence)
        if ttl_s is not None:
            if ttl_s < 1:
                raise ValueError(f"ttl_s must be at least 1, got {ttl_s}")
            headers["Nats-TTL"] = f"{ttl_s}s"
        stored = await self._bus.store(self._subject(key), value, headers=headers or None)
        return stored.sequence

    async def delete(
        self, key: str, *, revision: int | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the key; a marker remains for `MARKER_TTL_S`. Deleting an absent key is fine.

        Args:
            key: as for `put`.
            revision: expected last one, or None for any.
            fence: as for `put`.

        Raises:
            ValueError, WrongRevisionError, BusTimeoutError, BusDisconnectedError,
            NoRespondersError, BusRefusedError: as for `put`.
        """
        headers = self._expectation(revision, fence)
        headers["KV-Operation"] = "DEL"
        headers["Nats-TTL"] = f"{MARKER_TTL_S}s"
        await self._bus.store(self._subject(key), b"", headers=headers)

    async def _last(self, subject: str) -> Mapping[str, Any] | None:
        """The last message, as the stream's leader knows it."""
        try:
            answer = await self._bus.api(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject}
            )
        except BusRefusedError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        message: Mapping[str, Any] = answer["message"]
        return message

    def _subject(self, key: str) -> str:
        if not is_key(key):
            raise ValueError(f"no KV key: {key!r}")
        return subjects.kv_subject(self._name, key)

    def _expectation(self, revision: int | None, fence: Fence | None) -> dict[str, str]:
        if fence is not None:
            if revision is not None:
                raise ValueError("a write takes a revision or a fence, not both")
            return {
                "Nats-Expected-Last-Subject-Sequence": str(fence.revision),
                "Nats-Expected-Last-Subject-Sequence-Subject": self._subject(fence.key),
            }
        if revision is not None:
            return {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        return {}
