"""What one decision wants done: plain data that the shell carries out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock_common.events.catalogue import Event
from penstock_common.messages import EndpointStatus, ScaleHistory, UsageRecord, WorkerAssignment


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write. Keys are written at most once by a plan; the order does not matter."""

    #: new workers
    creates: tuple[WorkerAssignment, ...] = ()
    #: assignments with another desired state or driver
    changes: tuple[WorkerAssignment, ...] = ()
    #: keys of assignments to delete
    deletes: tuple[str, ...] = ()
    #: key of each of them → what the worker has used, to be written before
    usages: Mapping[str, UsageRecord] = field(default_factory=dict)
    #: key → assignment with its end, to be written before that
    marks: Mapping[str, WorkerAssignment] = field(default_factory=dict)
    #: statuses that differ from what is written
    statuses: tuple[EndpointStatus, ...] = ()
    #: endpoints whose status to delete
    status_deletes: tuple[str, ...] = ()
    #: last decisions of endpoints with a new one
    histories: tuple[ScaleHistory, ...] = ()
    #: endpoints whose decisions to delete
    history_deletes: tuple[str, ...] = ()
    #: sent at most once, and nothing depends on them
    events: tuple[Event, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to write or to tell."""
        return bool(
            self.creates
            or self.changes
            or self.deletes
            or self.statuses
            or self.status_deletes
            or self.histories
            or self.history_deletes
            or self.events
        )
