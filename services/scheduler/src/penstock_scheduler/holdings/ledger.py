"""Who holds what: GPUs of nodes and slots of routers, over all workers.

The ledger is kept from one decision to the next and told of each worker and node that changes, so
that a decision on one endpoint costs the same in a fleet of any size. A decision writes its own
steps into it at once; whoever keeps it puts back what was not carried out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from penstock_common.messages import NodeOrder, NodeRecord, WorkerAssignment, WorkerStatus
from penstock_common.states import ENDED, DesiredState
from penstock_scheduler.holdings.drivers import Drives
from penstock_scheduler.holdings.quotas import Holders
from penstock_scheduler.leaving.node_orders import closed_by, closed_nodes
from penstock_scheduler.placement.cluster import Cluster
from penstock_scheduler.placement.nodes import Booking


@dataclass(frozen=True, slots=True)
class Holding:
    """What one worker holds."""

    booking: Booking
    #: whether it was told to drain or stop, so that its GPUs come back by themselves
    leaving: bool = False
    #: the router that counts its slots; None = nobody, or it leaves
    driver: str | None = None
    #: the API key that it counts for; None = nobody's
    owner: str | None = None


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
        owner=assignment.owner,
    )


class Ledger:
    """What every worker holds."""

    def __init__(
        self,
        nodes: Mapping[str, NodeRecord],
        orders: Mapping[str, NodeOrder],
        routers: Iterable[str],
    ) -> None:
        """Nobody holds anything.

        Args:
            nodes: node → its record, a live view; `see_node` tells of each change.
            orders: node → the operators' order about it, likewise.
            routers: those that live.
        """
        self.drives = Drives(routers)
        #: who holds what, those included that leave, and without them
        self.holders, self.staying = Holders(), Holders()
        #: whose workers came to an end since somebody emptied it
        self.freed_owners: set[str] = set()
        #: whether GPUs became free, or a node another, since somebody set it to false
        self.freed = False
        self._nodes = nodes
        self._orders = orders
        self._holdings: dict[str, Holding] = {}
        #: holdings of workers on lost nodes that nobody saw end
        self._unproven: dict[str, Booking] = {}
        self._leaving: dict[str, Booking] = {}
        self._on_node: dict[str, set[str]] = {}
        #: nodes on which somebody holds something, and that do not report
        self._away: set[str] = set()
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The nodes with what is free on them; made when the first worker needs a place."""
        if self._cluster is None:
            booked = [holding.booking for holding in self._holdings.values()]
            self._cluster = Cluster(
                self._nodes.values(),
                (*booked, *self._unproven.values()),
                closed_nodes(self._nodes, self._orders),
            )
        return self._cluster

    @property
    def leaving(self) -> Iterable[Booking]:
        """What comes back by itself."""
        return self._leaving.values()

    def n_workers_on(self, node_id: str) -> int:
        """Workers that hold something on this node."""
        return len(self._on_node.get(node_id, ()))

    def endpoints_on(self, node_id: str) -> set[str]:
        """Endpoints whose workers hold something on this node."""
        keys = self._on_node.get(node_id, ())
        return {self._holdings[key].booking.endpoint_id for key in keys}

    def is_occupied(self, node_id: str) -> bool:
        """Whether a worker holds something on this node, or one that nobody saw end."""
        return node_id in self._on_node or any(
            booking.node_id == node_id for booking in self._unproven.values()
        )

    @property
    def away(self) -> Iterable[str]:
        """Nodes on which somebody holds something, and that do not report."""
        return self._away

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
            if holding is None and before.owner is not None:
                self.freed_owners.add(before.owner)
        if holding is not None:
            self._note(key, holding)
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
        """A node, or the order about it, came, changed or went; the live view shows it already."""
        record = self._nodes.get(node_id)
        if record is None and node_id in self._on_node:
            self._away.add(node_id)
        elif record is not None:
            self._away.discard(node_id)
        if self._cluster is None:
            self.freed = self.freed or record is not None
        elif record is None:
            self._cluster.drop_node(node_id)
        else:
            is_new = not self._cluster.knows(node_id)
            if self._cluster.put_node(record, closed_by(record, self._orders.get(node_id))):
                self.freed = True
            if is_new:
                self._book_node(node_id)

    def _book_node(self, node_id: str) -> None:
        for key in self._on_node.get(node_id, ()):
            self._book(self._holdings[key].booking)
        for booking in self._unproven.values():
            if booking.node_id == node_id:
                self._book(booking)

    def _note(self, key: str, holding: Holding) -> None:
        self._holdings[key] = holding
        node_id, n_gpus = holding.booking.node_id, len(holding.booking.gpus)
        self._on_node.setdefault(node_id, set()).add(key)
        if node_id not in self._nodes:
            self._away.add(node_id)
        if holding.leaving:
            self._leaving[key] = holding.booking
        if holding.owner is not None:
            self.holders.take(holding.owner, node_id, n_gpus)
            if not holding.leaving:
                self.staying.take(holding.owner, node_id, n_gpus)

    def _forget(self, key: str, holding: Holding) -> None:
        del self._holdings[key]
        self._leaving.pop(key, None)
        node_id, n_gpus = holding.booking.node_id, len(holding.booking.gpus)
        self._on_node[node_id].discard(key)
        if not self._on_node[node_id]:
            del self._on_node[node_id]
            self._away.discard(node_id)
        if holding.owner is not None:
            self.holders.release(holding.owner, node_id, n_gpus)
            if not holding.leaving:
                self.staying.release(holding.owner, node_id, n_gpus)

    def _book(self, booking: Booking) -> None:
        if self._cluster is not None:
            self._cluster.book(booking)

    def _release(self, booking: Booking) -> None:
        self.freed = True
        if self._cluster is not None:
            self._cluster.release(booking)
