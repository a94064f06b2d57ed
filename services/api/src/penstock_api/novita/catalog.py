"""What Novita's clients ask before they make an endpoint: limits, products, clusters [pure].

Limits (`limits.py`) and products (`products.py`) are our own, in their words; clusters are what the
nodes that report have.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from penstock_api.dialects import CamelDocument
from penstock_api.limits import document_limits
from penstock_api.novita.v1 import DEFAULT_CLUSTER, REGION
from penstock_api.products import by_version, products_of
from penstock_client.documents import NodeDocument, ProductDocument
from penstock_common.specs import DEFAULT_CONTAINER_DISK_GB, LocalVolume

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
    rootfs = _range("storage.container_disk_gb")
    volume = _range("storage.volumes[].size_gb")
    wait = _range("scaling.value")
    idle, busy = _range("workers.idle_timeout_s"), _range("workers.request_timeout_s")
    concurrency, count = _range("workers.max_concurrency"), _range("gpu.count")
    return NovitaLimits(
        min_rootfs_size=rootfs[0],
        max_rootfs_size=rootfs[1],
        free_rootfs_size=DEFAULT_CONTAINER_DISK_GB,
        min_local_volume_size=volume[0],
        max_local_volume_size=volume[1],
        free_local_volume_size=LocalVolume.model_fields["size_gb"].default,
        min_worker_num=_range("workers.min")[0],
        max_worker_num=_range("workers.max")[1],
        min_free_timeout=idle[0],
        max_free_timeout=idle[1],
        min_concurrency_num=concurrency[0],
        max_concurrency_num=concurrency[1],
        min_queue_wait_time=wait[0],
        max_queue_wait_time=wait[1],
        min_request_num=wait[0],
        max_request_num=wait[1],
        min_gpu_num=count[0],
        max_gpu_num=count[1],
        min_request_timeout=busy[0],
        max_request_timeout=busy[1],
        cuda_version_list=by_version(node.cuda_version for node in nodes),
    )


def products(nodes: Iterable[NodeDocument], query: ProductQuery) -> NovitaProducts:
    """The kinds of GPU that the nodes have and the query asks for, by id."""
    within = {
        node.id: node for node in nodes if query.cluster in {"", DEFAULT_CLUSTER, cluster_of(node)}
    }
    offers = (
        _offer(product, within, query.gpus)
        for product in products_of(within.values(), {})
        if query.name.lower() in product.id.lower()
        and any(node.total >= query.gpus for node in product.nodes)
    )
    return NovitaProducts(
        data=tuple(
            offer
            for offer in offers
            if offer.cpu_per_gpu >= query.min_cpus and offer.memory_per_gpu >= query.min_memory_gb
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


def _offer(
    product: ProductDocument, nodes: Mapping[str, NodeDocument], wanted: int
) -> NovitaProductOffer:
    rootfs, volume = _range("storage.container_disk_gb"), _range("storage.volumes[].size_gb")
    return NovitaProductOffer(
        id=product.id,
        name=product.id,
        cpu_per_gpu=product.cpus_per_gpu,
        memory_per_gpu=product.memory_bytes_per_gpu // _GB,
        disk_per_gpu=product.disk_bytes_per_gpu // _GB,
        available_deploy=product.most_free_on_a_node >= max(wanted, 1),
        min_root_fs=rootfs[0],
        max_root_fs=rootfs[1],
        min_local_storage=volume[0],
        max_local_storage=volume[1],
        regions=tuple(sorted({cluster_of(nodes[node.node_id]) for node in product.nodes})),
        inventory_state=_inventory(product.gpus_free, product.gpus_total),
    )


def _inventory(free: int, total: int) -> str:
    if free == 0:
        return "none"
    if free * 4 <= total:
        return "low"
    return "normal" if free * 4 <= total * 3 else "high"


def _range(field: str) -> tuple[int, int]:
    """The least and the most whole number that a field of our document takes."""
    limits = document_limits()[field]
    assert limits.maximum is not None
    if limits.minimum is not None:
        return math.ceil(limits.minimum), math.floor(limits.maximum)
    assert limits.exclusive_minimum is not None
    return math.floor(limits.exclusive_minimum) + 1, math.floor(limits.maximum)
