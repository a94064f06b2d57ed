"""Places are found by an index of nodes: it chooses as a look at every node would, at a small cost."""

import hypothesis.strategies as st
from hypothesis import given

from penstock_common.messages import NodeRecord
from penstock_common.states import GpuReason
from penstock_scheduler.holdings.ledger import Holding, Ledger
from penstock_scheduler.placement.cluster import Cluster, Request, Search, pick_gpus
from penstock_scheduler.placement.fleet import Fleet
from penstock_scheduler.placement.nodes import Booking
from tests.fakes.placement_scan import scan
from tests.fakes.scheduler_records import make_node, make_record
from tests.support.placing import PRODUCTS, book, request, varied_fleets

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


@given(varied_fleets, wanted_workers)
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
