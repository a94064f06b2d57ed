"""What is told of one worker: its row of WORKER_STATUS, an event and a log line for each state."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from penstock_common.clock import Clock
from penstock_common.events.catalogue import (
    WORKER_DRAINING,
    WORKER_FAILED,
    WORKER_RUNNING,
    WORKER_STOPPED,
    EventType,
)
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import HealthProblem, WorkerAssignment, WorkerStatus
from penstock_common.states import Phase, WorkerState
from penstock_node_agent.runtimes.protocol import RunningImage, Started
from penstock_node_agent.runtimes.pull_bytes import PulledBytes
from penstock_node_agent.status_board import StatusBoard
from penstock_node_agent.workers.decide import Ending, WorkerView
from penstock_node_agent.workers.health_answers import Diagnosis

if TYPE_CHECKING:
    from datetime import datetime

logger = logging.getLogger(__name__)

#: States before `running` are no events.
_TOLD: Final[Mapping[WorkerState, EventType[WorkerStatus]]] = {
    WorkerState.RUNNING: WORKER_RUNNING,
    WorkerState.DRAINING: WORKER_DRAINING,
    WorkerState.STOPPED: WORKER_STOPPED,
    WorkerState.FAILED: WORKER_FAILED,
}


class WorkerReport:
    """Tells of one worker, each thing once."""

    def __init__(
        self,
        key: str,
        board: StatusBoard[WorkerStatus],
        events: EventPublisher,
        clock: Clock,
        reported: WorkerStatus | None,
    ) -> None:
        """`key` is the worker's key in WORKER_STATUS, `reported` what stands there."""
        self._key = key
        self._board = board
        self._events = events
        self._clock = clock
        self._reported = reported
        #: when each phase was reached
        self.phases: dict[Phase, datetime] = {}
        #: how far the pull of its image is, or was
        self.pulled: PulledBytes | None = None
        #: which image it runs
        self.image: RunningImage | None = None
        #: why it is not healthy yet
        self._unready: HealthProblem | None = None
        if reported is not None:
            self._unready = reported.health_problem
            self.image = RunningImage(reported.image_digest, reported.image_note)
        if reported is not None and reported.pull_bytes is not None:
            self.pulled = PulledBytes(reported.pull_bytes, reported.pull_total_bytes or 0)

    def note(self, phase: Phase) -> None:
        """It has reached this phase now, unless it had before."""
        self.phases.setdefault(phase, self._clock.utc())

    def note_unready(self, why: Diagnosis) -> None:
        """It is not healthy yet, for this reason; the same one again goes on since it began."""
        fix = None if why.may_pass else why.fix
        before = self._unready
        if before is None or (before.message, before.fix) != (why.problem, fix):
            self._unready = HealthProblem(message=why.problem, fix=fix, since=self._clock.utc())

    def tell(self, assignment: WorkerAssignment, view: WorkerView, address: Started | None) -> None:
        """Tell how it is, if that was not told."""
        status = self._status(assignment, view, address if view.ready else None)
        before = self._reported
        if before is not None and before == status.model_copy(
            update={"updated_at": before.updated_at}
        ):
            # Said before, perhaps by an earlier agent process: the board must know it all the same.
            if not self._board.knows(self._key):
                self._board.put(self._key, before)
            return
        self._reported = status
        self._board.put(self._key, status)
        if before is None or before.state is not status.state:
            logger.info(
                "worker state changed",
                extra={
                    "action": "worker_state",
                    "worker_id": status.worker_id,
                    "endpoint_id": status.endpoint_id,
                    "state": status.state,
                    "reason": status.reason,
                    "error": status.message,
                },
            )
            if (told := _TOLD.get(status.state)) is not None:
                self._events.announce(told.of(status))

    def forget(self) -> None:
        """Delete its row."""
        self._board.delete(self._key)

    def _status(
        self, assignment: WorkerAssignment, view: WorkerView, address: Started | None
    ) -> WorkerStatus:
        ending = view.ending or Ending(view.state, assignment.reason)
        return WorkerStatus(
            worker_id=assignment.worker_id,
            node_id=assignment.node_id,
            endpoint_id=assignment.endpoint_id,
            revision=assignment.revision,
            state=view.state,
            reason=ending.reason,
            message=ending.message,
            host=address.host if address else None,
            port=address.port if address else None,
            phases=dict(self.phases),
            pull_bytes=self.pulled.done if self.pulled else None,
            pull_total_bytes=self.pulled.total if self.pulled else None,
            image_digest=self.image.digest if self.image else None,
            image_note=self.image.note if self.image else None,
            health_problem=self._unready if view.state is WorkerState.STARTING else None,
            exit_code=ending.exit_code,
            log_tail=ending.log_tail,
            updated_at=self._clock.utc(),
        )
