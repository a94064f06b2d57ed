"""Filter, score, pick: which node and GPUs a worker gets, or why none."""

from collections import Counter

import pytest

from penstock_common.messages import EngineProblem, NodeRecord
from penstock_common.states import GpuReason
from penstock_scheduler.placement.cluster import Cluster, Placement, Request
from penstock_scheduler.placement.nodes import Booking
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.support.placing import book, message, node_of, place, request

# ---- why nothing fits


@pytest.mark.parametrize(
    ("full", "text"), [(False, "an engine that does not answer"), (True, "a full disk")]
)
def test_a_node_whose_engine_is_in_trouble_takes_nothing_and_is_named(
    full: bool, text: str
) -> None:
    problem = EngineProblem(message="gone", since=EPOCH, full=full)
    sick = make_node("node-a", n_gpus=4).model_copy(update={"engine_problem": problem})
    well = make_node("node-b", n_gpus=1)
    assert message([sick], request()) == f"no capacity: 1 node has {text}"
    assert node_of([sick, well], request()) == "node-b"


def test_a_kept_cluster_hears_that_an_engine_went_and_came_back() -> None:
    well = make_node("node-a", n_gpus=1)
    problem = EngineProblem(message="gone", since=EPOCH)
    cluster = Cluster([well], ())
    assert cluster.put_node(well.model_copy(update={"engine_problem": problem}))
    assert cluster.place(request())[0] == []

    assert cluster.put_node(well.model_copy())

    assert [p.node_id for p in cluster.place(request())[0]] == ["node-a"]


OTHER_PRODUCT = "set gpu.products to what `penstock product list` shows, or leave it out for any"
OTHER_CUDA = "lower gpu.min_cuda_version, or update the NVIDIA driver of a node"


def test_no_nodes() -> None:
    assert message([], request()) == (
        "no capacity: no nodes joined; `penstock node join` says how one does"
    )


def test_reasons_are_counted_over_the_nodes() -> None:
    full = [make_node(f"node-{i}", n_gpus=1) for i in range(3)]
    old = make_node("node-old", n_gpus=1, cuda="12.2")
    booked = tuple(book(node, 0) for node in full)
    assert message([*full, old], request(min_cuda_version="12.4"), booked) == (
        "no capacity: 3 nodes lack free GPUs, 1 has CUDA 12.2 < 12.4"
    )


@pytest.mark.parametrize(
    ("node", "wanted", "text"),
    [
        (
            make_node(n_gpus=0),
            request(),
            "1 node has no GPUs; join a node with GPUs, or set gpu.count to 0",
        ),
        (
            make_node(),
            request(products=["h100-80gb", "a100"]),
            f"1 node has no h100-80gb or a100; {OTHER_PRODUCT}",
        ),
        (
            make_node(),
            request(count=3),
            "1 node has fewer than 3 GPUs of one product; lower gpu.count",
        ),
        (
            make_node(faults={0: GpuReason.XID, 1: GpuReason.LOST}),
            request(),
            "1 node has unhealthy GPUs",
        ),
        (
            make_node(n_gpus=3, product="h100-80gb-mig-1g-10gb"),
            request(count=2),
            (
                "1 node has only MIG instances, and a worker can use one of them, not 2; set "
                "gpu.count to 1"
            ),
        ),
        (
            make_node(cuda="12.10"),
            request(min_cuda_version="12.11"),
            f"1 node has CUDA 12.10 < 12.11; {OTHER_CUDA}",
        ),
        (
            make_node(cuda=None),
            request(min_cuda_version="12.4"),
            f"1 node has no known CUDA version and 12.4 is needed; {OTHER_CUDA}",
        ),
        (
            make_node(),
            request(image={"command": "serve"}),
            "1 node runs containers and image.image is not set",
        ),
        (
            make_node(runtime="process"),
            request(image={"image": "echo:1"}),
            "1 node runs plain processes and image.command is not set",
        ),
    ],
)
def test_why_a_node_cannot(node: NodeRecord, wanted: Request, text: str) -> None:
    assert message([node], wanted) == f"no capacity: {text}"


def test_cuda_versions_are_numbers_and_not_text() -> None:
    assert node_of([make_node(cuda="12.10")], request(min_cuda_version="12.9")) == "node-a"


# ---- which one


def test_products_in_order_of_preference() -> None:
    small = make_node("node-a", product="rtx-4090-24gb")
    large = make_node("node-b", product="H100-80GB")
    assert node_of([small, large], request(products=["h100-80gb", "rtx-4090-24gb"])) == "node-b"
    assert node_of([small, large], request(products=["rtx-4090-24gb", "h100-80gb"])) == "node-a"


def test_the_image_is_there() -> None:
    nodes = [make_node("node-a"), make_node("node-b", images=("echo:1",))]
    assert node_of(nodes, request()) == "node-b"


def test_best_fit_leaves_whole_nodes_free() -> None:
    nodes = [make_node("node-a", n_gpus=8), make_node("node-b", n_gpus=8)]
    assert node_of(nodes, request(), (book(nodes[1], 0, 1, 2),)) == "node-b"


def test_one_endpoint_is_spread_over_nodes() -> None:
    nodes = [make_node("node-a", n_gpus=4), make_node("node-b", n_gpus=4)]
    placements, lack = Cluster(nodes, ()).place(request(), 4)
    assert lack is None
    assert Counter(p.node_id for p in placements) == {"node-a": 2, "node-b": 2}


def test_gpus_of_one_worker_share_a_link() -> None:
    node = make_node(n_gpus=6, groups=(0, 0, 0, 1, 1, 1))
    found = place([node], request(count=2), (book(node, 0),))
    assert isinstance(found, Placement)
    assert set(found.gpus) == {node.gpus[1].uuid, node.gpus[2].uuid}  # the smallest that fits


def test_gpus_of_one_worker_are_of_one_product() -> None:
    node = make_node(n_gpus=3)
    mixed = node.model_copy(
        update={"gpus": (*node.gpus[:2], node.gpus[2].model_copy(update={"product": "l4-24gb"}))}
    )
    assert "fewer than 3 GPUs of one product" in message([mixed], request(count=3))


def test_a_node_where_the_start_just_failed_is_the_last_choice() -> None:
    nodes = [make_node("node-a", images=("echo:1",)), make_node("node-b")]
    assert node_of(nodes, request(avoid=("node-a",))) == "node-b"
    assert node_of(nodes[:1], request(avoid=("node-a",))) == "node-a"


def test_workers_without_gpus_go_where_the_fewest_are() -> None:
    nodes = [make_node("node-a", n_gpus=0), make_node("node-b", n_gpus=0)]
    booked = tuple(Booking(node_id, "ep-9", ()) for node_id in ("node-a", "node-a", "node-b"))
    assert node_of(nodes, request(count=0, min_cuda_version="12.4"), booked) == "node-b"


def test_what_is_released_is_free_again() -> None:
    node = make_node(n_gpus=1)
    cluster = Cluster([node], [book(node, 0)])
    assert cluster.place(request())[1] is not None
    cluster.release(book(node, 0))
    assert cluster.place(request())[1] is None


def test_a_node_without_the_label_says_so() -> None:
    node = make_node()
    record = make_record(placement={"node_selector": {"zone": "a"}})
    wanted = Request("ep-1", record.spec)
    assert message([node], wanted) == (
        "no capacity: 1 node has not the label zone=a; change placement.node_selector, or the "
        "labels of a node"
    )
    labelled = node.model_copy(update={"labels": {"zone": "a", "rack": "7"}})
    assert node_of([labelled], wanted) == "node-a"
