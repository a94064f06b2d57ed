"""What Novita's clients ask before they make an endpoint: limits, products, clusters [pure].

Limits are those of our endpoint document, read from its models so that the two cannot disagree;
products and clusters are what the nodes that report have.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, get_args

import annotated_types
from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

from penstock_api.dialects import CamelDocument
from penstock_api.novita.v1 import DEFAULT_CLUSTER, REGION
from penstock_client.documents import NodeDocument
from penstock_common.specs import (
    DEFAULT_CONTAINER_DISK_GB,
    GpuSpec,
    LocalVolume,
    ScalingSpec,
    StorageSpec,
    WorkersSpec,
)
from penstock_common.states import NodeState

_GB: Final = 10**9


class NovitaLimits(CamelDocument):
    """Ranges of an endpoint's parameters; sizes in GB, times in seconds."""

    min_rootfs_size: int
    max_rootfs_size: int
    #: nothing is billed: the size that is taken when none is given
    free_rootfs_size: int
    min_local_volume_size: int
    max_local_volume_size: int
    #: nothing is billed: the size that is taken when none is given
    free_local_volume_size: int
    min_worker_num: int
    max_worker_num: int
    min_free_timeout: int
    max_free_timeout: int
    min_concurrency_num: int
    max_concurrency_num: int
    min_queue_wait_time: int
    max_queue_wait_time: int
    min_request_num: int
    max_request_num: int
    min_gpu_num: Annotated[int, Field(alias="minGPUNum")]
    max_gpu_num: Annotated[int, Field(alias="maxGPUNum")]
    min_request_timeout: int
    max_request_timeout: int
    #: of the nodes' drivers
    cuda_version_list: tuple[str, ...]


class NovitaMonthlyPrice(CamelDocument):
    """A price for some months."""

    price: str
    month: int


class NovitaProductOffer(CamelDocument):
    """A kind of GPU; nothing is billed, so prices are 0."""

    id: str
    name: str
    #: the least of the nodes that have it
    cpu_per_gpu: int
    #: GB, the least of the nodes that have it
    memory_per_gpu: int
    #: GB, the least of the nodes that have it
    disk_per_gpu: int
    #: true = a worker could be placed now
    available_deploy: bool
    min_root_fs: Annotated[int, Field(alias="minRootFS")]
    max_root_fs: Annotated[int, Field(alias="maxRootFS")]
    min_local_storage: int
    max_local_storage: int
    #: clusters that have it
    regions: tuple[str, ...]
    price: str = "0"
    monthly_price: tuple[NovitaMonthlyPrice, ...] = ()
    billing_methods: tuple[str, ...] = ("onDemand",)
    spot_price: str = "0"
    #: `none`, `low`, `normal`, `high`: how many of its GPUs are free
    inventory_state: str


class NovitaProducts(CamelDocument):
    """The products."""

    data: tuple[NovitaProductOffer, ...]


class NovitaCluster(CamelDocument):
    """Nodes with the same label `region`."""

    id: str
    name: str
    available_gpu_type: tuple[str, ...]
    support_network_storage: bool
    support_instance_network: bool = False


class NovitaClusters(CamelDocument):
    """The clusters."""

    data: tuple[NovitaCluster, ...]


@dataclass(frozen=True, slots=True)
class ProductQuery:
    """Which products are asked for."""

    cluster: str = ""
    gpus: int = 0
    #: part of a product's id
    name: str = ""
    min_cpus: int = 0
    min_memory_gb: int = 0


def limits(nodes: Iterable[NodeDocument]) -> NovitaLimits:
    """The ranges of an endpoint's parameters."""
    versions = {node.cuda_version for node in nodes if node.cuda_version is not None}
    rootfs = _range(StorageSpec, "container_disk_gb")
    volume = _range(LocalVolume, "size_gb")
    wait = _range(ScalingSpec, "value")
    return NovitaLimits(
        min_rootfs_size=rootfs[0],
        max_rootfs_size=rootfs[1],
        free_rootfs_size=DEFAULT_CONTAINER_DISK_GB,
        min_local_volume_size=volume[0],
        max_local_volume_size=volume[1],
        free_local_volume_size=LocalVolume.model_fields["size_gb"].default,
        min_worker_num=_range(WorkersSpec, "min")[0],
        max_worker_num=_range(WorkersSpec, "max")[1],
        min_free_timeout=_range(WorkersSpec, "idle_timeout_s")[0],
        max_free_timeout=_range(WorkersSpec, "idle_timeout_s")[1],
        min_concurrency_num=_range(WorkersSpec, "max_concurrency")[0],
        max_concurrency_num=_range(WorkersSpec, "max_concurrency")[1],
        min_queue_wait_time=wait[0],
        max_queue_wait_time=wait[1],
        min_request_num=wait[0],
        max_request_num=wait[1],
        min_gpu_num=_range(GpuSpec, "count")[0],
        max_gpu_num=_range(GpuSpec, "count")[1],
        min_request_timeout=_range(WorkersSpec, "request_timeout_s")[0],
        max_request_timeout=_range(WorkersSpec, "request_timeout_s")[1],
        cuda_version_list=tuple(sorted(versions, key=_version)),
    )


def products(nodes: Iterable[NodeDocument], query: ProductQuery) -> NovitaProducts:
    """The kinds of GPU that the nodes have and the query asks for, by id."""
    having: dict[str, list[NodeDocument]] = {}
    for node in nodes:
        if query.cluster in {"", DEFAULT_CLUSTER, cluster_of(node)}:
            for product in {gpu.product for gpu in node.gpus}:
                having.setdefault(product, []).append(node)
    offers = (_offer(product, having[product], query.gpus) for product in sorted(having))
    return NovitaProducts(
        data=tuple(
            offer
            for offer in offers
            if query.name.lower() in offer.name.lower()
            and offer.cpu_per_gpu >= query.min_cpus
            and offer.memory_per_gpu >= query.min_memory_gb
            and any(_count(node, offer.id) >= query.gpus for node in having[offer.id])
        )
    )


def clusters(nodes: Iterable[NodeDocument], *, network_storage: bool) -> NovitaClusters:
    """The values of the nodes' label `region`; nodes without one are the cluster `default`."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        found.setdefault(cluster_of(node), set()).update(gpu.product for gpu in node.gpus)
    return NovitaClusters(
        data=tuple(
            NovitaCluster(
                id=cluster,
                name=cluster,
                available_gpu_type=tuple(sorted(found[cluster])),
                support_network_storage=network_storage,
            )
            for cluster in sorted(found)
        )
    )


def cluster_of(node: NodeDocument) -> str:
    """The cluster that a node belongs to."""
    return node.labels.get(REGION) or DEFAULT_CLUSTER


def _offer(product: str, nodes: list[NodeDocument], wanted: int) -> NovitaProductOffer:
    rootfs, volume = _range(StorageSpec, "container_disk_gb"), _range(LocalVolume, "size_gb")
    total = sum(_count(node, product) for node in nodes)
    free = {node.id: _free(node, product) for node in nodes}
    return NovitaProductOffer(
        id=product,
        name=product,
        cpu_per_gpu=min((node.cpu_count or 0) // len(node.gpus) for node in nodes),
        memory_per_gpu=min((node.memory_bytes or 0) // _GB // len(node.gpus) for node in nodes),
        disk_per_gpu=min((node.disk_bytes or 0) // _GB // len(node.gpus) for node in nodes),
        available_deploy=any(count >= max(wanted, 1) for count in free.values()),
        min_root_fs=rootfs[0],
        max_root_fs=rootfs[1],
        min_local_storage=volume[0],
        max_local_storage=volume[1],
        regions=tuple(sorted({cluster_of(node) for node in nodes})),
        inventory_state=_inventory(sum(free.values()), total),
    )


def _count(node: NodeDocument, product: str) -> int:
    return sum(gpu.product == product for gpu in node.gpus)


def _free(node: NodeDocument, product: str) -> int:
    if node.state is not NodeState.READY or node.engine_problem is not None:
        return 0
    return sum(
        gpu.product == product and gpu.healthy and gpu.worker_id is None for gpu in node.gpus
    )


def _inventory(free: int, total: int) -> str:
    if free == 0:
        return "none"
    if free * 4 <= total:
        return "low"
    return "normal" if free * 4 <= total * 3 else "high"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _rules(part: object) -> Iterable[object]:
    for rule in getattr(part, "__metadata__", ()):
        yield from rule.metadata if isinstance(rule, FieldInfo) else (rule,)


def _range(model: type[BaseModel], field: str) -> tuple[int, int]:
    """The least and the most whole number that a field of our document takes."""
    found = model.model_fields[field]
    # Of an optional field, the rules stand within the type.
    inner = [rule for part in get_args(found.annotation) for rule in _rules(part)]
    rules: Mapping[type, object] = {type(rule): rule for rule in (*found.metadata, *inner)}
    least, most = rules.get(annotated_types.Ge), rules[annotated_types.Le]
    above = rules.get(annotated_types.Gt)
    assert isinstance(most, annotated_types.Le)
    if isinstance(least, annotated_types.Ge):
        low = math.ceil(float(str(least.ge)))
    else:
        assert isinstance(above, annotated_types.Gt)
        low = math.floor(float(str(above.gt))) + 1
    return low, math.floor(float(str(most.le)))
