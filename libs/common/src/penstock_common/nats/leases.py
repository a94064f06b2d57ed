"""A lease with a fencing token, on one KV key with a TTL.

Theory of operation. The key's value names the holder; the server deletes it when its TTL has
passed since the last write. Every write expects the revision before it, so a chain of writes is
never interleaved with another holder's:

- *acquire*: nobody's value is there (absent, or a marker) → write, expecting the last revision.
  The revision of this write is the *token*: it grows from holder to holder.
- *renew*: write again, expecting our last revision. The revision moves on (it is the *fence*); the
  token stays, and stands in the value.
- *release*: delete, expecting our last revision.

Time is counted from before a write is sent, the server counts from when it stored it: we always
believe to hold it shorter than the server does, and `margin_s` shorter still.

A write without an answer may have been done, may be done later, or never. Each lease object marks
its values with a random `claim`; so reading the key back tells whether the last write is ours, and
if so the chain goes on from there. One that is done late at worst keeps others waiting for one
more TTL: it expects a revision that only we could have left.
"""

import asyncio
import json
import logging
import math
from dataclasses import dataclass, replace
from typing import Any

from penstock_common.clock import Clock
from penstock_common.entropy import random_secret
from penstock_common.errors import (
    BusDisconnectedError,
    BusRefusedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
    WrongRevisionError,
)
from penstock_common.nats.kv import Bucket, Entry, Fence

logger = logging.getLogger(__name__)

#: What a write or read may run into while the server cannot be reached or lacks the bucket.
_UNREACHABLE = (BusDisconnectedError, BusTimeoutError, NoRespondersError, BusRefusedError)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A link of our chain of writes."""

    revision: int
    token: int
    #: monotonic seconds from which on it is no longer surely ours
    until: float


class Lease:
    """Claims `key` for `holder` and keeps it; the revision of the claim is the fencing token.

    Renew it about every third of the TTL; check `held` right before each thing that only its
    holder may do, and let the writes of that thing carry `fence` (same bucket) or `token`.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        *,
        holder: str,
        ttl_s: int,
        clock: Clock,
        margin_s: float | None = None,
    ) -> None:
        """A lease that is not held.

        Args:
            bucket: must allow TTLs per message, and markers for what expires.
            key: of the lease in the bucket.
            holder: who claims it, for people; also two objects of one holder exclude each other.
            ttl_s: whole seconds, at least 2, after which a dead holder's lease is free.
            clock: its monotonic time counts.
            margin_s: how long before the TTL `held` turns false; a fifth of the TTL if None.

        Raises:
            ValueError: `ttl_s` is below 2, or `margin_s` not within 0 and `ttl_s`.
        """
        margin = ttl_s / 5 if margin_s is None else margin_s
        if ttl_s < 2 or not 0 <= margin < ttl_s:
            raise ValueError(f"need ttl_s >= 2 and 0 <= margin_s < ttl_s, got {ttl_s}, {margin}")
        self._bucket = bucket
        self._key = key
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._life_s = ttl_s - margin
        self._io_timeout_s = ttl_s / 4
        self._mark = random_secret()
        self._claim: _Claim | None = None

    @property
    def held(self) -> bool:
        """Whether it is surely held: false from `margin` before the TTL, counted from the send."""
        return self._claim is not None and self._clock.monotonic() < self._claim.until

    @property
    def token(self) -> int:
        """Fencing token: revision of the acquisition (constant while held, grows with holders).

        Raises:
            RuntimeError: the lease was never acquired, or is lost or released.
        """
        return self._current().token

    @property
    def fence(self) -> Fence:
        """Fence of the lease's current revision, for writes in the same bucket.

        It changes with each renewal: take it anew for every write. A write on its way while the
        lease is renewed is refused (`WrongRevisionError`) though the lease is held: try it again.

        Raises:
            RuntimeError: the lease was never acquired, or is lost or released.
        """
        return Fence(self._key, self._current().revision)

    async def try_acquire(self) -> bool:
        """Take it if nobody holds it; true when it is held afterwards.

        False also when the server cannot be reached; that is logged and worth another try. Takes
        at most about the TTL. One call at a time: `try_acquire`, `renew` and `release` of one
        lease are called one after another.
        """
        if self.held:
            return True
        try:
            entry, revision = await self._read()
        except _UNREACHABLE as error:
            self._log_unreachable(error)
            return False
        ours = self._our_token(entry)
        if entry is not None and ours is None:
            self._claim = None
            return False
        return await self._write(revision, ours)

    async def renew(self) -> bool:
        """Extend it; False = lost. Takes at most about the TTL.

        While the server cannot be reached the answer is `held`: true until the time is up.
        """
        claim = self._claim
        if claim is None:
            return False
        return await self._write(claim.revision, claim.token)

    async def release(self) -> None:
        """Give it up, so that the next holder need not wait for the TTL.

        `held` is false at once; when the server cannot be reached the TTL does the rest.
        """
        claim, self._claim = self._claim, None
        if claim is None:
            return
        try:
            await self._bucket.delete(self._key, revision=claim.revision)
        except PenstockError as error:
            logger.info(
                "lease not released, it will expire",
                extra={"action": "lease_release_failed", "key": self._key, "error": str(error)},
            )

    def _current(self) -> _Claim:
        if self._claim is None:
            raise RuntimeError(f"lease {self._key} is not held")
        return self._claim

    async def _write(self, revision: int, token: int | None) -> bool:
        """Write the next link after `revision`; `token` None = the first one."""
        for _ in range(2):
            until = self._clock.monotonic() + self._life_s
            try:
                written = await self._put(token, revision)
            except WrongRevisionError:
                # Somebody else's write, or an earlier one of ours that had no answer. Until we
                # have read which, it is not surely ours.
                if self._claim is not None:
                    self._claim = replace(self._claim, until=-math.inf)
            except BusTimeoutError as error:
                self._log_unreachable(error)
            except _UNREACHABLE as error:
                self._log_unreachable(error)
                return self.held
            else:
                self._claim = _Claim(written, token or written, until)
                return True
            try:
                entry, revision = await self._read()
            except _UNREACHABLE as error:
                self._log_unreachable(error)
                return self.held
            token = self._our_token(entry)
            if token is None:
                self._claim = None
                return False
            # The chain is unbroken: write the next link.
        return self.held

    async def _put(self, token: int | None, revision: int) -> int:
        value = {"holder": self._holder, "claim": self._mark, "token": token}
        try:
            async with asyncio.timeout(self._io_timeout_s):
                return await self._bucket.put(
                    self._key, json.dumps(value).encode(), revision=revision, ttl_s=self._ttl_s
                )
        except TimeoutError:
            raise BusTimeoutError(f"lease {self._key} could not be written in time") from None

    async def _read(self) -> tuple[Entry | None, int]:
        try:
            async with asyncio.timeout(self._io_timeout_s):
                return await self._bucket.latest(self._key)
        except TimeoutError:
            raise BusTimeoutError(f"lease {self._key} could not be read in time") from None

    def _our_token(self, entry: Entry | None) -> int | None:
        """The token in this entry if we wrote it: it stands in it, or it is its revision."""
        if entry is None:
            return None
        try:
            value: Any = json.loads(entry.value)
        except ValueError:
            return None
        if not isinstance(value, dict) or value.get("claim") != self._mark:
            return None
        token = value.get("token")
        return token if isinstance(token, int) else entry.revision

    def _log_unreachable(self, error: PenstockError) -> None:
        logger.warning(
            "lease not written",
            extra={
                "action": "lease_unreachable",
                "key": self._key,
                "holder": self._holder,
                "error": str(error),
            },
        )
