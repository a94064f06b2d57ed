"""Writes the audit trail: the attempt before the deed, the outcome before the answer.

Theory of operation (docs/adr/0020). A request that would change something is written down before
anything is done: without that nothing is done. What became of it takes the attempt's place, under
the same subject, before the answer goes out; when NATS fails in between, the trail says "attempted"
(no status) until a background loop has written the rest. So no change is without its trail, and no
trail claims what is not known. Refused callers are counted (`denials.py`) and written by the loop.

What Penstock changes by itself is written down in the same way. Every api may be about to make the same
change; its record has a name that says which change it is, so there is one, and who really made the
change tells the outcome.

Each caller has a bounded number of records, the oldest of its own going first: nobody can push
another's out of the stream.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from penstock_api.audit.denials import Denial, Denials
from penstock_api.audit.notes import Notes, collected
from penstock_api.audit.own_changes import OwnChange
from penstock_api.problems import refused, refused_by_aiohttp
from penstock_common import ids, subjects
from penstock_common.clock import Clock
from penstock_common.entropy import random_id
from penstock_common.errors import PenstockError, WrongRevisionError
from penstock_common.messages import AuditRecord, AuditTarget
from penstock_common.nats.connection import Bus

logger = logging.getLogger(__name__)

#: The loop writes what is owed so often: outcomes that NATS did not take, refused callers.
TICK_S: Final = 1.0
#: Reason of an own change that was not needed any more when it came to be made.
OVERTAKEN: Final = "overtaken"
#: Holds when a subject's last message has this sequence; 0 = it has none.
_LAST_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
#: Outcomes that may wait for NATS.
MAX_OWED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many records a caller may have."""

    of_key: int = 100_000
    #: those that callers without a key have together
    of_nobody: int = 10_000
    #: after so many new ones a caller's oldest are looked for
    trim_every: int = 500


_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that would change something, before it is done."""

    #: the operation's name, e.g. `endpoints_update`
    action: str
    #: where it was asked for, e.g. `PATCH /v1/endpoints/{endpoint}`
    route: str
    request_id: str
    #: id and name of the API key or join token that asks
    key_id: str
    key_name: str
    #: address that it comes from
    source: str
    forwarded_for: str = ""
    #: what the request itself says that it is about; what is written comes to it
    targets: tuple[AuditTarget, ...] = ()


class Deed:
    """How a request ends; told by whoever does it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.reason = ""

    def answered(self, status: int, reason: str = "") -> None:
        """It ends with this HTTP status, and this reason if it was refused."""
        self.status = status
        self.reason = reason


class AuditTrail:
    """The writer of the stream AUDIT."""

    def __init__(self, bus: Bus, clock: Clock, bounds: Bounds = _BOUNDS) -> None:
        """Nothing is sent yet."""
        self._bounds = bounds
        self._bus = bus
        self._clock = clock
        self._denials = Denials()
        self._owed: deque[AuditRecord] = deque()
        self._new: Counter[str] = Counter()

    @asynccontextmanager
    async def recorded(self, attempt: Attempt) -> AsyncIterator[Deed]:
        """Within the block the attempt is on record; after it, its outcome is as well.

        What the block writes through the store is noted by itself. It tells how the request ends by
        `Deed.answered`, or by what it raises; when it is cancelled, that is not known.

        Raises:
            PenstockError: NATS did not take the attempt, so nothing may be done.
        """
        now = self._clock.utc()
        record = AuditRecord(
            audit_id=random_id(ids.AUDIT),
            at=now,
            last_at=now,
            request_id=attempt.request_id,
            key_id=attempt.key_id,
            key_name=attempt.key_name,
            source=attempt.source,
            forwarded_for=attempt.forwarded_for,
            action=attempt.action,
            route=attempt.route,
            targets=attempt.targets,
        )
        await self._write(record)
        deed = Deed()
        with collected() as notes:
            try:
                yield deed
            except Exception as error:
                if deed.status is None:
                    deed.answered(*_outcome(error))
                raise
            finally:
                if deed.status is not None:
                    await self._conclude(_concluded(record, deed, notes))

    @asynccontextmanager
    async def own(self, change: OwnChange) -> AsyncIterator[None]:
        """Within the block the change is on record as attempted; after it, its outcome is as well.

        The block makes the change through the store, or finds that it is not needed any more. When
        it raises, the record says "attempted" until somebody tries again.

        Raises:
            PenstockError: NATS did not take the attempt, so nothing may be done.
        """
        record = _of_own(change, self._clock.utc())
        attempt = await self._try_begin(record)
        with collected() as notes:
            yield
        deed = Deed()
        if notes.targets:
            deed.answered(HTTPStatus.OK)
            await self._conclude(_concluded(record, deed, notes))
        elif attempt is not None:
            # Who else was about to make it has not, or has told of it, which then stands.
            deed.answered(HTTPStatus.CONFLICT, OVERTAKEN)
            with contextlib.suppress(WrongRevisionError):
                await self._write(_concluded(record, deed, notes), last=attempt)

    async def _try_begin(self, record: AuditRecord) -> int | None:
        """Sequence of the attempt; None = one is on record already."""
        try:
            return await self._write(record, last=0)
        except WrongRevisionError:
            return None

    def deny(self, denial: Denial, request_id: str) -> None:
        """Have it written soon that this was refused."""
        self._denials.note(denial, request_id, self._clock.utc())

    async def run(self) -> None:
        """Write what is owed, for ever."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Write what is owed, and drop what is too much; a failure leaves the rest to the next."""
        self._owe(*self._denials.take(random_id(ids.AUDIT)))
        try:
            while self._owed:
                await self._write_owed(self._owed.popleft())
            for caller, n in tuple(self._new.items()):
                if n >= self._bounds.trim_every:
                    await self._trim(caller)
        except PenstockError as error:
            logger.info(
                "audit records wait for NATS",
                extra={"action": "audit_waits", "records": len(self._owed), "error": str(error)},
            )

    async def flush(self, timeout_s: float) -> None:
        """Write what is owed, for at most so long; what is left goes to the log."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.tick()
        except TimeoutError:
            pass
        while self._owed:
            _log_lost(self._owed.popleft(), "the api stops")

    async def _conclude(self, record: AuditRecord) -> None:
        try:
            await self._write(record)
        except PenstockError as error:
            logger.warning(
                "audit outcome not written yet",
                extra={
                    "action": "audit_outcome_owed",
                    "audit_id": record.audit_id,
                    "error": str(error),
                },
            )
            self._owe(record)

    async def _write_owed(self, record: AuditRecord) -> None:
        try:
            await self._write(record)
        except BaseException:
            self._owed.appendleft(record)
            raise

    def _owe(self, *records: AuditRecord) -> None:
        self._owed += records
        while len(self._owed) > MAX_OWED:
            _log_lost(self._owed.popleft(), "too many wait for NATS")

    async def _write(self, record: AuditRecord, *, last: int | None = None) -> int:
        """Store it, if so where `last` is what its subject has; gives its sequence."""
        caller = record.key_id or subjects.AUDIT_NOBODY
        stored = await self._bus.store(
            subjects.audit(caller, record.audit_id),
            record.encode(),
            headers=None if last is None else {_LAST_SEQUENCE: str(last)},
        )
        self._new[caller] += 1
        return stored.sequence

    async def _trim(self, caller: str) -> None:
        nobody = caller == subjects.AUDIT_NOBODY
        most = self._bounds.of_nobody if nobody else self._bounds.of_key
        body = {"filter": subjects.audit(caller, "*"), "keep": most}
        await self._bus.api(f"STREAM.PURGE.{subjects.AUDIT}", body)
        del self._new[caller]


def _outcome(error: Exception) -> tuple[int, str]:
    match error:
        case PenstockError():
            told = refused(error)
        case web.HTTPException():
            told = refused_by_aiohttp(error)
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "internal"
    return told.status, told.reason


def _of_own(change: OwnChange, now: datetime) -> AuditRecord:
    return AuditRecord(
        audit_id=change.audit_id,
        at=now,
        last_at=now,
        key_id=change.by,
        action=change.action,
        route="",
        targets=(change.target,),
        why=change.why,
    )


def _concluded(record: AuditRecord, deed: Deed, notes: Notes) -> AuditRecord:
    # A name that a request gave is told by what was written, which knows the id as well.
    written = {(target.kind, target.id): target for target in notes.targets}
    asked = {
        (target.kind, target.id): target
        for target in record.targets
        if not any(target.kind == kind for kind, _ in written)
    }
    return record.model_copy(
        update={
            "status": deed.status,
            "reason": deed.reason,
            "targets": tuple((asked | written).values()),
            "changes": tuple(notes.changes),
            "changes_left_out": notes.left_out,
        }
    )


def _log_lost(record: AuditRecord, why: str) -> None:
    # The log is the trail's last resort; changes stay out, as they may be long.
    logger.error(
        "audit record lost",
        extra={
            "action": "audit_lost",
            "error": why,
            "record": record.model_dump(mode="json", exclude={"changes"}),
        },
    )
