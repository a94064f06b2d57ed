"""Where a worker runs: filter → score → pick.

Filter (`lacks.py`), first reason wins: the node's engine answers and its disk is not full, its
runtime can run the image or command, it has the labels of `placement.node_selector`, it can mount
the network volumes, it has the product, its GPUs have the memory, it has that many of one product,
its driver's CUDA is new enough, they are healthy, the node takes workers (no operator's order against
it), they are free, the disk that is kept for the worker is left. Score, per node and product:
acceptable products in their order of preference come first; then a weighted sum of "the image is
there", "few workers of the same endpoint are there" (one node's death should not take all), "few
GPUs are left over" (whole nodes stay free for large workers), "the GPUs share a link". A node where
this endpoint just failed to start is taken only when there is no other. GPUs are booked by UUID; a
worker's GPUs are of one product.

Fit and links are scored per group of nodes (`fleet.py`), so finding a place costs as many steps as
there are groups, not nodes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from penstock_common.image_references import pinned
from penstock_common.messages import Gpu, NodeRecord
from penstock_common.specs import EndpointSpec
from penstock_common.states import NodeState
from penstock_scheduler.placement.fleet import Fleet
from penstock_scheduler.placement.lacks import Volumes, can_hold, describe, disk_to_keep, unfit
from penstock_scheduler.placement.nodes import NO_GPU, NONE_CLOSED, Booking, Group, Kind, Node

_IMAGE_WEIGHT: Final = 4.0
_SPREAD_WEIGHT: Final = 2.0
_FIT_WEIGHT: Final = 1.0
_LINK_WEIGHT: Final = 1.0
#: Of nodes that are alike, so many are looked at for one that nothing speaks against.
_LOOKED_AT: Final = 8


#: What options are compared by, lowest first: to be avoided, preference, score, workers, turn.
Key = tuple[bool, int, float, int, int]


@dataclass(frozen=True, slots=True)
class Request:
    """A worker that needs a place."""

    endpoint_id: str
    spec: EndpointSpec
    #: nodes on which this endpoint just failed to start: taken only if there is no other
    avoid: frozenset[str] = frozenset()
    #: network volumes by id
    volumes: Volumes = field(default_factory=lambda: MappingProxyType({}))
    #: digest that the image must have; None = any
    image_digest: str | None = None
    #: acceptable products in lower case with their rank; empty = any
    products: tuple[tuple[int, str], ...] = field(init=False)
    #: least memory of each GPU, 0 without GPUs
    vram_bytes: int = field(init=False)
    #: disk that is kept for the worker
    disk_bytes: int = field(init=False)
    #: what a node that needs no pull has: the image by digest, else by tag
    image: str | None = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what is asked of every group."""
        products = tuple(enumerate(name.lower() for name in self.spec.gpu.products))
        object.__setattr__(self, "products", products)
        gpu = self.spec.gpu
        vram_bytes = (gpu.min_vram_gb or 0) * 10**9 if gpu.count else 0
        object.__setattr__(self, "vram_bytes", vram_bytes)
        object.__setattr__(self, "disk_bytes", self.spec.storage.kept_bytes)
        image = self.spec.image.image
        if image is not None and self.image_digest is not None:
            image = pinned(image, self.image_digest)
        object.__setattr__(self, "image", image)


@dataclass(frozen=True, slots=True)
class Placement:
    """The node, and the UUIDs of the GPUs that are booked there."""

    node_id: str
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoCapacity:
    """No node can take the worker; the message says why, for all nodes in one sentence."""

    message: str


class Cluster:
    """The nodes, and which of their GPUs are free. `place` books."""

    def __init__(
        self,
        nodes: Iterable[NodeRecord],
        booked: Iterable[Booking],
        closed: Mapping[str, NodeState] = NONE_CLOSED,
    ) -> None:
        """A cluster with everything in `booked` taken.

        Args:
            nodes: nodes that report.
            booked: of every worker that may still hold its GPUs.
            closed: node → why it takes no new worker.
        """
        #: groups and nodes scored so far: what placing has cost
        self.scored = 0
        self._fleet = Fleet(nodes, booked, closed)

    @property
    def worn(self) -> bool:
        """Whether to make a new one instead of keeping this one."""
        return self._fleet.worn

    def knows(self, node_id: str) -> bool:
        """Whether this is one of its nodes."""
        return node_id in self._fleet.nodes

    def put_node(self, record: NodeRecord, closed: NodeState | None = None) -> bool:
        """Add or replace a node; gives whether placing sees a difference. See `Fleet.put_node`."""
        return self._fleet.put_node(record, closed)

    def drop_node(self, node_id: str) -> None:
        """Forget a node, and what is booked on it."""
        self._fleet.drop_node(node_id)

    def book(self, booking: Booking) -> None:
        """Take what a worker holds that has its place already."""
        self._fleet.take(booking)

    def release(self, booking: Booking) -> None:
        """Give back what a worker held."""
        self._fleet.release(booking)

    def place(self, request: Request, n: int = 1) -> tuple[list[Placement], NoCapacity | None]:
        """Places for `n` workers of one endpoint, booked at once.

        Returns:
            (placements, lack): `lack` is None when all `n` found a place.
        """
        search = Search(self._fleet, request)
        placements: list[Placement] = []
        while len(placements) < n and (placement := self._best(search)):
            self.book(
                Booking(
                    placement.node_id,
                    request.endpoint_id,
                    placement.gpus,
                    request.disk_bytes,
                )
            )
            placements.append(placement)
        self.scored += search.scored
        if len(placements) == n:
            return placements, None
        names = [name for _, name in request.products]
        short = search.short_of_disk()
        kinds, spec = self._fleet.kinds, request.spec
        return placements, NoCapacity(describe(kinds, spec, names, short, request.volumes))

    def find(self, request: Request) -> Placement | None:
        """Where the next worker would go; nothing is booked."""
        search = Search(self._fleet, request)
        placement = self._best(search)
        self.scored += search.scored
        return placement

    @staticmethod
    def _best(search: "Search") -> Placement | None:
        found = search.best()
        if found is None:
            return None
        node, product, _ = found
        gpus = pick_gpus(node.free[product], search.request.spec.gpu.count) if product else ()
        return Placement(node.record.node_id, gpus)


class Trial:
    """What if some workers were gone: their GPUs are free within the `with`, and taken again after."""

    def __init__(self, cluster: Cluster) -> None:
        """A trial over a cluster, in which nothing else is booked meanwhile."""
        self._cluster = cluster
        self._released: list[Booking] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for booking in reversed(self._released):
            self._cluster.book(booking)

    def release(self, booking: Booking) -> None:
        """As if this worker were gone."""
        self._cluster.release(booking)
        self._released.append(booking)

    def find(self, request: Request) -> Placement | None:
        """Where a worker would go then."""
        return self._cluster.find(request)


class Search:
    """Finds the best node for one more worker of one endpoint, again and again."""

    def __init__(self, fleet: Fleet, request: Request) -> None:
        """A search over a fleet that may change between calls of `best`."""
        #: groups and nodes scored so far
        self.scored = 0
        self._fleet = fleet
        self.request = request
        self._fit: dict[Kind, bool] = {}
        self._scores: dict[Group, float] = {}

    def best(self) -> tuple[Node, str, Key] | None:
        """The node with the lowest key, its product, and the key; None = no node has room."""
        best: tuple[Node, str, Key] | None = None
        request = self.request
        count, vram, disk = request.spec.gpu.count, request.vram_bytes, request.disk_bytes
        for rank, product in self._ranked():
            if best is not None and not best[2][0] and best[2][1] < rank:
                break  # one of a preferred product
            for group in self._fleet.groups(product):
                if group.free < count or group.vram_bytes < vram or not self._fits(group.kind):
                    continue
                if disk and group.disk_most_bytes < self._disk(group):
                    continue
                self.scored += 1
                score = self._score(group)
                most = score + _IMAGE_WEIGHT + _SPREAD_WEIGHT
                if best is not None and best[2][:3] < (False, rank, -most):
                    continue
                for node in self._candidates(group):
                    key = self.key(node, rank, score)
                    if best is None or key < best[2]:
                        best = (node, product, key)
        return best

    def short_of_disk(self) -> Counter[Kind]:
        """How many nodes of each kind could take the worker if they had the disk.

        Only after `best` found no node: then those that have the GPUs lack the disk.
        """
        short: Counter[Kind] = Counter()
        for _, product in self._ranked():
            of_product: Counter[Kind] = Counter()
            for group in self._fleet.groups(product):
                if self._has_gpus(group):
                    of_product[group.kind] += group.size
            short |= of_product
        return short

    def _has_gpus(self, group: Group) -> bool:
        request = self.request
        return (
            group.free >= request.spec.gpu.count
            and group.vram_bytes >= request.vram_bytes
            and self._fits(group.kind)
        )

    def _disk(self, group: Group) -> int:
        return disk_to_keep(group.kind, self.request.disk_bytes)

    def key(self, node: Node, rank: int, score: float) -> Key:
        """What this node is compared by; `score`: of its group."""
        self.scored += 1
        request, node_id = self.request, node.record.node_id
        image = self._fleet.has_image(node, request.image)
        spread = _SPREAD_WEIGHT / (1 + node.workers.get(request.endpoint_id, 0))
        total = score + _IMAGE_WEIGHT * image + spread
        return node_id in request.avoid, rank, -total, node.n_workers, node.turn

    def _ranked(self) -> Iterable[tuple[int, str]]:
        count = self.request.spec.gpu.count
        if not count:
            return [(0, NO_GPU)]
        ranked = self.request.products or [(0, product) for product in self._fleet.products()]
        return [(rank, product) for rank, product in ranked if can_hold(product, count)]

    def _fits(self, kind: Kind) -> bool:
        fits = self._fit.get(kind)
        if fits is None:
            request = self.request
            names = [name for _, name in request.products]
            fits = self._fit[kind] = unfit(kind, request.spec, names, request.volumes) is None
        return fits

    def _score(self, group: Group) -> float:
        score = self._scores.get(group)
        if score is None:
            score = self._scores[group] = group_score(group, self.request.spec.gpu.count)
        return score

    def _candidates(self, group: Group) -> list[Node]:
        """The nodes of a group of which one is its best: the first of each sort."""
        fleet, request = self._fleet, self.request
        image = request.image
        most, disk = _LOOKED_AT + len(request.avoid), self._disk(group)
        plain, good = self._is_plain, self._is_good_own
        own = request.endpoint_id
        return [
            *fleet.members_with_image(group, image, plain, most=most, disk_bytes=disk),
            *fleet.members(group, plain, most=most, disk_bytes=disk),
            *fleet.members_of(group, own, good, most=most, disk_bytes=disk),
        ]

    def _is_plain(self, node: Node) -> bool:
        """Whether nothing speaks against a node, so that no later one of its sort is better."""
        request = self.request
        return request.endpoint_id not in node.workers and node.record.node_id not in request.avoid

    def _is_good_own(self, node: Node) -> bool:
        """The same among nodes that run as many workers of this endpoint."""
        has_image = self._fleet.has_image(node, self.request.image)
        return has_image and node.record.node_id not in self.request.avoid


def group_score(group: Group, count: int) -> float:
    """How well `count` GPUs of a group's nodes fit: few left over, few link groups."""
    if not count:
        return _FIT_WEIGHT + _LINK_WEIGHT
    left_ratio = (group.free - count) / group.total
    return _FIT_WEIGHT * (1 - left_ratio) + _LINK_WEIGHT / _n_links(group.split, count)


def _n_links(split: tuple[int, ...], count: int) -> int:
    """In how many link groups `pick_gpus` finds `count` GPUs."""
    if sum(split) == count:
        return len(split)
    if split[-1] >= count:
        return 1
    n = 0
    for size in reversed(split):
        n += 1
        count -= size
        if count <= 0:
            break
    return n


def pick_gpus(free: Mapping[str, Gpu], count: int) -> tuple[str, ...]:
    """`count` of the free GPUs: of the smallest link group that holds them all, else of few.

    Of groups as large as one another those go together that lie at the same NUMA node.
    """
    if len(free) == count:
        return tuple(free)
    groups: dict[int, list[str]] = {}
    for uuid, gpu in free.items():
        groups.setdefault(gpu.link_group, []).append(uuid)
    by_size = sorted(groups.values(), key=len)
    for group in by_size:
        if len(group) >= count:
            return tuple(group[:count])
    largest = by_size[-1]
    near = free[largest[0]].numa_node
    by_size.sort(key=lambda g: (len(g), g is largest, free[g[0]].numa_node == near))
    picked: list[str] = []
    for group in reversed(by_size):
        picked += group[: count - len(picked)]
        if len(picked) == count:
            break
    return tuple(picked)
