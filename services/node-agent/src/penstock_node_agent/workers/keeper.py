"""Keeps one worker as it should be: takes the steps that `decide.py` names.

A keeper is one task that walks decide → step → decide … until the worker is forgotten. While a
step runs, every change (`want`, `end`, a passed probe) is decided upon at once: its state is
reported, and a step that is no longer the right one is cancelled. Steps may be repeated, so
cancelling one is always safe.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from penstock_common.clock import Clock
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import WorkerAssignment, WorkerStatus
from penstock_common.sealing import Sealer
from penstock_common.states import ENDED, DesiredState, Phase, WorkerReason, WorkerState
from penstock_node_agent.records.network_volumes import ReadMounts
from penstock_node_agent.records.registry_auths import OpenAuth
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    Exit,
    Progress,
    Runtime,
    RuntimeFailedError,
    Started,
    StartFailedError,
    StopFailedError,
)
from penstock_node_agent.runtimes.pull_bytes import PulledBytes
from penstock_node_agent.status_board import StatusBoard
from penstock_node_agent.workers.advice import advised
from penstock_node_agent.workers.decide import (
    LOG_TAIL_LINES,
    START_TRIES,
    Ending,
    Presence,
    Step,
    WorkerView,
    blame_gpus,
    decide,
    exit_ending,
    newer,
)
from penstock_node_agent.workers.health_answers import Diagnosis, Question
from penstock_node_agent.workers.health_watch import HealthWatch
from penstock_node_agent.workers.last_lines import with_last_lines
from penstock_node_agent.workers.orders import start_order
from penstock_node_agent.workers.probes import ProbeTarget
from penstock_node_agent.workers.report import WorkerReport

logger = logging.getLogger(__name__)

_MIN_RETRY_S: Final = 0.5
_MAX_RETRY_S: Final = 15.0
#: Grace of a worker whose assignment the agent has never read.
_ORPHAN_GRACE_S: Final = 5.0

_PHASES: Final[Mapping[Progress, Phase]] = {
    Progress.PULLED: Phase.PULLED,
    Progress.CREATED: Phase.CREATED,
    Progress.STARTED: Phase.STARTED,
}


@dataclass(frozen=True, slots=True)
class KeeperTools:
    """What all keepers of a node share."""

    node_id: str
    runtime: Runtime
    board: StatusBoard[WorkerStatus]
    events: EventPublisher
    clock: Clock
    #: opens secrets; None = the node has no key
    sealer: Sealer | None
    #: gives the credentials that a pull needs
    open_auth: OpenAuth
    #: gives the network volumes that a worker mounts
    read_mounts: ReadMounts
    #: a start waits so long for an engine that fails; then another node may have more luck
    engine_patience_s: float
    #: GPUs of the node that report a fault now
    sick_gpus: Callable[[], Awaitable[frozenset[str]]]


@dataclass(slots=True)
class Resumed:
    """What a keeper begins with."""

    view: WorkerView
    address: Started | None = None
    phases: dict[Phase, datetime] = field(default_factory=dict)
    #: the status that stands in KV, if any
    status: WorkerStatus | None = None


class Keeper:
    """One worker of this node."""

    def __init__(self, worker_id: str, key: str, tools: KeeperTools, resumed: Resumed) -> None:
        """A keeper that is not run yet; `key` is the worker's key in WORKER_STATUS."""
        self.worker_id = worker_id
        self._tools = tools
        self._view = resumed.view
        self._address = resumed.address
        self._report = WorkerReport(key, tools.board, tools.events, tools.clock, resumed.status)
        self._report.phases.update(resumed.phases)
        #: the record as last read, and the one that counts (see `newer`)
        self._read: WorkerAssignment | None = None
        self._assignment: WorkerAssignment | None = None
        self._wanted: DesiredState | None = None
        self._grace_limit_s: float | None = None
        self._changed: asyncio.Future[None] | None = None
        #: set once it has ended, its status says so, and nothing is left of it
        self.settled = asyncio.Event()
        self._starts = 0
        self._failures = 0
        self._retry = asyncio.Event()
        #: monotonic seconds of the first of those tries to start it that the engine failed
        self._engine_failed_at: float | None = None

    def want(self, assignment: WorkerAssignment | None) -> None:
        """This is its assignment now; None = it has none any more."""
        if assignment is not None and assignment is self._read:
            return
        self._read = assignment
        if assignment is None:
            self._wanted = None
        else:
            self._assignment = newer(self._assignment, assignment)
            self._wanted = self._assignment.desired
            self._report.phases.setdefault(Phase.DECIDED, self._assignment.decided_at)
            self._report.phases.setdefault(Phase.ASSIGNED, self._assignment.assigned_at)
            self._report.note(Phase.RECEIVED)
        self._poke()

    def end(self, reason: WorkerReason, grace_limit_s: float) -> None:
        """Stop it for a reason of the agent's own, with at most this grace."""
        self._grace_limit_s = grace_limit_s
        if self._view.ending is None:
            self._view = replace(self._view, ending=Ending(WorkerState.STOPPED, reason))
        self._poke()

    def retry(self) -> None:
        """What failed may do now: take it again at once."""
        self._retry.set()

    async def run(self) -> None:
        """Keep it until it is forgotten."""
        view = self._view
        if view.presence is Presence.REMAINS and view.ending is not None:
            ending = await with_last_lines(view.ending, self._tools.runtime, self.worker_id)
            self._view = replace(view, ending=ending)
        while (step := self._decide()) is not Step.FORGET:
            await self._carry_out(step)
        self._report.forget()

    # ---- decide and report

    def _decide(self) -> Step:
        decision = decide(self._wanted, self._view)
        if decision.state is not self._view.state:
            self._view = replace(self._view, state=decision.state)
        if decision.state in ENDED and self._view.ending is None:
            reason = self._assignment.reason if self._assignment is not None else None
            self._view = replace(self._view, ending=Ending(decision.state, reason))
        self._tell()
        if self._view.state in ENDED and self._view.presence is Presence.ABSENT:
            self.settled.set()
        return decision.step

    def _tell(self) -> None:
        if self._assignment is None or self._wanted is None:
            return  # nobody reads it any more; it is deleted soon
        self._report.tell(self._assignment, self._view, self._address)

    def _poke(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _next_change(self) -> "asyncio.Future[None]":
        self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    # ---- steps

    async def _carry_out(self, step: Step) -> None:
        """Take a step, until it is done or no longer the right one."""
        if step is Step.WAIT:
            await self._next_change()
            return
        work = asyncio.create_task(self._take(step), name=f"{step} {self.worker_id}")
        try:
            while not work.done():
                await asyncio.wait({work, self._next_change()}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and self._decide() is not step:
                    break
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled():
            work.result()

    async def _take(self, step: Step) -> None:
        try:
            match step:
                case Step.START:
                    await self._start()
                case Step.WATCH:
                    await self._watch()
                case Step.STOP:
                    await self._stop()
                case Step.REMOVE:
                    await self._tools.runtime.remove(self.worker_id)
                    self._view = replace(self._view, presence=Presence.ABSENT)
                case Step.WAIT | Step.FORGET:
                    return
                case _:
                    assert_never(step)
            self._failures = 0
        except (RuntimeFailedError, StopFailedError) as error:
            await self._pause_after(step, error)

    async def _pause_after(self, step: Step, error: Exception) -> None:
        pause_s = min(_MIN_RETRY_S * 2 ** min(self._failures, 8), _MAX_RETRY_S)
        self._failures += 1
        logger.error(
            "step failed, will be taken again",
            extra={
                "action": "step_failed",
                "worker_id": self.worker_id,
                "step": step,
                "error": str(error),
                "pause_s": pause_s,
            },
        )
        self._retry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._retry.wait()

    async def _start(self) -> None:
        assert self._assignment is not None
        tools = self._tools
        try:
            mounts = await tools.read_mounts(self._assignment.spec)
            order = start_order(
                self._assignment, tools.runtime.kind, tools.sealer, tools.open_auth, mounts
            )
        except StartFailedError as error:  # nothing was begun
            self._fail(error.reason, str(error))
            return
        self._view = replace(self._view, presence=Presence.PARTIAL)
        self._starts += 1
        try:
            self._address = await tools.runtime.start(order, self._on_progress, self._on_bytes)
        except StartFailedError as error:
            if error.reason is WorkerReason.ENGINE_ERROR and self._bears_with_engine():
                raise RuntimeFailedError(str(error)) from error
            self._fail(error.reason, str(error))
        except RuntimeFailedError as error:
            if self._bears_with_engine():
                raise
            self._fail(WorkerReason.ENGINE_ERROR, str(error))
        else:
            self._report.image = self._address.image or self._report.image
            self._engine_failed_at = None
            self._view = replace(self._view, presence=Presence.UP)

    def _bears_with_engine(self) -> bool:
        """Whether a start that the engine failed is tried again: for the time a restart takes."""
        now = self._tools.clock.monotonic()
        if self._engine_failed_at is None:
            self._engine_failed_at = now
        return now - self._engine_failed_at < self._tools.engine_patience_s

    def _on_progress(self, progress: Progress) -> None:
        if progress in _PHASES:
            self._report.note(_PHASES[progress])
        if self._view.state in (WorkerState.PENDING, WorkerState.PULLING):
            pulling = progress is Progress.PULLING
            state = WorkerState.PULLING if pulling else WorkerState.STARTING
            self._view = replace(self._view, state=state)
        self._tell()

    def _on_bytes(self, pulled: PulledBytes) -> None:
        self._report.pulled = pulled
        self._tell()

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(self._probe(), name=f"probe {self.worker_id}")
            try:
                ended = await self._tools.runtime.wait(self.worker_id)
            except RuntimeFailedError:
                ended = Exit(None)  # the runtime knows it no more
            except BoundExceededError as error:
                self._fail(error.reason, str(error))
                return  # the next step stops it
            finally:
                probing.cancel()
        try:
            tail = await self._tools.runtime.log_tail(self.worker_id, LOG_TAIL_LINES)
        except RuntimeFailedError:
            if not ended.with_engine:
                raise  # asked again; the end is remembered
            tail = ()  # how it ended is known: its GPUs need not wait for the engine
        self._on_exit(ended, tail, await self._sick_gpus())

    def _on_exit(self, ended: Exit, tail: tuple[str, ...], sick: frozenset[str]) -> None:
        view = replace(self._view, presence=Presence.REMAINS)
        if ended.port_taken and not view.ready and self._starts < START_TRIES:
            logger.warning(
                "worker found its port taken, starting it with another",
                extra={"action": "port_taken", "worker_id": self.worker_id},
            )
        elif view.ending is None:
            ending = exit_ending(
                ended.code,
                oom_killed=ended.oom_killed,
                ready=view.ready,
                with_engine=ended.with_engine,
                log_tail=tail,
            )
            view = replace(view, ending=blame_gpus(ending, sick))
        self._view = view

    async def _stop(self) -> None:
        if self._view.ending is None:
            reason = self._assignment.reason if self._assignment is not None else None
            self._view = replace(self._view, ending=Ending(WorkerState.STOPPED, reason))
        runtime = self._tools.runtime
        ended = await runtime.stop(self.worker_id, self._grace_s())
        ending = self._view.ending
        assert ending is not None
        if ending.state is WorkerState.FAILED and not ending.log_tail:
            tail = await runtime.log_tail(self.worker_id, LOG_TAIL_LINES)
            ending = replace(ending, log_tail=tail)
        if ended is not None and ending.exit_code is None:
            ending = replace(ending, exit_code=ended.code)
        self._view = replace(self._view, presence=Presence.REMAINS, ending=ending)

    def _grace_s(self) -> float:
        grace_s = _ORPHAN_GRACE_S
        if self._assignment is not None:
            grace_s = self._assignment.spec.workers.stop_grace_s
        return grace_s if self._grace_limit_s is None else min(grace_s, self._grace_limit_s)

    def _fail(self, reason: WorkerReason, message: str, sick: frozenset[str] = frozenset()) -> None:
        ending = Ending(WorkerState.FAILED, reason, advised(reason, message))
        self._view = replace(self._view, ending=blame_gpus(ending, sick))
        self._poke()

    async def _sick_gpus(self) -> frozenset[str]:
        """Those of its GPUs that report a fault."""
        if self._assignment is None or not self._assignment.gpus:
            return frozenset()
        return frozenset(self._assignment.gpus) & await self._tools.sick_gpus()

    # ---- probes

    async def _probe(self) -> None:
        """Until it is ready, then as long as it is healthy."""
        assert self._assignment is not None
        assert self._address is not None
        spec, tools = self._assignment.spec, self._tools
        target = ProbeTarget(self._address, spec.health.path, tools.runtime.proxied_ports)
        kind = tools.runtime.kind
        # A container's port is another one on the host, which its owner does not know.
        port = spec.image.http_port if kind == "docker" else self._address.port
        watch = HealthWatch(
            target,
            Question(spec.health.path, port, kind),
            spec,
            tools.clock,
            listeners=lambda: tools.runtime.listeners(self.worker_id),
            excused=self._engine_away,
            on_listening=self._on_listening,
            on_unready=self._on_unready,
            on_healthy=self._on_healthy,
        )
        if not self._view.ready:
            started_at = self._report.phases.setdefault(Phase.STARTED, tools.clock.utc())
            if (problem := await watch.until_ready(started_at)) is not None:
                self._fail(WorkerReason.START_TIMEOUT, problem, await self._sick_gpus())
                return
        problem = await watch.until_unhealthy()
        self._fail(WorkerReason.UNHEALTHY, problem, await self._sick_gpus())

    def _engine_away(self) -> bool:
        problem = self._tools.runtime.problem
        return problem is not None and not problem.full

    def _on_listening(self) -> None:
        self._report.note(Phase.LISTENING)

    def _on_unready(self, why: Diagnosis) -> None:
        self._report.note_unready(why)
        self._tell()

    def _on_healthy(self) -> None:
        self._report.note(Phase.HEALTHY)
        self._view = replace(self._view, ready=True)
        self._decide()  # requests may wait for it: reported here, not a step later
