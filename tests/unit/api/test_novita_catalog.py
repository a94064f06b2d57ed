"""What Novita's clients ask before they make an endpoint."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from penstock_api.node_views import node_document
from penstock_api.novita.catalog import ProductQuery, clusters, limits, products
from penstock_client.documents import NodeDocument
from penstock_common.messages import Gpu, NodeRecord
from penstock_common.specs import GpuSpec, LocalVolume, ScalingSpec, StorageSpec, WorkersSpec
from penstock_common.states import GpuReason
from tests.support.dialect_rig import NOW

GIB = 2**30
XID = GpuReason.XID


def node(name: str, product: str, n_gpus: int, *, region: str = "", bad: int = 0) -> NodeDocument:
    gpus = tuple(
        Gpu(
            uuid=f"{name}-{n}",
            product=product,
            vram_bytes=24 * GIB,
            reason=XID if n < bad else None,
        )
        for n in range(n_gpus)
    )
    record = NodeRecord(
        node_id=name,
        hostname=name,
        address="10.0.0.1",
        runtime="docker",
        gpus=gpus,
        cuda_version="12.8" if n_gpus > 1 else "12.10",
        cpu_count=32,
        memory_bytes=256 * 10**9,
        disk_bytes=4_000 * 10**9,
        disk_free_bytes=1,
        labels={"region": region} if region else {},
        version="1",
        started_at=NOW,
        beat=1,
    )
    return node_document(name, record, None, ())


NODES = [
    node("node-a", "rtx-4090-24gb", 8, region="eu-1", bad=7),
    node("node-b", "rtx-4090-24gb", 1),
    node("node-c", "h100-80gb", 2, region="eu-1", bad=2),
    node_document("node-d", None, None, ()),
]

#: Limit → the model and the field of ours that it bounds.
BOUNDS: dict[str, tuple[type[BaseModel], str, dict[str, Any]]] = {
    "rootfs_size": (StorageSpec, "container_disk_gb", {}),
    "local_volume_size": (LocalVolume, "size_gb", {"type": "local", "mount_path": "/m"}),
    "free_timeout": (WorkersSpec, "idle_timeout_s", {}),
    "concurrency_num": (WorkersSpec, "max_concurrency", {}),
    "queue_wait_time": (ScalingSpec, "value", {}),
    "request_num": (ScalingSpec, "value", {"type": "request_count"}),
    "gpu_num": (GpuSpec, "count", {}),
    "request_timeout": (WorkersSpec, "request_timeout_s", {}),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_limit_is_taken_and_what_lies_beyond_is_refused(name: str) -> None:
    model, field, others = BOUNDS[name]
    told = limits(NODES).model_dump(by_alias=False)
    least, most = told[f"min_{name}"], told[f"max_{name}"]
    for value in (least, most):
        model.model_validate({field: value, **others})
    for value in (least - 1, most + 1):
        with pytest.raises(ValidationError):
            model.model_validate({field: value, **others})


def test_the_names_and_the_defaults_are_theirs() -> None:
    told = limits(NODES).model_dump(mode="json")
    assert {"minGPUNum", "maxRootfsSize", "minWorkerNum", "maxRequestTimeout"} <= told.keys()
    assert (told["minWorkerNum"], told["maxWorkerNum"]) == (0, 10_000)
    assert (told["freeRootfsSize"], told["freeLocalVolumeSize"]) == (100, 30)
    assert told["cudaVersionList"] == ["12.8", "12.10"]
    assert limits([]).cuda_version_list == ()


def test_products_are_what_the_nodes_have() -> None:
    h100, rtx = products(NODES, ProductQuery()).data
    assert (h100.id, h100.available_deploy, h100.inventory_state) == ("h100-80gb", False, "none")
    assert (rtx.id, rtx.available_deploy, rtx.inventory_state) == ("rtx-4090-24gb", True, "low")
    assert (rtx.cpu_per_gpu, rtx.memory_per_gpu, rtx.disk_per_gpu) == (4, 32, 500)
    assert rtx.regions == ("default", "eu-1")
    assert rtx.model_dump(mode="json")["minRootFS"] == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ProductQuery(name="4090"), ["rtx-4090-24gb"]),
        (ProductQuery(name="H100"), ["h100-80gb"]),
        (ProductQuery(cluster="eu-1"), ["h100-80gb", "rtx-4090-24gb"]),
        (ProductQuery(cluster="mars"), []),
        (ProductQuery(gpus=2), ["h100-80gb", "rtx-4090-24gb"]),
        (ProductQuery(gpus=3), ["rtx-4090-24gb"]),
        (ProductQuery(gpus=9), []),
        (ProductQuery(min_cpus=16), ["h100-80gb"]),
        (ProductQuery(min_memory_gb=129), []),
    ],
)
def test_a_query_leaves_out_what_does_not_fit(query: ProductQuery, found: list[str]) -> None:
    assert [product.id for product in products(NODES, query).data] == found


def test_a_product_is_available_where_as_many_are_free_on_one_node() -> None:
    (rtx,) = products(NODES, ProductQuery(name="rtx", gpus=2)).data
    assert not rtx.available_deploy  # one is free on each of two nodes


def test_clusters_are_nodes_with_the_same_label() -> None:
    told = clusters(NODES, network_storage=False).model_dump(mode="json")["data"]
    assert [(c["id"], c["availableGpuType"]) for c in told] == [
        ("default", ["rtx-4090-24gb"]),
        ("eu-1", ["h100-80gb", "rtx-4090-24gb"]),
    ]
    assert {c["supportInstanceNetwork"] for c in told} == {False}
