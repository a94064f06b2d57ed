"""What to do about one worker: the decision, from what is wanted and what is known.

Theory of operation.
1. `wanted` is the assignment's desired state, None when the assignment is gone. `WorkerView` is
   all that the agent knows of the worker. `decide` gives the state to report and the one step to
   take; the keeper takes it, changes the view by what came of it, and asks again. A step is
   asked for again until its effect is in the view, so every step is safe to repeat.
2. `presence` says what may exist on the node. Only proof makes it `REMAINS` (no process any more)
   or `ABSENT` (nothing at all), and a worker is reported ended only then: whoever reads `stopped`
   or `failed` may give its GPUs away.
3. An `ending` in the view is final: from then on the worker goes, whatever is wanted. A worker
   that failed is never started again; the scheduler assigns another one.
4. A worker whose assignment is gone is stopped, cleaned away and forgotten. Callers say None only
   while the table of assignments is synced: with NATS away, workers run on.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from penstock_common.messages import WorkerAssignment, WorkerStatus
from penstock_common.states import (
    ENDED,
    WORKER_TRANSITIONS,
    DesiredState,
    Phase,
    WorkerReason,
    WorkerState,
    advance_worker,
)
from penstock_node_agent.workers.advice import advised

#: How many last lines a failed worker's status carries.
LOG_TAIL_LINES: Final = 20
#: A start that found its port taken is tried so often in all.
START_TRIES: Final = 3
#: Reasons that may hide a fault of a GPU.
_BY_GPU: Final = frozenset(
    {WorkerReason.EXITED, WorkerReason.START_TIMEOUT, WorkerReason.UNHEALTHY}
)
#: Exit codes of what could not be executed, or was not found.
_NO_PROGRAM: Final = (126, 127)
_INIT_SAYS: Final = re.compile(r"\[FATAL tini \(\d+\)\] (exec .+ failed: .+)")


class Presence(StrEnum):
    """What of a worker may exist on the node."""

    #: nothing, for sure
    ABSENT = "absent"
    #: a start has begun; how far it came is not known
    PARTIAL = "partial"
    #: it was started, its end has not been seen
    UP = "up"
    #: no process any more; files, a dead container or volumes may be left
    REMAINS = "remains"


class Step(StrEnum):
    """What the keeper does next."""

    #: nothing until something changes
    WAIT = "wait"
    #: start it (or go on with a start that a crash interrupted)
    START = "start"
    #: probe it and wait for its end
    WATCH = "watch"
    #: SIGTERM, grace, SIGKILL, until no process is left
    STOP = "stop"
    #: clean away what is left of it
    REMOVE = "remove"
    #: delete its status and drop it
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended, or why it must."""

    #: `stopped` or `failed`
    state: WorkerState
    reason: WorkerReason | None = None
    message: str | None = None
    exit_code: int | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What the agent knows of one worker."""

    #: as last reported
    state: WorkerState = WorkerState.PENDING
    presence: Presence = Presence.ABSENT
    #: it was healthy once
    ready: bool = False
    #: set = it goes, whatever is wanted
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to report, and the step to take."""

    state: WorkerState
    step: Step


def decide(wanted: DesiredState | None, view: WorkerView) -> Decision:
    """What to report of a worker and what to do about it.

    Args:
        wanted: the assignment's desired state; None = there is no assignment any more.
        view: what is known of the worker.

    Returns:
        A state that `view.state` may advance to, and a step.
    """
    going = view.ending is not None or view.state in ENDED
    if going or wanted in (None, DesiredState.STOPPED):
        return _decide_going(wanted, view)
    state = _state_of_living(wanted, view)
    match view.presence:
        case Presence.REMAINS:
            return Decision(state, Step.REMOVE)
        case Presence.UP:
            return Decision(state, Step.WATCH)
        case Presence.PARTIAL:
            return Decision(state, Step.START)
        case Presence.ABSENT:
            # Nothing is in flight at a worker that never ran: one that is to drain is not begun.
            start = wanted is DesiredState.RUNNING
            return Decision(state, Step.START if start else Step.WAIT)


def _decide_going(wanted: DesiredState | None, view: WorkerView) -> Decision:
    match view.presence:
        case Presence.UP | Presence.PARTIAL:
            # Only one that was ready may have requests in flight, and a router that must hear.
            state = _try_advance(view.state, WorkerState.DRAINING) if view.ready else view.state
            return Decision(state, Step.STOP)
        case Presence.REMAINS:
            return Decision(_end_state(view), Step.REMOVE)
        case Presence.ABSENT:
            return Decision(_end_state(view), Step.FORGET if wanted is None else Step.WAIT)


def _end_state(view: WorkerView) -> WorkerState:
    if view.state in ENDED:
        return view.state
    end = view.ending.state if view.ending is not None else WorkerState.STOPPED
    return advance_worker(view.state, end)


def _state_of_living(wanted: DesiredState | None, view: WorkerView) -> WorkerState:
    if view.presence is not Presence.UP:
        return view.state
    if wanted is DesiredState.DRAINING:
        return _try_advance(view.state, WorkerState.DRAINING)
    if view.ready and WorkerState.RUNNING in WORKER_TRANSITIONS[view.state]:
        return WorkerState.RUNNING
    return _try_advance(view.state, WorkerState.STARTING)


def _try_advance(old: WorkerState, new: WorkerState) -> WorkerState:
    return new if new in WORKER_TRANSITIONS[old] else old


@dataclass(frozen=True, slots=True)
class FoundState:
    """What the runtime says of a worker when the agent comes back."""

    #: it was created but its process never started
    created_only: bool
    #: its process runs
    running: bool
    #: of one that ended: its exit code, None = unknown
    exit_code: int | None = None
    oom_killed: bool = False
    with_engine: bool = False


def resume(
    status: WorkerStatus | None, found: FoundState | None, *, wanted: DesiredState | None
) -> WorkerView:
    """The view of a worker that an agent begins with, when it starts or sees a new assignment.

    Args:
        status: what was last reported of it; None = nothing.
        found: what the runtime has of it; None = nothing.
        wanted: as for `decide`. One that was to stop and is found ended has not failed: an agent
            that died in between may have stopped it.
    """
    to_stop = wanted in (None, DesiredState.STOPPED)
    state = status.state if status is not None else WorkerState.PENDING
    ready = status is not None and Phase.HEALTHY in status.phases
    view = WorkerView(state=state, ready=ready)
    if status is not None and state in ENDED:
        view = replace(view, ending=_reported_ending(status))
    if found is None:
        if ready and view.ending is None and not to_stop:
            gone = Ending(
                WorkerState.FAILED,
                WorkerReason.EXITED,
                "was gone when its node agent came back; its exit code is not known",
            )
            return replace(view, ending=gone)
        return view
    if found.created_only:
        return replace(view, presence=Presence.PARTIAL)
    if found.running:
        return replace(view, presence=Presence.UP)
    if to_stop:
        return replace(view, presence=Presence.REMAINS)
    ending = view.ending or exit_ending(
        found.exit_code,
        oom_killed=found.oom_killed,
        ready=ready,
        with_engine=found.with_engine,
    )
    return replace(view, presence=Presence.REMAINS, ending=ending)


def _reported_ending(status: WorkerStatus) -> Ending:
    return Ending(status.state, status.reason, status.message, status.exit_code, status.log_tail)


def exit_ending(
    exit_code: int | None,
    *,
    oom_killed: bool,
    ready: bool,
    with_engine: bool = False,
    log_tail: tuple[str, ...] = (),
) -> Ending:
    """The ending of a worker that ended by itself.

    Args:
        exit_code: of its first process, 128 + n for signal n; None = not known.
        oom_killed: the kernel killed it for its memory.
        ready: it was healthy before.
        with_engine: the engine ended it, stopping or coming back.
        log_tail: its last lines.
    """
    reason, message = _exit_reason(
        exit_code, oom_killed=oom_killed, ready=ready, with_engine=with_engine, log_tail=log_tail
    )
    return Ending(WorkerState.FAILED, reason, advised(reason, message), exit_code, log_tail)


def _exit_reason(
    exit_code: int | None,
    *,
    oom_killed: bool,
    ready: bool,
    with_engine: bool,
    log_tail: tuple[str, ...],
) -> tuple[WorkerReason, str]:
    when = "" if ready else " before it was healthy"
    if oom_killed:
        return WorkerReason.OOM_KILLED, f"ran out of memory and was killed{when}"
    if with_engine:
        return (
            WorkerReason.ENGINE_RESTARTED,
            "its Docker engine was stopped or restarted, and it with it",
        )
    if exit_code in _NO_PROGRAM and (problem := _init_problem(log_tail)) is not None:
        advice = (
            "correct image.entrypoint and image.command, or the image (the file, its rights, its "
            "CPU architecture)"
        )
        message = f"its program could not be started: {problem}; {advice}"
        return WorkerReason.START_FAILED, message
    how = "with an unknown exit code" if exit_code is None else f"with exit code {exit_code}"
    return WorkerReason.EXITED, f"exited {how}{when}"


def _init_problem(log_tail: tuple[str, ...]) -> str | None:
    """What a container's init says of the program that it could not start, e.g. ENOENT."""
    for line in log_tail[-1:]:
        if match := _INIT_SAYS.fullmatch(line.strip()):
            return match[1]
    return None


def blame_gpus(ending: Ending, sick: frozenset[str]) -> Ending:
    """The ending of a worker, with its GPUs that report a fault as the reason where they may be."""
    if not sick or ending.reason not in _BY_GPU:
        return ending
    message = (
        f"{', '.join(sorted(sick))} reports a fault, and the worker's end was: {ending.message}"
    )
    reason = WorkerReason.GPU_FAULT
    return replace(ending, reason=reason, message=advised(reason, message))


def newer(seen: WorkerAssignment | None, read: WorkerAssignment) -> WorkerAssignment:
    """The one of two records of a worker that counts: a deposed leader's write changes nothing.

    Args:
        seen: the record followed so far, if any.
        read: the record as it stands in KV now.
    """
    if seen is not None and read.fencing_token < seen.fencing_token:
        return seen
    return read
