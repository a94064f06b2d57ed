"""The GPU products of the nodes."""

from decimal import Decimal

import pytest

from penstock_api.node_views import node_document
from penstock_api.products import by_version, name_of, products_of
from penstock_client.documents import NodeDocument
from penstock_common.messages import Gpu, NodeOrder, NodeRecord, WorkerAssignment
from penstock_common.specs import parse_endpoint
from penstock_common.states import GpuReason, NodeWish
from tests.support.dialect_rig import NOW

GB = 10**9


def node(
    name: str, *gpus: Gpu, cuda: str = "12.8", closed: bool = False, held: str = ""
) -> NodeDocument:
    record = NodeRecord(
        node_id=name,
        hostname=name,
        address="10.0.0.1",
        runtime="docker",
        gpus=gpus,
        cuda_version=cuda,
        cpu_count=32,
        memory_bytes=256 * GB,
        disk_bytes=4_000 * GB,
        disk_free_bytes=1,
        version="1",
        started_at=NOW,
        beat=1,
    )
    worker = WorkerAssignment(
        worker_id="wk-1",
        node_id=name,
        endpoint_id="ep-1",
        spec=parse_endpoint({"name": "e", "app_name": "e", "image": {"image": "a"}}),
        revision=1,
        gpus=(held,),
        fencing_token=1,
        decided_at=NOW,
        assigned_at=NOW,
    )
    order = NodeOrder(node_id=name, wish=NodeWish.CORDONED, at=NOW) if closed else None
    return node_document(name, record, order, (worker,) if held else ())


def gpu(uuid: str, product: str = "rtx-4090-24gb", vram_gb: int = 24, *, bad: bool = False) -> Gpu:
    reason = GpuReason.XID if bad else None
    return Gpu(uuid=uuid, product=product, vram_bytes=vram_gb * GB, reason=reason)


NODES = [
    node("node-b", gpu("1"), gpu("2"), gpu("3", bad=True), gpu("4"), held="4", cuda="12.10"),
    node("node-a", gpu("5", vram_gb=23), gpu("6", "h100-80gb", 80)),
    node("node-c", gpu("7"), gpu("8"), gpu("9"), closed=True),
    node_document("node-d", None, None, ()),
]


def test_a_product_counts_what_there_is_what_is_free_and_what_is_bad() -> None:
    h100, rtx = products_of(NODES, {"rtx-4090-24gb": Decimal("0.35")})
    assert (h100.id, h100.gpus_total, h100.price_per_hour) == ("h100-80gb", 1, None)
    assert (rtx.id, rtx.name, rtx.vram_bytes) == ("rtx-4090-24gb", "RTX 4090 24 GB", 23 * GB)
    # node-c takes no workers: none of its GPUs is free.
    assert (rtx.gpus_total, rtx.gpus_free, rtx.gpus_unhealthy) == (8, 3, 1)
    assert (rtx.most_free_on_a_node, rtx.price_per_hour) == (2, 0.35)
    assert rtx.cuda_versions == ("12.8", "12.10")
    assert (rtx.cpus_per_gpu, rtx.memory_bytes_per_gpu) == (8, 64 * GB)
    shown = [(n.node_id, n.state, n.total, n.free, n.unhealthy) for n in rtx.nodes]
    assert shown == [
        ("node-a", "ready", 1, 1, 0),
        ("node-b", "ready", 4, 2, 1),
        ("node-c", "cordoned", 3, 0, 0),
    ]


def test_without_nodes_there_are_no_products() -> None:
    assert products_of([], {}) == ()


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("h100-80gb-mig-1g-10gb", "H100 80 GB MIG 1G 10 GB"),
        (
            "rtx-pro-6000-blackwell-server-edition-96gb",
            "RTX PRO 6000 Blackwell Server Edition 96 GB",
        ),
        ("gb", "GB"),
    ],
)
def test_a_product_has_a_name_for_people(product: str, name: str) -> None:
    assert name_of(product) == name


def test_versions_are_ordered_by_their_numbers() -> None:
    assert by_version(["12.10", None, "12.8", "9.2", "12.8"]) == ("9.2", "12.8", "12.10")
