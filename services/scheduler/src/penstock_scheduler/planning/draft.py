"""A plan in the making: steps are added one by one, and later steps see the earlier ones."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

from penstock_common.events.catalogue import (
    NODE_DRAINED,
    NODE_LOST,
    SCALE_DECIDED,
    WORKER_ASSIGNED,
    Event,
)
from penstock_common.messages import (
    EndpointRecord,
    EndpointStatus,
    NodeDrained,
    NodeLost,
    ScaleDecided,
    ScaleDecision,
    ScaleHistory,
    WorkerAssigned,
    WorkerAssignment,
)
from penstock_common.states import DesiredState, WorkerReason
from penstock_common.subjects import worker_key
from penstock_common.usage import usage_until
from penstock_scheduler.holdings.ledger import Ledger, holding_of
from penstock_scheduler.holdings.quotas import Quotas
from penstock_scheduler.holdings.usage import needs_mark
from penstock_scheduler.leaving.gpu_faults import GpuFaults
from penstock_scheduler.leaving.node_orders import is_draining, is_overdue
from penstock_scheduler.leaving.worker_orders import is_to_end, is_to_stop
from penstock_scheduler.placement.cluster import Cluster, Placement
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.snapshot import Snapshot, Stage, Worker

#: So many decisions of an endpoint are kept.
KEPT_DECISIONS: Final = 50


class Draft:
    """Collects the steps of one plan over one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        ledger: Ledger,
        new_id: Callable[[], str],
        token: int,
    ) -> None:
        """An empty draft.

        Args:
            snapshot: what the plan is made from.
            ledger: who holds what, whether the snapshot shows him or not; the steps go into it.
            new_id: gives a fresh worker id.
            token: fencing token of the leader.
        """
        self.snapshot = snapshot
        self.ledger = ledger
        self.token = token
        self._creates: list[WorkerAssignment] = []
        self._n_created: Counter[str] = Counter()
        self._new_id = new_id
        self._changes: dict[str, WorkerAssignment] = {}
        self._deletes: dict[str, Worker] = {}
        self._lost: set[str] = set()
        self._statuses: list[EndpointStatus] = []
        self._status_deletes: list[str] = []
        self._histories: list[ScaleHistory] = []
        self._history_deletes: list[str] = []
        self._events: list[Event] = []
        self._pins: dict[tuple[str, int], str | None] = {}

    @property
    def cluster(self) -> Cluster:
        """The nodes with what is free on them, this plan included."""
        return self.ledger.cluster

    @cached_property
    def quotas(self) -> Quotas:
        """What each API key's endpoints hold, this plan's starts included."""
        keys, lost = self.snapshot.tables.api_keys, self.snapshot.lost_nodes
        return Quotas(keys, self.ledger.holders, lost)

    def quotas_after_drains(self) -> Quotas:
        """The same as it will be once every worker that leaves has left."""
        keys, lost = self.snapshot.tables.api_keys, self.snapshot.lost_nodes
        return Quotas(keys, self.ledger.staying, lost)

    @cached_property
    def gpu_faults(self) -> GpuFaults:
        """The GPUs that went bad."""
        return GpuFaults(self.snapshot.tables.nodes)

    def moves(self, worker: Worker) -> bool:
        """Whether a worker's node is to be empty."""
        return is_draining(self.snapshot.tables.node_orders, worker.assignment.node_id)

    def is_to_stop(self, worker: Worker) -> bool:
        """Whether somebody ordered it to stop."""
        return is_to_stop(self.snapshot.tables.worker_orders, worker)

    def is_to_end(self, worker: Worker) -> bool:
        """Whether it is to stop though requests are in flight at it."""
        return is_to_end(self.snapshot.tables.worker_orders, worker, self.snapshot.utc)

    def is_overdue(self, worker: Worker) -> bool:
        """Whether it is to leave though nothing replaces it: by an order, or its node's deadline."""
        if self.is_to_stop(worker):
            return True
        orders, node_id = self.snapshot.tables.node_orders, worker.assignment.node_id
        return is_overdue(orders, node_id, self.snapshot.utc)

    def desired_of(self, worker: Worker) -> DesiredState:
        """What is wanted of a worker, this plan included."""
        return self._assignment(worker).desired

    def reason_of(self, worker: Worker) -> WorkerReason | None:
        """Why a worker is to drain or stop, this plan included."""
        return self._assignment(worker).reason

    def is_active(self, worker: Worker) -> bool:
        """Whether a worker counts against `max` after this plan."""
        return (
            worker.key not in self._deletes
            and worker.key not in self._lost
            and worker.stage is not Stage.ENDED
            and self.desired_of(worker) is DesiredState.RUNNING
        )

    def drains(self, worker: Worker) -> bool:
        """Whether a worker, there as far as anybody knows, finishes its requests after this plan."""
        return (
            worker.key not in self._deletes
            and worker.stage is not Stage.ENDED
            and self.desired_of(worker) is DesiredState.DRAINING
        )

    def creates_of(self, endpoint_id: str) -> int:
        """How many workers of this endpoint the plan starts."""
        return self._n_created[endpoint_id]

    def is_deleted(self, worker: Worker) -> bool:
        """Whether this plan deletes the worker's assignment."""
        return worker.key in self._deletes

    # ---- steps

    def pin(self, record: EndpointRecord, digest: str | None) -> None:
        """Every worker of the record's revision is to run this image; None = what its tag is."""
        self._pins[record.endpoint_id, record.revision] = digest

    def pin_of(self, record: EndpointRecord) -> str | None:
        """What every worker of the record's revision is to run; None = what its tag is."""
        return self._pins.get((record.endpoint_id, record.revision))

    def create(self, record: EndpointRecord, placement: Placement) -> None:
        """Start a worker there."""
        utc = self.snapshot.utc
        assignment = WorkerAssignment(
            worker_id=self._new_id(),
            node_id=placement.node_id,
            endpoint_id=record.endpoint_id,
            revision=record.revision,
            spec=record.spec,
            gpus=placement.gpus,
            image_digest=self.pin_of(record),
            gpu_product=self._product(placement),
            owner=record.owner,
            driver=self.ledger.drives.pick(record.endpoint_id, together=record.canary is not None),
            fencing_token=self.token,
            decided_at=utc,
            assigned_at=utc,
        )
        self._creates.append(assignment)
        self._n_created[record.endpoint_id] += 1
        key = worker_key(assignment.node_id, assignment.worker_id)
        self.ledger.put(key, holding_of(assignment, None), booked=True)
        self._events.append(
            WORKER_ASSIGNED.of(
                WorkerAssigned(
                    worker_id=assignment.worker_id,
                    endpoint_id=assignment.endpoint_id,
                    node_id=assignment.node_id,
                    revision=assignment.revision,
                    gpus=assignment.gpus,
                )
            )
        )

    def desire(self, worker: Worker, desired: DesiredState, reason: WorkerReason | None) -> None:
        """Want this of a worker from now on."""
        self._change(worker, {"desired": desired, "reason": reason})

    def drain(self, workers: Iterable[Worker], reason: WorkerReason) -> None:
        """Drain those of them that still take requests."""
        for worker in workers:
            if self.is_active(worker):
                self.desire(worker, DesiredState.DRAINING, reason)

    def drive(self, worker: Worker, router: str | None) -> None:
        """Have this router count the worker's slots, if it does not yet."""
        if router == worker.assignment.driver:
            return
        epoch = worker.assignment.driver_epoch + 1
        self._change(worker, {"driver": router, "driver_epoch": epoch})

    def set_aside(self, worker: Worker) -> None:
        """Count a worker as gone with its node; it may come back with it."""
        self._lost.add(worker.key)

    def await_back(self, worker: Worker) -> None:
        """Keep a worker of a lost node assigned; nobody gives out its slots meanwhile."""
        self.drive(worker, None)
        self.desire(worker, DesiredState.RUNNING, WorkerReason.NODE_LOST)

    def delete(self, worker: Worker) -> None:
        """Forget a worker: its process is gone, or its node is."""
        self._deletes[worker.key] = worker
        self._changes.pop(worker.key, None)
        self.ledger.leave(worker.key)

    def write_status(self, status: EndpointStatus) -> None:
        """Tell what became of an endpoint."""
        self._statuses.append(status)

    def delete_status(self, endpoint_id: str) -> None:
        """Forget an endpoint whose record has gone."""
        self._status_deletes.append(endpoint_id)

    def tell_scale(self, endpoint_id: str, decision: ScaleDecision) -> None:
        """Another number of workers is desired: keep the decision, and an event."""
        told = self.snapshot.tables.histories.get(endpoint_id)
        earlier = told.decisions[: KEPT_DECISIONS - 1] if told else ()
        self._histories.append(
            ScaleHistory(
                endpoint_id=endpoint_id,
                decisions=(decision, *earlier),
                fencing_token=self.token,
            )
        )
        told_now = ScaleDecided(endpoint_id=endpoint_id, **dict(decision))
        self._events.append(SCALE_DECIDED.of(told_now))

    def delete_history(self, endpoint_id: str) -> None:
        """Forget the decisions of an endpoint whose record has gone."""
        self._history_deletes.append(endpoint_id)

    def tell_node_lost(self, node_id: str, n_workers: int) -> None:
        """Event: a node is gone, with so many workers."""
        self._events.append(NODE_LOST.of(NodeLost(node_id=node_id, workers=n_workers)))

    def tell_node_drained(self, node_id: str) -> None:
        """Event: a node that was to be empty is."""
        self._events.append(NODE_DRAINED.of(NodeDrained(node_id=node_id)))

    def plan(self) -> Plan:
        """The steps so far."""
        return Plan(
            creates=tuple(self._creates),
            changes=tuple(self._changes.values()),
            deletes=tuple(self._deletes),
            usages={
                key: usage_until(worker.assignment, worker.status, utc=self.snapshot.utc)
                for key, worker in self._deletes.items()
            },
            marks={
                key: worker.assignment.model_copy(
                    update={"ended_at": self.snapshot.utc, "fencing_token": self.token}
                )
                for key, worker in self._deletes.items()
                if needs_mark(worker)
            },
            statuses=tuple(self._statuses),
            status_deletes=tuple(self._status_deletes),
            histories=tuple(self._histories),
            history_deletes=tuple(self._history_deletes),
            # A decision is told before the starts that it caused.
            events=tuple(sorted(self._events, key=lambda e: e.type is not SCALE_DECIDED)),
        )

    # ---- inner

    def _product(self, placement: Placement) -> str | None:
        node = self.snapshot.tables.nodes[placement.node_id]
        products = (gpu.product for gpu in node.gpus if gpu.uuid in placement.gpus)
        return next(products, None)

    def _assignment(self, worker: Worker) -> WorkerAssignment:
        return self._changes.get(worker.key, worker.assignment)

    def _change(self, worker: Worker, update: dict[str, object]) -> None:
        changed = self._assignment(worker).model_copy(
            update={**update, "fencing_token": self.token}
        )
        same = worker.assignment.model_copy(update={"fencing_token": self.token}) == changed
        if same:
            self._changes.pop(worker.key, None)
        else:
            self._changes[worker.key] = changed
        self.ledger.put(worker.key, holding_of(changed, worker.status))
