"""Where a worker runs: filter → score → pick.

Filter, first reason wins: the node's runtime can run the image or command, it has the product, it
has that many GPUs of one product, its driver's CUDA is new enough, they are healthy, they are
free. Score, per node and product: acceptable products in their order of preference come first;
then a weighted sum of "the image is there", "few workers of the same endpoint are there" (one
node's death should not take all), "few GPUs are left over" (whole nodes stay free for large
workers), "the GPUs share a link". A node where this endpoint just failed to start is taken only
when there is no other. GPUs are booked by UUID; a worker's GPUs are of one product.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from penstock_common.messages import Gpu, NodeRecord
from penstock_common.specs import EndpointSpec

_IMAGE_WEIGHT: Final = 4.0
_SPREAD_WEIGHT: Final = 2.0
_FIT_WEIGHT: Final = 1.0
_LINK_WEIGHT: Final = 1.0


#: What holds GPUs: (node id, endpoint id, UUIDs).
Booking = tuple[str, str, tuple[str, ...]]

#: What options are compared by, lowest first: to be avoided, preference, score, load, node id.
_Key = tuple[bool, int, float, int, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A worker that needs a place."""

    endpoint_id: str
    spec: EndpointSpec
    #: nodes on which this endpoint just failed to start: taken only if there is no other
    avoid: frozenset[str] = frozenset()
    #: acceptable products in lower case with their rank; empty = any
    products: tuple[tuple[int, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work the products out once, not for every node."""
        products = tuple(enumerate(name.lower() for name in self.spec.gpu.products))
        object.__setattr__(self, "products", products)


@dataclass(frozen=True, slots=True)
class Placement:
    """The node, and the UUIDs of the GPUs that are booked there."""

    node_id: str
    gpus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoCapacity:
    """No node can take the worker; the message says why, for all nodes in one sentence."""

    message: str


@dataclass(frozen=True, slots=True)
class _Lack:
    """Why a node cannot take the worker: one sentence's verb for one node, and for several."""

    one: str
    many: str


@dataclass(frozen=True, slots=True)
class _Option:
    """One way to put the worker on one node; the lowest `key` is the best."""

    key: _Key
    gpus: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """A node with what placing asks again and again, worked out once."""

    record: NodeRecord
    images: frozenset[str]
    cuda: tuple[int, ...] | None
    #: product in lower case → its GPUs, how many of them are healthy, and which of those are free
    all: dict[str, list[Gpu]]
    n_healthy: dict[str, int]
    free: dict[str, dict[str, Gpu]]
    #: endpoint → its workers here, and all workers here
    workers: dict[str, int] = field(default_factory=dict)
    n_workers: int = 0


def _node(record: NodeRecord) -> _Node:
    by_product: dict[str, list[Gpu]] = {}
    for gpu in record.gpus:
        by_product.setdefault(gpu.product.lower(), []).append(gpu)
    free = {p: {g.uuid: g for g in gpus if g.healthy} for p, gpus in by_product.items()}
    return _Node(
        record,
        images=frozenset(record.images),
        cuda=_version(record.cuda_version) if record.cuda_version is not None else None,
        all=by_product,
        n_healthy={product: len(gpus) for product, gpus in free.items()},
        free=free,
    )


class Cluster:
    """The nodes, and which of their GPUs are free. `place` books."""

    def __init__(
        self,
        nodes: Iterable[NodeRecord],
        booked: Iterable[Booking],
    ) -> None:
        """A cluster with everything in `booked` taken.

        Args:
            nodes: nodes that may take workers.
            booked: (node id, endpoint id, GPU UUIDs) of every worker that may still hold its GPUs.
        """
        #: nodes scored so far: what placing has cost
        self.scored = 0
        self._nodes = {record.node_id: _node(record) for record in nodes}
        for node_id, endpoint_id, gpus in booked:
            if found := self._nodes.get(node_id):
                _take(found, endpoint_id, gpus)

    def release(self, node_id: str, endpoint_id: str, gpus: tuple[str, ...]) -> None:
        """Give a worker's GPUs back."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        node.workers[endpoint_id] -= 1
        node.n_workers -= 1
        for product, known in node.all.items():
            node.free[product].update(
                {gpu.uuid: gpu for gpu in known if gpu.uuid in gpus and gpu.healthy}
            )

    def place(self, request: Request, n: int = 1) -> tuple[list[Placement], NoCapacity | None]:
        """Places for `n` workers of one endpoint, booked at once.

        Scoring every node once and re-scoring only the node just used makes this
        O(nodes + n log nodes).

        Returns:
            (placements, lack): `lack` is None when all `n` found a place.
        """
        best: list[tuple[_Key, _Option]] = []
        lacks: list[_Lack] = []
        self.scored += len(self._nodes)
        for node in self._nodes.values():
            found = _best_option(node, request)
            if isinstance(found, _Lack):
                lacks.append(found)
            else:
                best.append((found.key, found))
        heapq.heapify(best)
        placements: list[Placement] = []
        while best and len(placements) < n:
            _, option = heapq.heappop(best)
            node_id = option.key[-1]
            node = self._nodes[node_id]
            _take(node, request.endpoint_id, option.gpus)
            placements.append(Placement(node_id, option.gpus))
            self.scored += 1
            found = _best_option(node, request)
            if isinstance(found, _Lack):
                lacks.append(found)
            else:
                heapq.heappush(best, (found.key, found))
        if len(placements) == n:
            return placements, None
        return placements, NoCapacity(_lack_message(lacks))


def _take(node: _Node, endpoint_id: str, gpus: tuple[str, ...]) -> None:
    node.workers[endpoint_id] = node.workers.get(endpoint_id, 0) + 1
    node.n_workers += 1
    for free in node.free.values():
        for uuid in gpus:
            free.pop(uuid, None)


def _best_option(node: _Node, request: Request) -> _Option | _Lack:
    """The best way to put one more worker on this node, or the first thing that it lacks."""
    lack = _check_runtime(node.record, request.spec)
    if lack is not None:
        return lack
    gpu = request.spec.gpu
    if gpu.count == 0:
        return _Option(_key(node, request, rank=0, left_ratio=0.0, n_groups=1), ())
    ranked = request.products or tuple((0, product) for product in sorted(node.all))
    best: _Option | None = None
    for rank, product in ranked:
        free = node.free.get(product, {})
        if len(free) < gpu.count:
            continue
        uuids, n_groups = _pick_gpus(free, gpu.count)
        left_ratio = (len(free) - gpu.count) / len(node.all[product])
        key = _key(node, request, rank=rank, left_ratio=left_ratio, n_groups=n_groups)
        if best is None or key < best.key:
            best = _Option(key, uuids)
    if best is None:
        return _gpu_lack(node, request)
    return _check_cuda(node, gpu.min_cuda_version) or best


def _gpu_lack(node: _Node, request: Request) -> _Lack:
    """Why none of the acceptable products has enough free GPUs."""
    gpu = request.spec.gpu
    products = [product for _, product in request.products] or list(node.all)
    if not node.all:
        return _Lack("has no GPUs", "have no GPUs")
    present = [product for product in products if product in node.all]
    if not present:
        names = " or ".join(gpu.products)
        return _Lack(f"has no {names}", f"have no {names}")
    enough = [product for product in present if len(node.all[product]) >= gpu.count]
    if not enough:
        what = f"fewer than {gpu.count} GPUs of one product"
        return _Lack(f"has {what}", f"have {what}")
    lack = _check_cuda(node, gpu.min_cuda_version)
    if lack is not None:
        return lack
    if all(node.n_healthy[product] < gpu.count for product in enough):
        return _Lack("has unhealthy GPUs", "have unhealthy GPUs")
    return _Lack("lacks free GPUs", "lack free GPUs")


def _key(node: _Node, request: Request, *, rank: int, left_ratio: float, n_groups: int) -> _Key:
    score = (
        _IMAGE_WEIGHT * (request.spec.image.image in node.images)
        + _SPREAD_WEIGHT / (1 + node.workers.get(request.endpoint_id, 0))
        + _FIT_WEIGHT * (1 - left_ratio)
        + _LINK_WEIGHT / n_groups
    )
    node_id = node.record.node_id
    return node_id in request.avoid, rank, -score, node.n_workers, node_id


def _pick_gpus(free: Mapping[str, Gpu], count: int) -> tuple[tuple[str, ...], int]:
    """`count` of the free GPUs, and how many link groups they lie in.

    The smallest group that holds them all, else the largest groups first.
    """
    if len(free) == count:
        return tuple(free), len({gpu.link_group for gpu in free.values()})
    groups: dict[int, list[str]] = {}
    for uuid, gpu in free.items():
        groups.setdefault(gpu.link_group, []).append(uuid)
    by_size = sorted(groups.values(), key=len)
    for group in by_size:
        if len(group) >= count:
            return tuple(group[:count]), 1
    picked: list[str] = []
    n_groups = 0
    for group in reversed(by_size):
        picked += group[: count - len(picked)]
        n_groups += 1
        if len(picked) == count:
            break
    return tuple(picked), n_groups


def _check_runtime(record: NodeRecord, spec: EndpointSpec) -> _Lack | None:
    if record.runtime == "docker" and not spec.image.image:
        what = "containers and image.image is not set"
    elif record.runtime == "process" and not (spec.image.command or "").strip():
        what = "plain processes and image.command is not set"
    else:
        return None
    return _Lack(f"runs {what}", f"run {what}")


def _check_cuda(node: _Node, wanted: str | None) -> _Lack | None:
    if wanted is None:
        return None
    if node.cuda is None:
        what = f"no known CUDA version and {wanted} is needed"
    elif node.cuda < _version(wanted):
        what = f"CUDA {node.record.cuda_version} < {wanted}"
    else:
        return None
    return _Lack(f"has {what}", f"have {what}")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


def _lack_message(lacks: Sequence[_Lack]) -> str:
    """`no capacity: 3 nodes lack free GPUs, 1 has CUDA 12.2 < 12.4`, most frequent first."""
    if not lacks:
        return "no capacity: no nodes joined"
    counted = sorted(Counter(lacks).items(), key=lambda item: (-item[1], item[0].one))
    parts = [f"{n} {lack.one if n == 1 else lack.many}" for lack, n in counted]
    first = counted[0][1]
    parts[0] = parts[0].replace(" ", " node " if first == 1 else " nodes ", 1)
    return "no capacity: " + ", ".join(parts)
