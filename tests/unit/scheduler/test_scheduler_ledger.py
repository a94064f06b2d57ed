"""Who holds what: a ledger that is told of each change is like one made anew."""

from random import Random

import hypothesis.strategies as st
from hypothesis import given

from penstock_common.messages import NodeOrder, NodeRecord
from penstock_common.states import NodeWish
from penstock_scheduler.holdings.ledger import Holding, Ledger
from penstock_scheduler.holdings.quotas import Held
from penstock_scheduler.leaving.node_orders import closed_nodes
from penstock_scheduler.placement.cluster import Cluster, Search, Trial
from penstock_scheduler.placement.fleet import Fleet
from penstock_scheduler.placement.nodes import Booking
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node
from tests.support.placing import request, varied_fleets

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
    st.lists(st.tuples(varied_fleets, holdings, orders), min_size=2, max_size=5),
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
