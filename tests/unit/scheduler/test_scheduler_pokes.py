"""Which endpoints are decided on when, and that the order of pokes makes no difference."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_common.messages import EngineProblem, VolumeRecord
from penstock_common.states import GpuReason, NodeWish, WorkerReason
from penstock_common.volumes import NfsSource
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World
from tests.unit.scheduler.test_scheduler_quotas import OWNER, QuotaStory, make_key

# ---- the same outcome in any order

ENDPOINTS = ("ep-1", "ep-2", "ep-3")
endpoint_ids = st.sampled_from(ENDPOINTS)


class TwoWorlds(RuleBasedStateMachine):
    """The same happens in both: one decides on everything at once, one by pokes and in parts.

    There are GPUs for all, so no endpoint's turn depends on another's.
    """

    @initialize(start_s=st.sampled_from([0.0, 3.0]), service_s=st.sampled_from([0.2, 3.0, 50.0]))
    def begin(self, start_s: float, service_s: float) -> None:
        self.whole, self.parts = (World(start_s=start_s, service_s=service_s) for _ in range(2))
        self.parts.by_parts = True
        for world in self.both:
            world.join(make_node("node-a", n_gpus=40), make_node("node-b", n_gpus=40))

    @property
    def both(self) -> tuple[World, World]:
        return self.whole, self.parts

    @rule(
        endpoint_id=endpoint_ids,
        limits=st.tuples(st.integers(0, 2), st.integers(1, 4)).map(sorted),
        value=st.sampled_from([0.5, 4]),
    )
    def put(self, endpoint_id: str, limits: list[int], value: float) -> None:
        low, high = limits
        for world in self.both:
            before = world.endpoints.get(endpoint_id)
            workers: dict[str, object] = {
                "min": low,
                "max": high,
                "idle_timeout_s": 5,
                "request_timeout_s": 100,
            }
            world.put(
                make_record(
                    endpoint_id,
                    revision=before.revision if before else 1,
                    gpu={"count": 1},
                    workers=workers,
                    scaling={"type": "queue_delay", "value": value},
                )
            )

    @rule(endpoint_id=endpoint_ids)
    def update(self, endpoint_id: str) -> None:
        for world in self.both:
            if record := world.endpoints.get(endpoint_id):
                world.change(endpoint_id, revision=record.revision + 1)

    @rule(endpoint_id=endpoint_ids, paused=st.booleans())
    def pause(self, endpoint_id: str, paused: bool) -> None:
        for world in self.both:
            if endpoint_id in world.endpoints:
                world.change(endpoint_id, paused=paused)

    @rule(endpoint_id=endpoint_ids, n=st.integers(1, 8))
    def arrive(self, endpoint_id: str, n: int) -> None:
        for world in self.both:
            if endpoint_id in world.endpoints:
                world.arrive(n, endpoint_id)

    @rule(endpoint_id=endpoint_ids)
    def die(self, endpoint_id: str) -> None:
        for world in self.both:
            if workers := sorted(a.worker_id for a in world.of(endpoint_id)):
                world.kill(workers[0])

    @rule(seconds=st.sampled_from([0.3, 1.0, 6.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        for world in self.both:
            world.step(seconds)

    @rule(pokes=st.lists(st.sets(endpoint_ids), max_size=4))
    def decide(self, pokes: list[set[str]]) -> None:
        self.whole.settle()
        for some in pokes:
            self.parts.poke(*some)
        self.parts.settle()
        assert self.outcome(self.parts) == self.outcome(self.whole)

    def outcome(self, world: World) -> dict[str, object]:
        return {
            endpoint_id: (
                Counter((a.desired, a.reason, a.revision) for a in world.of(endpoint_id)),
                world.statuses[endpoint_id].model_copy(update={"updated_at": EPOCH}),
                [d.after for d in world.histories[endpoint_id].decisions][:1]
                if endpoint_id in world.histories
                else None,
            )
            for endpoint_id in world.endpoints
        }

    @invariant()
    def settled_parts_agree(self) -> None:
        if hasattr(self, "whole"):
            self.decide_quietly()

    def decide_quietly(self) -> None:
        """Both always decide before the next thing happens: the clock of neither runs ahead."""
        self.whole.settle()
        self.parts.settle()
        assert self.outcome(self.parts) == self.outcome(self.whole)


TwoWorlds.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestTwoWorlds = TwoWorlds.TestCase


class PokedStory(QuotaStory):
    """What changes while no time passes names all whom it concerns: a pass finds no more to do."""

    by_parts = True

    def _for_a_pass(self) -> tuple[object, ...]:
        """What a pass is for: time, who is lost, an end of waiting, and a new leader."""
        world = self.world
        lost = (world.routers, world.lost_routers, world.lost_nodes)
        n_waiting = {n: len(r.waiting) for n, r in world.requests.items()}
        return world.now, lost, world.settled, world.reporting, world.token, n_waiting

    @invariant()
    def plans_end(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        before = getattr(self, "before", None)
        if self._for_a_pass() == before and world.settled and world.reporting:
            world.follow_pokes()
            n_before = len(world.plans)
            for endpoint_id in sorted({*world.view.known(), *world.endpoints}):
                world.poke(endpoint_id)
            steps = [(p.creates, p.changes, p.deletes) for p in world.plans[n_before:]]
            assert not any(map(any, steps)), "somebody forgot a poke"
        super().plans_end()
        world.follow_pokes()
        self.before = self._for_a_pass()


PokedStory.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestPokedStory = PokedStory.TestCase


def a_poked_world() -> World:
    """One worker of `ep-1` runs on node-a; there is another node. Nobody makes a pass any more."""
    world = World(start_s=0)
    world.by_parts = True
    world.join(make_node("node-a", n_gpus=1))
    workers: dict[str, object] = {"min": 1, "max": 2}
    world.put(make_record("ep-1", gpu={"count": 1}, workers=workers, owner=OWNER))
    world.run(5)
    world.join(make_node("node-b", n_gpus=4))
    world.follow_pokes()
    assert len(world.on("node-a")) == 1
    return world


def test_an_order_about_a_node_pokes_who_has_workers_there() -> None:
    world = a_poked_world()
    world.order("node-a", NodeWish.DRAINING)
    world.follow_pokes()
    assert [a.endpoint_id for a in world.on("node-b")] == ["ep-1"]


def test_an_order_about_a_worker_pokes_its_endpoint() -> None:
    world = a_poked_world()
    (worker,) = world.on("node-a")
    world.stop(worker.worker_id)
    world.follow_pokes()
    assert [a.worker_id for a in world.of()] != [worker.worker_id]
    assert world.running() == 1


def test_gpus_that_go_bad_poke_who_has_workers_there() -> None:
    world = a_poked_world()
    world.join(make_node("node-a", n_gpus=1, faults={0: GpuReason.XID}))
    world.follow_pokes()
    assert [a.endpoint_id for a in world.on("node-b")] == ["ep-1"]


@pytest.mark.parametrize("closed", ["order", "restarting", "engine"])
def test_a_node_that_opens_pokes_who_lacks_a_place(closed: str) -> None:
    world = a_poked_world()
    node = world.nodes["node-b"]
    problem = EngineProblem(message="away", since=EPOCH)
    states: dict[str, dict[str, object]] = {
        "restarting": {"restarting": True},
        "engine": {"engine_problem": problem},
    }
    if closed == "order":
        world.order("node-b", NodeWish.CORDONED)
    world.join(node.model_copy(update=states.get(closed, {})))
    world.put(make_record("ep-2", gpu={"count": 1}, workers={"min": 1}))
    world.follow_pokes()
    assert world.memory.lacking == {"ep-2"}
    world.order("node-b", None)
    world.join(node)
    world.follow_pokes()
    assert [a.endpoint_id for a in world.on("node-b")] == ["ep-2"]


def test_a_quota_that_is_raised_pokes_its_owners_endpoints() -> None:
    world = a_poked_world()
    world.keys[OWNER] = make_key(max_workers=1)
    world.put(make_record("ep-2", gpu={"count": 1}, workers={"min": 1}, owner=OWNER))
    world.follow_pokes()
    assert world.memory.over_quota == {"ep-2"}
    world.keys[OWNER] = make_key(max_workers=2)
    world.follow_pokes()
    assert len(world.of("ep-2")) == 1


def test_the_end_of_a_worker_pokes_whom_its_owners_quota_held_back() -> None:
    world = a_poked_world()
    world.keys[OWNER] = make_key(max_workers=1)
    world.put(make_record("ep-2", gpu={"count": 1}, workers={"min": 1}, owner=OWNER))
    world.follow_pokes()
    world.change("ep-1", paused=True)
    world.follow_pokes()  # it drains
    world.step(1)
    world.follow_pokes()
    assert (len(world.of("ep-1")), len(world.of("ep-2"))) == (0, 1)


def test_a_volume_that_is_made_known_pokes_who_mounts_it() -> None:
    world = a_poked_world()
    world.join(world.nodes["node-b"].model_copy(update={"volume_kinds": ("nfs",)}))
    mounted = {"type": "network", "id": "vol-1", "mount_path": "/data"}
    world.put(make_record("ep-2", workers={"min": 1}, storage={"volumes": [mounted]}))
    world.follow_pokes()
    assert world.memory.lacking == {"ep-2"}
    source = NfsSource(type="nfs", server="nas", path="/export")
    world.volumes["vol-1"] = VolumeRecord(
        volume_id="vol-1", name="v", source=source, created_at=EPOCH, updated_at=EPOCH
    )
    world.follow_pokes()
    assert len(world.of("ep-2")) == 1


def test_a_lost_node_that_comes_back_pokes_whom_it_has_workers_of() -> None:
    world = a_poked_world()
    world.order("node-b", NodeWish.CORDONED)
    world.lost_nodes = frozenset({"node-a"})
    world.settle()
    (awaited,) = world.of("ep-1")
    assert awaited.reason is WorkerReason.NODE_LOST
    world.follow_pokes()
    world.lost_nodes = frozenset()
    world.follow_pokes()
    (back,) = world.of("ep-1")
    assert (back.worker_id, back.reason, back.driver) == (awaited.worker_id, None, "rt-1")


def test_a_freed_gpu_goes_to_whom_it_is_due_though_another_is_poked() -> None:
    world = World(start_s=0)
    world.by_parts = True
    world.join(make_node("node-a", n_gpus=1))
    for endpoint_id, priority in (("ep-0", 50), ("ep-1", 90), ("ep-2", 10)):
        world.put(make_record(endpoint_id, gpu={"count": 1}, placement={"priority": priority}))
    world.arrive(1, "ep-0")
    world.settle()
    world.arrive(1, "ep-1")
    world.settle()
    (held,) = world.of("ep-0")
    assert world.memory.lacking == {"ep-1"}
    world.kill(held.worker_id)
    world.requests["ep-0"].waiting.clear()
    world.arrive(1, "ep-2")
    world.poke("ep-0")  # it is gone
    world.poke("ep-2")
    assert [a.endpoint_id for a, _ in world.assignments.values()] == ["ep-1"]
