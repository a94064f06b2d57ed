"""Filter, score, pick: which node and GPUs a worker gets, or why none."""

from collections import Counter
from datetime import UTC, datetime
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.messages import EngineProblem, NodeOrder, NodeRecord, VolumeRecord
from penstock_common.specs import StorageSpec
from penstock_common.states import GpuReason, NodeWish
from penstock_common.volumes import (
    DriverOptionsSource,
    HostPathSource,
    NfsSource,
    VolumeSource,
)
from penstock_scheduler.fleet import Booking, Fleet
from penstock_scheduler.ledger import Holding, Ledger
from penstock_scheduler.node_orders import closed_nodes
from penstock_scheduler.placement import (
    Cluster,
    NoCapacity,
    Placement,
    Request,
    Search,
    Trial,
    pick_gpus,
)
from penstock_scheduler.quotas import Held
from tests.fakes.clock import EPOCH
from tests.fakes.placement_scan import scan
from tests.fakes.scheduler_world import make_node, make_record


def request(
    *,
    endpoint_id: str = "ep-1",
    avoid: tuple[str, ...] = (),
    image: dict[str, object] | None = None,
    **gpu: object,
) -> Request:
    record = make_record(endpoint_id, gpu=gpu, image=image)
    return Request(endpoint_id, record.spec, frozenset(avoid))


def place(
    nodes: list[NodeRecord], wanted: Request, booked: tuple[Booking, ...] = ()
) -> Placement | NoCapacity:
    placements, lack = Cluster(nodes, booked).place(wanted)
    if lack is not None:
        return lack
    return placements[0]


def message(nodes: list[NodeRecord], wanted: Request, booked: tuple[Booking, ...] = ()) -> str:
    found = place(nodes, wanted, booked)
    assert isinstance(found, NoCapacity)
    return found.message


def node_of(nodes: list[NodeRecord], wanted: Request, booked: tuple[Booking, ...] = ()) -> str:
    found = place(nodes, wanted, booked)
    assert isinstance(found, Placement)
    return found.node_id


def book(node: NodeRecord, *numbers: int, endpoint_id: str = "ep-9") -> Booking:
    return Booking(node.node_id, endpoint_id, tuple(node.gpus[n].uuid for n in numbers))


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


# ---- memory of the GPUs, disk


def test_a_gpu_with_too_little_memory_is_not_taken() -> None:
    mixed = make_node("node-a", n_gpus=1)
    mixed = mixed.model_copy(
        update={"gpus": (*mixed.gpus, *make_node("node-b", n_gpus=1, product="h100-80gb").gpus)}
    )
    found = place([mixed], request(min_vram_gb=40))
    assert isinstance(found, Placement)
    assert found.gpus == ("GPU-node-b-0",)
    assert message([make_node()], request(min_vram_gb=40)) == (
        "no capacity: 1 node has no GPU of 40 GB; lower gpu.min_vram_gb"
    )
    assert node_of([make_node()], request(min_vram_gb=24)) == "node-a"
    assert node_of([make_node(n_gpus=0)], request(count=0, min_vram_gb=40)) == "node-a"


def with_disk(node: NodeRecord, free_gb: int) -> NodeRecord:
    return node.model_copy(update={"disk_free_bytes": free_gb * 10**9})


def disk_request(endpoint_id: str = "ep-1", **storage: object) -> Request:
    return Request(endpoint_id, make_record(endpoint_id, storage=storage).spec)


def test_disk_is_kept_for_workers_that_have_not_used_it_yet() -> None:
    cluster = Cluster([with_disk(make_node(n_gpus=4), 250)], ())
    volume = {"type": "local", "size_gb": 20, "mount_path": "/data"}
    wanted = disk_request(container_disk_gb=100, volumes=[volume])
    placements, lack = cluster.place(wanted, 3)
    assert len(placements) == 2  # of 250 GB, 240 are kept now
    assert lack == NoCapacity(
        "no capacity: 1 node has less than 120 GB of disk left; free disk on a node, or lower "
        "storage.container_disk_gb"
    )
    assert cluster.find(disk_request("ep-2", container_disk_gb=10)) is not None
    assert cluster.find(disk_request("ep-2", container_disk_gb=11)) is None
    assert cluster.find(disk_request("ep-2")) is not None  # nothing is kept for it
    cluster.release(
        Booking(placements[0].node_id, "ep-1", placements[0].gpus, wanted.spec.storage.kept_bytes)
    )
    assert cluster.find(wanted) is not None


def test_a_heartbeat_that_says_more_disk_is_free_counts_at_once() -> None:
    node = with_disk(make_node(), 50)
    cluster = Cluster([node], ())
    wanted = disk_request(container_disk_gb=60)
    assert cluster.find(wanted) is None
    assert cluster.find(wanted) is None  # what was learnt by looking at all of them holds
    cluster.put_node(with_disk(node, 70))
    assert cluster.find(wanted) is not None
    cluster.put_node(with_disk(node, 30))
    assert cluster.find(wanted) is None


def test_each_node_counts_with_its_own_lack() -> None:
    nodes = [
        with_disk(make_node("node-a"), 10),
        with_disk(make_node("node-b"), 20),
        with_disk(make_node("node-c", n_gpus=1), 30),
        make_node("node-d", product="h100-80gb"),
    ]
    wanted = Request(
        "ep-1",
        make_record(gpu={"products": ["rtx-4090-24gb"]}, storage={"container_disk_gb": 50}).spec,
    )
    assert message(nodes, wanted, (book(nodes[2], 0),)) == (
        "no capacity: 2 nodes have less than 50 GB of disk left, "
        "1 has no rtx-4090-24gb, 1 lacks free GPUs"
    )


def test_a_plain_process_has_no_disk_of_its_own() -> None:
    node = with_disk(make_node(runtime="process"), 1)
    assert node_of([node], disk_request(container_disk_gb=100)) == "node-a"


def test_a_mig_instance_is_a_gpu_of_its_own() -> None:
    node = make_node(n_gpus=2, product="h100-80gb-mig-1g-10gb")
    placements, lack = Cluster([node], ()).place(request(products=["H100-80GB-MIG-1g-10gb"]), 3)
    assert len({placement.gpus for placement in placements}) == 2
    assert lack is not None


def test_several_gpus_come_of_no_mig_instances_though_they_are_cheaper() -> None:
    mig = make_node("node-a", n_gpus=7, product="h100-80gb-mig-1g-10gb")
    whole = make_node("node-b", n_gpus=8)
    both = mig.model_copy(update={"gpus": mig.gpus + whole.gpus})
    found = place([both], request(count=2))
    assert isinstance(found, Placement)
    assert set(found.gpus) <= {gpu.uuid for gpu in whole.gpus}


def test_groups_of_one_numa_node_go_together() -> None:
    node = make_node(n_gpus=8, groups=(0, 0, 2, 2, 4, 4, 6, 6))
    near = {0: 0, 2: 1, 4: 0, 6: 1}
    free = {
        gpu.uuid: gpu.model_copy(update={"numa_node": near[gpu.link_group]}) for gpu in node.gpus
    }
    picked = pick_gpus(free, 4)
    assert len({free[uuid].link_group for uuid in picked}) == 2
    assert len({free[uuid].numa_node for uuid in picked}) == 1


# ---- what always holds

clusters = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.sampled_from(["rtx-4090-24gb", "h100-80gb"]),
        st.dictionaries(st.integers(0, 7), st.sampled_from(GpuReason), max_size=4),
    ),
    max_size=6,
).map(
    lambda nodes: [
        make_node(f"node-{i}", n_gpus=n, product=product, faults=faults)
        for i, (n, product, faults) in enumerate(nodes)
    ]
)


@given(
    clusters,
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=8),
    st.sets(st.integers(0, 5)),
)
def test_no_gpu_twice_and_none_left_unused(
    nodes: list[NodeRecord], wishes: list[tuple[int, int]], in_use: set[int]
) -> None:
    healthy = {g.uuid for node in nodes for g in node.gpus if g.healthy}
    free = set(healthy)
    booked: list[Booking] = []
    for number, node in enumerate(nodes):
        if node.gpus and number in in_use:
            booked.append(book(node, 0))
            free.discard(node.gpus[0].uuid)
    cluster = Cluster(nodes, booked)
    for number, (count, n) in enumerate(wishes):
        wanted = request(endpoint_id=f"ep-{number}", count=count)
        placements, lack = cluster.place(wanted, n)
        assert (lack is None) == (len(placements) == n)
        for placement in placements:
            assert len(placement.gpus) == count
            assert set(placement.gpus) <= free
            free -= set(placement.gpus)
        if lack is not None and count == 1:
            assert not free


# ---- the index chooses as a scan of all nodes would

PRODUCTS = ["rtx-4090-24gb", "h100-80gb"]
varied = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(PRODUCTS),
        st.sampled_from([(), ("echo:1",), ("other:1",)]),
        st.sampled_from(["12.2", "12.8"]),
        st.sampled_from([{}, {"zone": "a"}]),
        st.sampled_from([(0, 0, 0, 0), (0, 0, 1, 1), (0, 1, 2, 3)]),
        st.sampled_from([35, 80, 1000]),
        st.sampled_from(
            [
                {},
                {},
                {"restarting": True},
                {"engine_problem": EngineProblem(message="gone", since=EPOCH)},
                {"engine_problem": EngineProblem(message="full", since=EPOCH, full=True)},
            ]
        ),
        st.sampled_from([{}, {}, {0: GpuReason.XID}]),
    ),
    max_size=8,
).map(
    lambda nodes: [
        make_node(
            f"node-{i}",
            n_gpus=n,
            product=p,
            images=images,
            cuda=cuda,
            groups=groups,
            faults=faults,
        ).model_copy(update={"labels": labels, "disk_free_bytes": disk_gb * 10**9, **state})
        for i, (n, p, images, cuda, labels, groups, disk_gb, state, faults) in enumerate(nodes)
    ]
)
wanted_workers = st.lists(
    st.tuples(
        st.sampled_from(["ep-1", "ep-2"]),
        st.integers(0, 3),
        st.sampled_from([[], PRODUCTS, PRODUCTS[1:]]),
        st.sampled_from([None, "12.4"]),
        st.sampled_from([{}, {"zone": "a"}]),
        st.sets(st.sampled_from(["node-0", "node-1"])),
        st.booleans(),
        st.sampled_from([(None, 0), (40, 0), (30, 16), (90, 24)]),
    ),
    max_size=14,
)


@given(varied, wanted_workers)
def test_the_index_finds_what_a_scan_finds(
    nodes: list[NodeRecord],
    wishes: list[
        tuple[
            str, int, list[str], str | None, dict[str, str], set[str], bool, tuple[int | None, int]
        ]
    ],
) -> None:
    fleet = Fleet(nodes, ())
    held: list[Booking] = []
    for endpoint_id, count, products, cuda, selector, avoid, release, (disk, vram) in wishes:
        disk_gb = disk or 0
        if release and held:
            fleet.release(held.pop(0))
        record = make_record(
            endpoint_id,
            gpu={
                "count": count,
                "products": products,
                "min_cuda_version": cuda,
                "min_vram_gb": vram or None,
            },
            placement={"node_selector": selector},
            storage={"container_disk_gb": disk},
        )
        wish = Request(endpoint_id, record.spec, frozenset(avoid))
        search = Search(fleet, wish)
        expected = scan(search, list(fleet.nodes.values()), wish)
        found = search.best()
        assert (found[2] if found else None) == expected
        if found:
            node, product, _ = found
            gpus = pick_gpus(node.free[product], count) if product else ()
            held.append(Booking(node.record.node_id, endpoint_id, gpus, disk_gb * 10**9))
            fleet.take(held[-1])


def test_what_finding_a_place_costs_does_not_grow_with_the_fleet() -> None:
    scored = []
    for n_nodes in (50, 1000):
        nodes = [make_node(f"node-{i:04}", n_gpus=8) for i in range(n_nodes)]
        cluster = Cluster(nodes, ())
        cluster.place(request(count=1), 20)
        before = cluster.scored
        cluster.place(request(endpoint_id="ep-2", count=2))
        scored.append(cluster.scored - before)
    assert scored[0] == scored[1] < 20


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


SHARED = HostPathSource(type="host_path", path="/mnt/shared/x")
NFS = NfsSource(type="nfs", server="nas", path="/export")
RAW = DriverOptionsSource(type="driver_options", options={"type": "tmpfs"})


@pytest.mark.parametrize(
    ("source", "able", "lack"),
    [
        (SHARED, {"volume_paths": ("/mnt/shared",)}, "no /mnt/shared/x among its volume_paths"),
        (NFS, {"volume_kinds": ("nfs",)}, "no NFS"),
        (RAW, {"volume_kinds": ("driver_options",)}, "no volume_driver_options"),
    ],
)
def test_only_a_node_that_can_mount_the_volume_takes_the_worker(
    source: VolumeSource, able: dict[str, object], lack: str
) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    volume = VolumeRecord(volume_id="vol-1", name="v", source=source, created_at=at, updated_at=at)
    mounted = {"type": "network", "id": "vol-1", "mount_path": "/data"}
    storage = StorageSpec.model_validate({"volumes": [mounted]})
    spec = make_record().spec.model_copy(update={"storage": storage})
    wanted = Request("ep-1", spec, volumes={"vol-1": volume})
    unable, other = make_node("node-a"), make_node("node-b")
    told = f"{lack}, which volume vol-1 needs"
    assert message([unable], wanted) == f"no capacity: 1 node has {told}"
    plural = told.replace("its", "their")
    assert message([unable, other], wanted) == f"no capacity: 2 nodes have {plural}"
    assert node_of([unable, other.model_copy(update=able)], wanted) == "node-b"

    kept = Cluster([unable], ())
    assert kept.put_node(unable.model_copy(update=able))
    assert kept.place(wanted)[1] is None

    there = volume.model_copy(update={"node_selector": {"zone": "a"}})
    zoned = Request("ep-1", spec, volumes={"vol-1": there})
    able_node = unable.model_copy(update=able)
    told = "not the label zone=a, which volume vol-1 needs"
    assert message([able_node], zoned) == f"no capacity: 1 node has {told}"
    labelled = other.model_copy(update={**able, "labels": {"zone": "a"}})
    assert node_of([able_node, labelled], zoned) == "node-b"

    gone = Request("ep-1", spec)
    assert message([unable], gone) == "no capacity: 1 node finds the network volume vol-1 gone"


# ---- a ledger that is kept

holdings = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from(["ep-1", "ep-2"]),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from([None, "key-1", "key-2"]),
    ),
    max_size=8,
)
orders = st.dictionaries(
    st.integers(0, 7).map(lambda n: f"node-{n}"), st.sampled_from(NodeWish), max_size=3
)


@given(
    st.lists(st.tuples(varied, holdings, orders), min_size=2, max_size=5),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_a_ledger_told_of_each_change_is_like_a_new_one(
    steps: list[
        tuple[list[NodeRecord], list[tuple[int, str, int, bool, str | None]], dict[str, NodeWish]]
    ],
    count: int,
    chance: Random,
) -> None:
    known: dict[str, NodeRecord] = {}
    held: dict[str, Holding] = {}
    ordered: dict[str, NodeOrder] = {}
    ledger = Ledger(known, ordered, ())
    for nodes, holds, wishes in steps:
        wanted: dict[str, Holding | None] = dict.fromkeys(held)
        free = {n.node_id: [g.uuid for g in n.gpus] for n in nodes}
        for n, (number, endpoint_id, n_gpus, leaving, owner) in enumerate(holds):
            left = free.get(f"node-{number}", [])
            taken = tuple(left.pop() for _ in range(min(n_gpus, len(left))))
            booking = Booking(f"node-{number}", endpoint_id, taken)
            wanted[f"wk-{n}"] = Holding(booking, leaving=leaving, owner=owner)
        changes: list[tuple[str, NodeRecord | NodeWish | Holding | None]] = [
            *((f"order.{node_id}", wishes.get(node_id)) for node_id in {*ordered, *wishes}),
            *((node_id, None) for node_id in known if node_id not in {n.node_id for n in nodes}),
            *((node.node_id, node) for node in nodes),
            *wanted.items(),
        ]
        chance.shuffle(changes)
        for name, change in changes:
            if name.startswith("order"):
                assert change is None or isinstance(change, NodeWish)
                _order(ordered, name.removeprefix("order."), change)
                ledger.see_node(name.removeprefix("order."))
            elif name.startswith("node"):
                if isinstance(change, NodeRecord):
                    known[name] = change
                else:
                    del known[name]
                ledger.see_node(name)
            else:
                assert change is None or isinstance(change, Holding)
                ledger.put(name, change)
        held = {key: holding for key, holding in wanted.items() if holding is not None}
        closed = closed_nodes(known, ordered)
        new = Fleet(nodes, [holding.booking for holding in held.values()], closed)
        assert_same_holders(ledger, held, known)
        kept = ledger.cluster
        assert sorted(ledger.leaving) == sorted(h.booking for h in held.values() if h.leaving)
        wish = request(count=count)
        found = Search(new, wish).best()
        assert kept.find(wish) == kept.find(wish)
        with Trial(kept) as trial:
            for holding in held.values():
                trial.release(holding.booking)
            emptied = Search(Fleet(nodes, (), closed), wish).best()
            placement = trial.find(wish)
            assert (placement and placement.node_id) == (emptied and emptied[0].record.node_id)
        placement = kept.find(wish)
        assert (placement and placement.node_id) == (found and found[0].record.node_id)
        if placement and found:
            assert set(placement.gpus) <= set(found[0].free.get(found[1], ()))


def _order(orders: dict[str, NodeOrder], node_id: str, wish: NodeWish | None) -> None:
    orders.pop(node_id, None)
    if wish is not None:
        orders[node_id] = NodeOrder(node_id=node_id, wish=wish, at=EPOCH)


def assert_same_holders(
    ledger: Ledger, held: dict[str, Holding], known: dict[str, NodeRecord]
) -> None:
    """The ledger counts for every owner what these hold, and knows who is where."""
    used = {holding.booking.node_id for holding in held.values()}
    assert set(ledger.away) == used - known.keys()
    for node_id in (f"node-{n}" for n in range(8)):
        there = [h for h in held.values() if h.booking.node_id == node_id]
        assert ledger.is_occupied(node_id) == bool(there)
        assert ledger.endpoints_on(node_id) == {h.booking.endpoint_id for h in there}
    for owner in ("key-1", "key-2"):
        for lost in ((), ("node-0", "node-1")):
            of_owner = [
                h for h in held.values() if h.owner == owner and h.booking.node_id not in lost
            ]
            staying = [h for h in of_owner if not h.leaving]
            assert ledger.holders.held_by(owner, without=lost) == total(of_owner)
            assert ledger.staying.held_by(owner, without=lost) == total(staying)


def total(holdings: list[Holding]) -> Held:
    return Held(len(holdings), sum(len(holding.booking.gpus) for holding in holdings))


def test_gpus_that_two_hold_are_free_when_both_are_gone() -> None:
    """A lost node came back: what runs there may hold what was given to another meanwhile."""
    node = make_node("node-a", n_gpus=1)
    gpus = (node.gpus[0].uuid,)
    one, other = (Booking("node-a", endpoint_id, gpus) for endpoint_id in ("ep-1", "ep-2"))
    cluster = Cluster([node], [one, other])
    cluster.release(one)
    assert cluster.find(request()) is None
    cluster.release(other)
    assert cluster.find(request()) is not None


def test_a_kept_cluster_is_made_anew_before_it_grows_without_end() -> None:
    node = make_node("node-a", n_gpus=1)
    ledger = Ledger({"node-a": node}, {}, ())
    first = ledger.cluster
    holding = Holding(Booking("node-a", "ep-1", (node.gpus[0].uuid,)))
    for _ in range(5_000):
        ledger.put("wk-1", holding)
        ledger.put("wk-1", None)
        ledger.renew()
        if ledger.cluster is not first:
            break
    ledger.put("wk-1", holding)
    assert ledger.cluster is not first
    assert ledger.cluster.place(request())[1] is not None
