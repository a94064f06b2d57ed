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
    record: NodeRecord
    #: UUIDs that are free and healthy, and all, by product in lower case
    free: dict[str, dict[str, Gpu]] = field(default_factory=dict)
    all: dict[str, list[Gpu]] = field(default_factory=dict)
    workers: Counter[str] = field(default_factory=Counter)


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
        self._nodes: dict[str, _Node] = {}
        for record in nodes:
            node = self._nodes[record.node_id] = _Node(record)
            for gpu in record.gpus:
                product = gpu.product.lower()
                node.all.setdefault(product, []).append(gpu)
                if gpu.healthy:
                    node.free.setdefault(product, {})[gpu.uuid] = gpu
        for node_id, endpoint_id, gpus in booked:
            if found := self._nodes.get(node_id):
                _take(found, endpoint_id, gpus)

    def release(self, node_id: str, endpoint_id: str, gpus: tuple[str, ...]) -> None:
        """Give a worker's GPUs back."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        node.workers[endpoint_id] -= 1
        for product, known in node.all.items():
            node.free.setdefault(product, {}).update(
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
    node.workers[endpoint_id] += 1
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
    ranked = list(enumerate(p.lower() for p in gpu.products)) or [(0, p) for p in sorted(node.all)]
    present = [(rank, product) for rank, product in ranked if product in node.all]
    if not present:
        if not node.all:
            return _Lack("has no GPUs", "have no GPUs")
        names = " or ".join(gpu.products)
        return _Lack(f"has no {names}", f"have no {names}")
    enough = [(r, p) for r, p in present if len(node.all[p]) >= gpu.count]
    if not enough:
        what = f"fewer than {gpu.count} GPUs of one product"
        return _Lack(f"has {what}", f"have {what}")
    lack = _check_cuda(node.record, gpu.min_cuda_version)
    if lack is not None:
        return lack
    healthy = [(r, p) for r, p in enough if sum(g.healthy for g in node.all[p]) >= gpu.count]
    if not healthy:
        return _Lack("has unhealthy GPUs", "have unhealthy GPUs")
    options = [
        _Option(
            _key(
                node,
                request,
                rank=rank,
                left_ratio=(len(free) - gpu.count) / len(node.all[product]),
                n_groups=n_groups,
            ),
            uuids,
        )
        for rank, product in healthy
        if len(free := node.free.get(product, {})) >= gpu.count
        for uuids, n_groups in [_pick_gpus(free, gpu.count)]
    ]
    return min(options, key=lambda o: o.key, default=_Lack("lacks free GPUs", "lack free GPUs"))


def _key(node: _Node, request: Request, *, rank: int, left_ratio: float, n_groups: int) -> _Key:
    record = node.record
    score = (
        _IMAGE_WEIGHT * (request.spec.image.image in record.images)
        + _SPREAD_WEIGHT / (1 + node.workers[request.endpoint_id])
        + _FIT_WEIGHT * (1 - left_ratio)
        + _LINK_WEIGHT / n_groups
    )
    avoid = record.node_id in request.avoid
    return avoid, rank, -score, node.workers.total(), record.node_id


def _pick_gpus(free: Mapping[str, Gpu], count: int) -> tuple[tuple[str, ...], int]:
    """`count` of the free GPUs, and how many link groups they lie in.

    The smallest group that holds them all, else the largest groups first.
    """
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


def _check_cuda(record: NodeRecord, wanted: str | None) -> _Lack | None:
    if wanted is None:
        return None
    if record.cuda_version is None:
        what = f"no known CUDA version and {wanted} is needed"
        return _Lack(f"has {what}", f"have {what}")
    if _version(record.cuda_version) >= _version(wanted):
        return None
    what = f"CUDA {record.cuda_version} < {wanted}"
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
