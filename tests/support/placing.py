"""Asks for a place as the scheduler does, with little to write."""

import hypothesis.strategies as st

from penstock_common.messages import EngineProblem, NodeRecord
from penstock_common.states import GpuReason
from penstock_scheduler.placement.cluster import Cluster, NoCapacity, Placement, Request
from penstock_scheduler.placement.nodes import Booking
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record

PRODUCTS = ["rtx-4090-24gb", "h100-80gb"]

#: Nodes of various kinds, with what they lack.
varied_fleets = st.lists(
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
