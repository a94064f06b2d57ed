"""A node as placing sees it, what is booked on it, and the groups of nodes that look alike to it."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from penstock_common.messages import Gpu, NodeRecord
from penstock_common.states import NodeState


class Booking(NamedTuple):
    """What a worker holds of a node."""

    node_id: str
    endpoint_id: str
    #: UUIDs
    gpus: tuple[str, ...]
    #: disk that is kept free for it
    disk_bytes: int = 0


#: The "product" of workers without GPUs; every node has it.
NO_GPU: Final = ""

#: Who goes first within a group: (workers, turn, node id).
Heap = list[tuple[int, int, str]]

#: No node is closed to new workers.
NONE_CLOSED: Final[Mapping[str, NodeState]] = MappingProxyType({})

#: What keeps an engine from starting workers; "" = nothing.
Trouble = Literal["", "away", "full"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What filters ask of a node and no worker changes."""

    runtime: str
    cuda_version: str | None
    labels: frozenset[tuple[str, str]]
    #: (product in lower case, GPUs, healthy ones), ascending
    products: tuple[tuple[str, int, int], ...]
    #: (product in lower case, memory of its smallest GPU in bytes), ascending
    vram_bytes: tuple[tuple[str, int], ...] = ()
    #: host paths of network volumes that it allows, and what else of them it can mount
    volume_paths: frozenset[str] = frozenset()
    volume_kinds: frozenset[str] = frozenset()
    #: why it takes no new worker; None = it does
    closed: NodeState | None = None
    #: what keeps its engine from starting workers
    trouble: Trouble = ""


@dataclass(slots=True, eq=False)
class Group:
    """Nodes of one kind with the same GPUs of one product left."""

    kind: Kind
    product: str
    #: GPUs of the product, free or not
    total: int
    #: free ones in each link group, ascending
    split: tuple[int, ...]
    free: int
    #: memory of each GPU; 0 = these are not about GPUs
    vram_bytes: int
    #: no member has more disk left than this
    disk_most_bytes: float = -math.inf
    #: members, some entries out of date
    heap: Heap = field(default_factory=list)
    size: int = 0


@dataclass(slots=True, eq=False)
class Node:
    """A node and what is booked on it."""

    record: NodeRecord
    kind: Kind
    #: a hash of its id: who goes first among equals
    turn: int
    #: product in lower case → its GPUs by UUID, and the free ones
    all: dict[str, list[Gpu]]
    free: dict[str, dict[str, Gpu]]
    #: endpoint → its workers here, and all workers here
    workers: dict[str, int] = field(default_factory=dict)
    n_workers: int = 0
    #: what is booked here → how often
    booked: Counter[Booking] = field(default_factory=Counter)
    #: disk that is kept free for the workers here, whatever they hold of it already
    kept_bytes: int = 0
    #: product → the group it stands in
    groups: dict[str, Group] = field(default_factory=dict)
    #: images asked for that it has
    asked: list[str] = field(default_factory=list)

    @property
    def disk_left_bytes(self) -> int:
        """Disk that is free and kept for nobody; negative when what was kept has been used."""
        return self.record.disk_free_bytes - self.kept_bytes

    def links_left(self, product: str) -> tuple[int, ...]:
        """Free GPUs of this product in each link group, ascending."""
        counts = Counter(gpu.link_group for gpu in self.free.get(product, {}).values())
        return tuple(sorted(counts.values()))

    def book(self, booking: Booking) -> None:
        """Give a worker here what it holds."""
        endpoint_id = booking.endpoint_id
        self.workers[endpoint_id] = self.workers.get(endpoint_id, 0) + 1
        self.n_workers += 1
        self.booked[booking] += 1
        self.kept_bytes += booking.disk_bytes
        for free in self.free.values():
            for uuid in booking.gpus:
                free.pop(uuid, None)

    def release(self, booking: Booking) -> None:
        """Take back what a worker held; GPUs that another one holds as well stay booked."""
        endpoint_id = booking.endpoint_id
        self.workers[endpoint_id] -= 1
        if not self.workers[endpoint_id]:
            del self.workers[endpoint_id]
        self.n_workers -= 1
        self.booked[booking] -= 1
        self.kept_bytes -= booking.disk_bytes
        if not self.booked[booking]:
            del self.booked[booking]
        if not booking.gpus:
            return
        held = {uuid for other in self.booked for uuid in other.gpus}
        back = set(booking.gpus) - held
        for product, known in self.all.items():
            self.free[product].update(
                {gpu.uuid: gpu for gpu in known if gpu.uuid in back and gpu.healthy}
            )


def empty_node(record: NodeRecord, closed: NodeState | None) -> Node:
    """A node with nothing booked on it.

    Args:
        record: its heartbeat.
        closed: why it takes no new worker; None = it does.
    """
    by_product: dict[str, list[Gpu]] = {}
    for gpu in record.gpus:
        by_product.setdefault(gpu.product.lower(), []).append(gpu)
    free = {p: {g.uuid: g for g in gpus if g.healthy} for p, gpus in by_product.items()}
    kind = Kind(
        record.runtime,
        record.cuda_version,
        frozenset(record.labels.items()),
        tuple(sorted((p, len(gpus), len(free[p])) for p, gpus in by_product.items())),
        tuple(sorted((p, min(g.vram_bytes for g in gpus)) for p, gpus in by_product.items())),
        frozenset(record.volume_paths),
        frozenset(record.volume_kinds),
        closed,
        _trouble(record),
    )
    return Node(record, kind, zlib.crc32(record.node_id.encode()), by_product, free)


def alike(one: NodeRecord, other: NodeRecord) -> bool:
    """Whether two heartbeats say the same of what placing asks."""
    return (
        _trouble(one) == _trouble(other)
        and one.gpus == other.gpus
        and one.images == other.images
        and one.runtime == other.runtime
        and one.cuda_version == other.cuda_version
        and one.labels == other.labels
        and one.volume_paths == other.volume_paths
        and one.volume_kinds == other.volume_kinds
    )


def _trouble(record: NodeRecord) -> Trouble:
    if record.engine_problem is None:
        return ""
    return "full" if record.engine_problem.full else "away"
