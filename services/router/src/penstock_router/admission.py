"""Who gets a slot now, who waits, who is turned away: the waiting list of one endpoint.

Theory of operation. A request that finds no slot becomes a ticket on this list; the list is in
order of arrival. Every ticket ends in exactly one `TicketOutcome`:

    decided ──▶ slot at once                          (no ticket)
            ──▶ refused                               REJECTED
            ──▶ waits ──▶ gets a slot                 DISPATCHED
                      ──▶ waited too long, failed     EVICTED
                      ──▶ its client left             CANCELLED

Rule 1: nobody overtakes: a free slot goes to a newcomer only when nobody of this endpoint waits.
Rule 2: what closes an endpoint (paused, deleting, router stopping) refuses at once; what keeps its
        workers from starting (`crash_backoff`) refuses only those who would have to wait; what has
        no place for them (`no_capacity`, `quota_exceeded`) refuses those who have waited for a
        while, since places come free and only a waiting request makes the scheduler look.
Rule 3: an endpoint that backs off is asked again after `retry_at`: requests wait then, since only a
        waiting request makes the scheduler try.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from math import ceil
from typing import Final

from typing_extensions import override

from penstock_common.errors import PenstockError
from penstock_common.messages import EndpointRecord, EndpointStatus
from penstock_common.specs import QueueSpec
from penstock_common.states import EndpointReason, EndpointState, TicketOutcome


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served, as the client will read it."""

    #: HTTP status
    status: int
    #: stable name of the reason
    reason: str
    #: one sentence for a person
    detail: str
    #: requests of the endpoint that wait at this router; None where it says nothing
    queue_length: int | None = None
    #: place among them, from 1: that it had, or would have got; None where it says nothing
    position: int | None = None
    #: seconds after which another try makes sense; None = trying again will not help
    retry_after_s: int | None = None


class RefusedError(PenstockError):
    """The request is not served."""

    error_type = "refused"
    status_hint = 503

    def __init__(self, refusal: Refusal) -> None:
        """Refused for this reason."""
        super().__init__(refusal.detail)
        self.refusal = refusal


class Admission(Enum):
    """What becomes of a request that is not refused."""

    SLOT = auto()
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands in an endpoint's way, as far as this router knows."""

    #: refuses everyone
    closed: Refusal | None = None
    #: refuses those who would have to wait, and evicts those who do
    failing: Refusal | None = None
    #: explains a long wait
    hint: str | None = None
    #: name of that explanation
    hint_reason: str | None = None
    #: refuses whoever has waited for the router's `no_capacity_wait_s`: waiting on helps nobody
    hopeless: Refusal | None = None


CLEAR: Final = Condition()

#: Advice to come back: short where a slot frees soon, longer where a person has to act.
_RETRY_FULL_S: Final = 2
_RETRY_WAITED_S: Final = 5
_RETRY_PAUSED_S: Final = 60
_RETRY_STOPPING_S: Final = 1
_RETRY_FAILED_S: Final = 30

#: Reasons for which no worker is started; each may pass while somebody waits.
_NO_PLACE: Final = frozenset({EndpointReason.NO_CAPACITY, EndpointReason.QUOTA_EXCEEDED})

#: Name of the refusal of who has waited for `queue.max_wait_s`.
_WAITED: Final = "queue_timeout"

STOPPING: Final = Condition(
    closed=Refusal(
        503,
        "router_stopping",
        "This router is shutting down; try again.",
        retry_after_s=_RETRY_STOPPING_S,
    )
)


def judge_endpoint(
    record: EndpointRecord, status: EndpointStatus | None, *, running: bool, utc_now: datetime
) -> Condition:
    """What stands in the way of this endpoint's requests.

    Args:
        record: the endpoint as its owner wants it.
        status: what the scheduler last said of it.
        running: whether any worker of it runs, at any router.
        utc_now: to compare with the status's `retry_at`.
    """
    if record.deleted_at is not None:
        return Condition(closed=Refusal(503, "deleting", "The endpoint is being deleted."))
    if record.paused:
        return Condition(
            closed=Refusal(
                503,
                "paused",
                "The endpoint is paused; its owner can resume it.",
                retry_after_s=_RETRY_PAUSED_S,
            )
        )
    # What was said of an older revision says nothing of the one that replaces it.
    if status is None or status.revision < record.revision or running:
        return CLEAR
    if status.reason in _NO_PLACE:
        message = status.message or "No worker of this endpoint can be started now."
        reason = status.reason.value
        # What has no place is a further worker, or the one that takes over a place not yet free.
        if status.workers_starting or status.workers_draining:
            return Condition(hint=message, hint_reason=reason)
        hopeless = Refusal(503, reason, message, retry_after_s=_RETRY_FAILED_S)
        return Condition(hint=message, hint_reason=reason, hopeless=hopeless)
    if status.reason is EndpointReason.CRASH_BACKOFF or status.state is EndpointState.FAILED:
        return _judge_failure(status, utc_now)
    if status.reason is EndpointReason.STARTING and status.message is not None:
        return Condition(hint=status.message, hint_reason=_WAITED)
    return CLEAR


def _judge_failure(status: EndpointStatus, utc_now: datetime) -> Condition:
    reason = (status.reason or EndpointState.FAILED).value
    message = status.message or "The endpoint's workers fail to start."
    if status.retry_at is None:
        return Condition(failing=Refusal(503, reason, message, retry_after_s=_RETRY_FAILED_S))
    wait_s = (status.retry_at - utc_now).total_seconds()
    if wait_s <= 0:
        return Condition(hint=message, hint_reason=reason)
    return Condition(failing=Refusal(503, reason, message, retry_after_s=max(1, ceil(wait_s))))


class WaitingList:
    """The tickets of one endpoint's clients that wait at this router, in order of arrival."""

    def __init__(self) -> None:
        self._waiting: dict[str, float] = {}  # ticket id → when it came; dicts keep the order
        self._outcomes: Counter[TicketOutcome] = Counter()

    @override
    def __repr__(self) -> str:
        ended = ", ".join(f"{outcome} {n}" for outcome, n in sorted(self._outcomes.items()))
        return f"<WaitingList {len(self)} waiting; {ended or 'none ended'}>"

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, ticket_id: str) -> bool:
        return ticket_id in self._waiting

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._waiting))

    def position(self, ticket_id: str) -> int | None:
        """Place of a ticket in the line, from 1; None when it does not wait."""
        if ticket_id not in self._waiting:
            return None
        return next(n for n, waiting in enumerate(self._waiting, 1) if waiting == ticket_id)

    @property
    def head(self) -> str | None:
        """The ticket that waits longest."""
        return next(iter(self._waiting), None)

    def ended(self, outcome: TicketOutcome) -> int:
        """Tickets that ended so."""
        return self._outcomes[outcome]

    def oldest_wait_s(self, *, now: float) -> float:
        """Seconds that the head has waited; 0 when nobody waits."""
        head = self.head
        return 0.0 if head is None else max(0.0, now - self._waiting[head])

    def decide_admission(
        self, *, slot_free: bool, limits: QueueSpec, condition: Condition, again: bool = False
    ) -> Admission | Refusal:
        """Whether a request that arrives now gets a slot, waits, or is refused.

        Args:
            slot_free: whether a slot could be given out now.
            limits: the endpoint's own.
            condition: what stands in its way.
            again: it was admitted before and lost its worker: a full queue does not refuse it.
        """
        if condition.closed is not None:
            return self._reject(condition.closed)
        if slot_free and not self._waiting:
            return Admission.SLOT
        if condition.failing is not None:
            return self._reject(condition.failing)
        if len(self._waiting) >= limits.max_waiting and not again:
            return self._reject(
                Refusal(
                    429,
                    "queue_full",
                    f"{len(self._waiting)} requests wait already, which is the endpoint's limit"
                    " (queue.max_waiting).",
                    position=len(self._waiting) + 1,
                    retry_after_s=_RETRY_FULL_S,
                )
            )
        return Admission.WAIT

    def enqueue(self, ticket_id: str, *, now: float) -> None:
        """Let this new ticket wait behind all others.

        Raises:
            ValueError: it waits already.
        """
        if ticket_id in self._waiting:
            raise ValueError(f"ticket {ticket_id} waits already")
        self._waiting[ticket_id] = now

    def end(self, ticket_id: str, outcome: TicketOutcome, *, now: float) -> float | None:
        """End a ticket.

        Returns:
            Seconds that it waited; None when it does not wait (any more), and nothing changed.
        """
        enqueued_at = self._waiting.pop(ticket_id, None)
        if enqueued_at is None:
            return None
        self._outcomes[outcome] += 1
        return max(0.0, now - enqueued_at)

    def refuse_waited(self, ticket_id: str, limits: QueueSpec, condition: Condition) -> Refusal:
        """What a ticket is told that has waited for `limits.max_wait_s`."""
        detail = f"No worker was free for {limits.max_wait_s:g} s (queue.max_wait_s)."
        reason = _WAITED
        if condition.hint is not None and condition.hint_reason is not None:
            detail, reason = f"{detail} {condition.hint}", condition.hint_reason
        refusal = Refusal(503, reason, detail, retry_after_s=_RETRY_WAITED_S)
        return self.count(refusal, ticket_id)

    def count(self, refusal: Refusal, ticket_id: str | None = None) -> Refusal:
        """The refusal with the number of those who wait, and the ticket's place among them."""
        place = None if ticket_id is None else self.position(ticket_id)
        return replace(refusal, queue_length=len(self._waiting), position=place)

    def waited_since(self, instant: float) -> tuple[str, ...]:
        """The tickets that wait since this instant or longer, in order."""
        return tuple(i for i, since in self._waiting.items() if since <= instant)

    def _reject(self, refusal: Refusal) -> Refusal:
        self._outcomes[TicketOutcome.REJECTED] += 1
        return replace(refusal, queue_length=len(self._waiting))
