"""When a worker that drains is empty, so that it may be told to stop."""

from typing import Final

from penstock_common.specs import EndpointSpec
from penstock_scheduler.planning.draft import Draft
from penstock_scheduler.snapshot import Stage, Worker

#: A driver says within this that a worker which never ran is empty, unless it is not.
_UNSTARTED_DRAIN_S: Final = 2.0


def is_drained(draft: Draft, worker: Worker, *, since: float, spec: EndpointSpec) -> bool:
    """Whether nothing is in flight at a worker and nothing new can be.

    The driver's word counts from the report on in which it has applied the order to drain.
    Without a driver nobody hands out its slots. What a dead router had in flight died with it,
    but not what it had lent to others: another one claims the worker first, and learns of that.
    The last resort is the longest life of a request; an order to stop may set a shorter one.

    Args:
        draft: the plan in the making.
        worker: one that is to drain.
        since: since when it is in the stage in which it is (monotonic seconds).
        spec: of its endpoint, as it is now.
    """
    snapshot = draft.snapshot
    if draft.is_to_end(worker):
        return True
    driver, load = worker.assignment.driver, worker.load
    if driver is None:
        return True
    if driver in snapshot.lost_routers:
        return worker.ready_at is None or not snapshot.tables.routers
    if worker.stage is not Stage.DRAINING:
        return False  # this very plan tells it to drain
    if (
        load is not None
        and load.assignment_revision >= worker.revision
        and load.in_flight == 0
        and not load.accepting
    ):
        return True
    drained_s = snapshot.now - since
    if worker.ready_at is None and (load is None or load.in_flight == 0):
        return drained_s >= _UNSTARTED_DRAIN_S
    return drained_s >= spec.workers.request_timeout_s
