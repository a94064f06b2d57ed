"""Crash backoff: what failed starts of one endpoint mean for the next ones.

A start has failed when the worker failed before it was healthy, or soon after (`QUICK_EXIT_S`).
Each failure in a row doubles the pause before the next try, from 1 s to 60 s; several workers that
fail within one pause count once. After the pause one worker is tried at a time. A worker that
stays healthy, or a new revision, wipes the slate. What failed last is kept to be shown.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from penstock_common.messages import EndpointStatus, WorkerStatus
from penstock_common.states import DesiredState, EndpointReason, WorkerReason, WorkerState
from penstock_scheduler.snapshot import Worker

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
#: So many failed starts in a row prove that a revision cannot start.
FAILED_AFTER: Final = 3
#: A worker that fails within this time of being healthy has not really started.
QUICK_EXIT_S: Final = 10.0
#: Ends that are no fault of the worker.
_NO_FAULT: Final = frozenset(
    {WorkerReason.AGENT_STOPPED, WorkerReason.ENGINE_RESTARTED, WorkerReason.NODE_LOST}
)
#: Ends that are a fault of the node: the next try waits, but they say nothing against a revision.
_NODES_FAULT: Final = frozenset(
    {WorkerReason.ENGINE_ERROR, WorkerReason.GPU_FAULT, WorkerReason.NO_SPACE}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """How a worker failed."""

    worker_id: str
    node_id: str
    message: str
    exit_code: int | None = None
    log_tail: tuple[str, ...] = ()
    #: whether it had all of its `start_timeout_s` and was not healthy then
    timed_out: bool = False
    #: whether the node is at fault, not what it was to run
    by_node: bool = False


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failed starts of one revision of an endpoint. Immutable; `Backoff()` = none."""

    revision: int = 0
    #: failed starts in a row
    failures: int = 0
    #: monotonic seconds before which nothing is started
    retry_at: float = -math.inf
    #: the same in UTC, to be shown
    retry_utc: datetime | None = None
    #: what failed last, if anything did since the last healthy worker
    last: Failure | None = None
    #: monotonic seconds of that
    failed_at: float = -math.inf
    #: nodes where starts failed, in this row of failures
    nodes: frozenset[str] = frozenset()

    def pauses(self, now: float) -> bool:
        """Whether nothing may be started yet."""
        return self.failures > 0 and now < self.retry_at

    @property
    def proves_failure(self) -> bool:
        """Whether the revision cannot start: one start timeout, or crashes in a row."""
        if self.last is not None and self.last.by_node:
            return False
        timed_out = self.last is not None and self.last.timed_out
        return self.failures >= FAILED_AFTER or (self.failures > 0 and timed_out)


def failure_of(worker: Worker) -> tuple[Failure, bool] | None:
    """How a worker failed, and whether that counts as a failed start.

    None: it has not failed, or not by a fault of its own, or it was told to stop anyway.
    """
    status = worker.status
    if status is None or status.state is not WorkerState.FAILED or status.reason in _NO_FAULT:
        return None
    if worker.assignment.desired is not DesiredState.RUNNING:
        return None
    failure = Failure(
        status.worker_id,
        status.node_id,
        status.message or _describe(status),
        status.exit_code,
        status.log_tail,
        timed_out=status.reason is WorkerReason.START_TIMEOUT,
        by_node=status.reason in _NODES_FAULT,
    )
    ready_at = worker.ready_at
    # Both instants are of the node's clock.
    lived_s = (status.updated_at - ready_at).total_seconds() if ready_at else 0.0
    return failure, lived_s < QUICK_EXIT_S


def note_failure(
    backoff: Backoff, failure: Failure, *, revision: int, counts: bool, now: float, utc: datetime
) -> Backoff:
    """The backoff after this failure.

    Args:
        backoff: what was known before.
        failure: how a worker failed.
        revision: the endpoint's revision that the worker ran.
        counts: whether it was a failed start.
        now: monotonic seconds.
        utc: the same instant.
    """
    if not counts or backoff.pauses(now):
        return replace(
            backoff, revision=revision, last=failure, failed_at=now, nodes=_nodes(backoff, failure)
        )
    failures = backoff.failures + 1
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 30))
    return Backoff(
        revision=revision,
        failures=failures,
        retry_at=now + pause_s,
        retry_utc=utc + timedelta(seconds=pause_s),
        last=failure,
        failed_at=now,
        nodes=_nodes(backoff, failure),
    )


def recall(status: EndpointStatus | None, *, now: float, utc: datetime) -> Backoff:
    """The backoff that an endpoint's status tells: what a new leader starts from."""
    if (
        status is None
        or status.reason is not EndpointReason.CRASH_BACKOFF
        or status.retry_at is None
    ):
        return Backoff()
    pause_s = max(FIRST_PAUSE_S, (status.retry_at - status.updated_at).total_seconds())
    left_s = min(LONGEST_PAUSE_S, max(0.0, (status.retry_at - utc).total_seconds()))
    failures = 1 + round(math.log2(min(pause_s, LONGEST_PAUSE_S) / FIRST_PAUSE_S))
    # So many that are no proof were the nodes' fault.
    by_node = failures >= FAILED_AFTER and status.failed_revision is None
    return Backoff(
        revision=status.revision,
        failures=failures,
        retry_at=now + left_s,
        retry_utc=status.retry_at,
        last=Failure(
            "", "", status.message or "", status.exit_code, status.log_tail, by_node=by_node
        ),
    )


def _nodes(backoff: Backoff, failure: Failure) -> frozenset[str]:
    return backoff.nodes | {failure.node_id}


def _describe(status: WorkerStatus) -> str:
    how = f"with code {status.exit_code}" if status.exit_code is not None else "without exit code"
    reason = f" ({status.reason})" if status.reason else ""
    return f"worker {status.worker_id} on {status.node_id} ended {how}{reason}"
