"""Who holds what: GPUs of nodes and slots of routers, over all workers.

The ledger is kept from one decision to the next and told of each worker and node that changes, so
that a decision on one endpoint costs the same in a fleet of any size. A decision writes its own
steps into it at once; whoever keeps it puts back what was not carried out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from penstock_common.messages import NodeRecord, WorkerAssignment, WorkerStatus
from penstock_common.states import ENDED, DesiredState
from penstock_scheduler.drivers import Drives
from penstock_scheduler.fleet import Booking
from penstock_scheduler.placement import Cluster


@dataclass(frozen=True, slots=True)
class Holding:
    """What one worker holds."""

    booking: Booking
    #: whether it was told to drain or stop, so that its GPUs come back by themselves
    leaving: bool = False
    #: the router that counts its slots; None = nobody, or it leaves
    driver: str | None = None


def booking_of(assignment: WorkerAssignment) -> Booking:
    """What a worker holds of its node."""
    return Booking(
        assignment.node_id,
        assignment.endpoint_id,
        assignment.gpus,
        assignment.spec.storage.kept_bytes,
    )


def holding_of(assignment: WorkerAssignment, status: WorkerStatus | None) -> Holding | None:
    """What a worker holds until its node has said that its process is gone."""
    if status is not None and status.state in ENDED:
        return None
    leaving = assignment.desired is not DesiredState.RUNNING
    return Holding(
        booking_of(assignment),
        leaving=leaving,
        driver=None if leaving else assignment.driver,
    )


class Ledger:
    """What every worker holds."""

    def __init__(self, nodes: Mapping[str, NodeRecord], routers: Iterable[str]) -> None:
        """Nobody holds anything.

        Args:
            nodes: node → its record, a live view; `see_node` tells of each change.
            routers: those that live.
        """
        self.drives = Drives(routers)
        #: whether GPUs became free, or a node another, since somebody set it to false
        self.freed = False
        self._nodes = nodes
        self._holdings: dict[str, Holding] = {}
        #: holdings of workers on lost nodes that nobody saw end
        self._unproven: dict[str, Booking] = {}
        self._leaving: dict[str, Booking] = {}
        self._on_node: dict[str, set[str]] = {}
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The nodes with what is free on them; made when the first worker needs a place."""
        if self._cluster is None:
            booked = [holding.booking for holding in self._holdings.values()]
            self._cluster = Cluster(self._nodes.values(), (*booked, *self._unproven.values()))
        return self._cluster

    @property
    def leaving(self) -> Iterable[Booking]:
        """What comes back by itself."""
        return self._leaving.values()

    def n_workers_on(self, node_id: str) -> int:
        """Workers that hold something on this node."""
        return len(self._on_node.get(node_id, ()))

    def nodes_in_use(self) -> Iterable[str]:
        """Nodes on which somebody holds something, known or not."""
        return self._on_node

    def begin(self, unproven: Mapping[str, Booking]) -> None:
        """A decision begins; `unproven`: what lost nodes' workers hold until they are seen to end."""
        for key in [k for k, b in self._unproven.items() if unproven.get(k) != b]:
            self._release(self._unproven.pop(key))
        for key, booking in unproven.items():
            if key not in self._unproven:
                self._unproven[key] = booking
                self._book(booking)
        if self._cluster is not None:
            self._cluster.scored = 0

    def renew(self) -> None:
        """Make the index anew when it has grown too much, the next time it is needed."""
        if self._cluster is not None and self._cluster.worn:
            self._cluster = None

    def put(self, key: str, holding: Holding | None, *, booked: bool = False) -> None:
        """The worker with this key holds this from now on; None = nothing.

        Args:
            key: the worker's.
            holding: what it holds.
            booked: the cluster has booked it already.
        """
        before = self._holdings.get(key)
        if holding == before:
            return
        if before is not None:
            self._forget(key, before)
        if holding is not None:
            self._holdings[key] = holding
            self._on_node.setdefault(holding.booking.node_id, set()).add(key)
            if holding.leaving:
                self._leaving[key] = holding.booking
        said = holding or before
        if said is not None:
            self.drives.put(key, holding.driver if holding else None, said.booking.endpoint_id)
        old, new = (h.booking if h else None for h in (before, holding))
        if old == new:
            return
        if old is not None:
            self._release(old)
        if new is not None and not booked:
            self._book(new)

    def leave(self, key: str) -> None:
        """Whoever holds this goes: it takes no requests, and what it holds comes back by itself."""
        if holding := self._holdings.get(key):
            self.put(key, replace(holding, leaving=True, driver=None))

    def see_node(self, node_id: str) -> None:
        """A node came, changed or went; the live view shows it already."""
        record = self._nodes.get(node_id)
        if self._cluster is None:
            self.freed = self.freed or record is not None
        elif record is None:
            self._cluster.drop_node(node_id)
        else:
            is_new = not self._cluster.knows(node_id)
            if self._cluster.put_node(record):
                self.freed = True
            if is_new:
                self._book_node(node_id)

    def _book_node(self, node_id: str) -> None:
        for key in self._on_node.get(node_id, ()):
            self._book(self._holdings[key].booking)
        for booking in self._unproven.values():
            if booking.node_id == node_id:
                self._book(booking)

    def _forget(self, key: str, holding: Holding) -> None:
        del self._holdings[key]
        self._leaving.pop(key, None)
        node_id = holding.booking.node_id
        self._on_node[node_id].discard(key)
        if not self._on_node[node_id]:
            del self._on_node[node_id]

    def _book(self, booking: Booking) -> None:
        if self._cluster is not None:
            self._cluster.book(booking)

    def _release(self, booking: Booking) -> None:
        self.freed = True
        if self._cluster is not None:
            self._cluster.release(booking)
