"""Where a worker runs: filter → score → pick.

Filter (`lacks.py`), first reason wins: the node's engine answers and its disk is not full, its
runtime can run the image or command, it has the labels of `placement.node_selector`, it can mount
the network volumes, it has the product, it has that many GPUs of one product, its driver's CUDA is
new enough, they are healthy, the node takes workers (no operator's order against it), they are
free. Score, per node and product:
acceptable products in their order of preference come first; then a weighted sum of "the image is
there", "few workers of the same endpoint are there" (one node's death should not take all), "few
GPUs are left over" (whole nodes stay free for large workers), "the GPUs share a link". A node where
this endpoint just failed to start is taken only when there is no other. GPUs are booked by UUID; a
worker's GPUs are of one product.

Fit and links are scored per group of nodes (`fleet.py`), so finding a place costs as many steps as
there are groups, not nodes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from penstock_common.image_references import pinned
from penstock_common.messages import Gpu, NodeRecord
from penstock_common.specs import EndpointSpec
from penstock_common.states import NodeState
from penstock_scheduler.fleet import NO_GPU, Booking, Fleet, Group, Kind, Node
from penstock_scheduler.lacks import Volumes, can_hold, describe, unfit

_IMAGE_WEIGHT: Final = 4.0
_SPREAD_WEIGHT: Final = 2.0
_FIT_WEIGHT: Final = 1.0
_LINK_WEIGHT: Final = 1.0
#: Of nodes that are alike, so many are looked at for one that nothing speaks against.
_LOOKED_AT: Final = 8

_NONE_CLOSED: Final[Mapping[str, NodeState]] = MappingProxyType({})

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
    #: what a node that needs no pull has: the image by digest, else by tag
    image: str | None = field(init=False)

    def __post_init__(self) -> None:
        """Work out once what is asked of every node."""
        products = tuple(enumerate(name.lower() for name in self.spec.gpu.products))
        object.__setattr__(self, "products", products)
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
        closed: Mapping[str, NodeState] = _NONE_CLOSED,
    ) -> None:
        """A cluster with everything in `booked` taken.

        Args:
            nodes: nodes that report.
            booked: (node id, endpoint id, GPU UUIDs) of every worker that may still hold its GPUs.
            closed: node → why it takes no new worker.
        """
        #: groups and nodes scored so far: what placing has cost
        self.scored = 0
        self._fleet = Fleet(nodes, booked, closed)

    def updated(
        self,
        nodes: Iterable[NodeRecord],
        booked: Iterable[Booking],
        closed: Mapping[str, NodeState] = _NONE_CLOSED,
    ) -> "Cluster":
        """A cluster of these nodes and bookings: this one brought up to date, or a new one."""
        if self._fleet.worn:
            return Cluster(nodes, booked, closed)
        self._fleet.update(nodes, booked, closed)
        self.scored = 0
        return self

    def release(self, node_id: str, endpoint_id: str, gpus: tuple[str, ...]) -> None:
        """Give a worker's GPUs back."""
        self._fleet.release(node_id, endpoint_id, gpus)

    def place(self, request: Request, n: int = 1) -> tuple[list[Placement], NoCapacity | None]:
        """Places for `n` workers of one endpoint, booked at once.

        Returns:
            (placements, lack): `lack` is None when all `n` found a place.
        """
        search = Search(self._fleet, request)
        placements: list[Placement] = []
        while len(placements) < n:
            found = search.best()
            if found is None:
                break
            node, product, _ = found
            gpus = pick_gpus(node.free[product], request.spec.gpu.count) if product else ()
            self._fleet.take(node, request.endpoint_id, gpus)
            placements.append(Placement(node.record.node_id, gpus))
        self.scored += search.scored
        if len(placements) == n:
            return placements, None
        names = [name for _, name in request.products]
        return placements, NoCapacity(
            describe(self._fleet.kinds, request.spec, names, request.volumes)
        )


class Search:
    """Finds the best node for one more worker of one endpoint, again and again."""

    def __init__(self, fleet: Fleet, request: Request) -> None:
        """A search over a fleet that may change between calls of `best`."""
        #: groups and nodes scored so far
        self.scored = 0
        self._fleet = fleet
        self._request = request
        self._fit: dict[Kind, bool] = {}
        self._scores: dict[Group, float] = {}

    def best(self) -> tuple[Node, str, Key] | None:
        """The node with the lowest key, its product, and the key; None = no node has room."""
        best: tuple[Node, str, Key] | None = None
        for rank, product in self._ranked():
            if best is not None and not best[2][0] and best[2][1] < rank:
                break  # one of a preferred product
            for group in self._fleet.groups(product):
                if group.free < self._request.spec.gpu.count or not self._fits(group.kind):
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

    def key(self, node: Node, rank: int, score: float) -> Key:
        """What this node is compared by; `score`: of its group."""
        self.scored += 1
        request, node_id = self._request, node.record.node_id
        image = self._fleet.has_image(node, request.image)
        spread = _SPREAD_WEIGHT / (1 + node.workers.get(request.endpoint_id, 0))
        total = score + _IMAGE_WEIGHT * image + spread
        return node_id in request.avoid, rank, -total, node.n_workers, node.turn

    def _ranked(self) -> Iterable[tuple[int, str]]:
        count = self._request.spec.gpu.count
        if not count:
            return [(0, NO_GPU)]
        ranked = self._request.products or [(0, product) for product in self._fleet.products()]
        return [(rank, product) for rank, product in ranked if can_hold(product, count)]

    def _fits(self, kind: Kind) -> bool:
        fits = self._fit.get(kind)
        if fits is None:
            request = self._request
            names = [name for _, name in request.products]
            fits = self._fit[kind] = unfit(kind, request.spec, names, request.volumes) is None
        return fits

    def _score(self, group: Group) -> float:
        score = self._scores.get(group)
        if score is None:
            score = self._scores[group] = group_score(group, self._request.spec.gpu.count)
        return score

    def _candidates(self, group: Group) -> list[Node]:
        """The nodes of a group of which one is its best: the first of each sort."""
        fleet, request = self._fleet, self._request
        image = request.image
        most = _LOOKED_AT + len(request.avoid)
        return [
            *fleet.members_with_image(group, image, self._is_plain, most=most),
            *fleet.members(group, self._is_plain, most=most),
            *fleet.members_of(group, request.endpoint_id, self._is_good_own, most=most),
        ]

    def _is_plain(self, node: Node) -> bool:
        """Whether nothing speaks against a node, so that no later one of its sort is better."""
        request = self._request
        return request.endpoint_id not in node.workers and node.record.node_id not in request.avoid

    def _is_good_own(self, node: Node) -> bool:
        """The same among nodes that run as many workers of this endpoint."""
        has_image = self._fleet.has_image(node, self._request.image)
        return has_image and node.record.node_id not in self._request.avoid


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
