"""Which endpoints are decided on when, and that the order of pokes makes no difference."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_common.messages import EndpointRecord, EngineProblem, VolumeRecord
from penstock_common.states import GpuReason, NodeWish, WorkerReason
from penstock_common.volumes import NfsSource
from penstock_scheduler.agenda import SLICE, Agenda
from penstock_scheduler.store.expected import SHOWS_WITHIN_S, ExpectedWrites
from penstock_scheduler.store.view import LiveView
from tests.fakes.scheduler_world import EPOCH, World, make_node, make_record, show
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


def test_a_snapshot_shows_the_endpoint_asked_for_and_nobody_else() -> None:
    world = World(start_s=0)
    world.join(make_node("node-a", n_gpus=8))
    for n in range(3):
        world.put(make_record(f"ep-{n}", workers={"min": 2, "max": 2}))
    world.settle()
    view = LiveView()
    reports = show(view, world.tables(), world.reports())
    nobody = frozenset[str]()
    snapshot = view.snapshot(
        ["ep-1"],
        reports,
        now=0,
        utc=EPOCH,
        lost_nodes=lambda _: nobody,
        lost_routers=lambda _: nobody,
    )
    whole = world.snapshot()
    assert snapshot.workers == {
        k: w for k, w in whole.workers.items() if w.assignment.endpoint_id == "ep-1"
    }
    assert snapshot.loads == {"ep-1": whole.loads["ep-1"]}
    assert snapshot.only == frozenset({"ep-1"})


def test_a_worker_that_is_written_and_not_shown_yet_holds_its_gpus() -> None:
    world = World()
    world.join(make_node("node-a", n_gpus=1))
    world.put(make_record("ep-1", gpu={"count": 1}, workers={"min": 1}))
    world.settle()
    ((key, (assignment, revision)),) = world.assignments.items()
    view = LiveView()
    view.see_node("node-a", world.nodes["node-a"])
    view.expect(assignment)
    assert view.ledger.n_workers_on("node-a") == 1
    view.ledger.freed = False
    view.see_assignment(key, (assignment, revision))
    view.give_up(key)  # it is shown: nothing is given up
    assert view.ledger.n_workers_on("node-a") == 1
    assert not view.ledger.freed
    view.see_assignment(key, None)
    assert view.ledger.n_workers_on("node-a") == 0
    assert view.ledger.freed
    view.expect(assignment)
    view.give_up(key)
    assert view.ledger.n_workers_on("node-a") == 0


# ---- endpoints at rest


def world_of(record: EndpointRecord) -> World:
    world = World(start_s=1)
    world.by_parts = True
    world.join(make_node("node-a", n_gpus=2))
    world.put(record)
    world.settle()
    return world


def test_an_endpoint_at_zero_rests_until_somebody_asks() -> None:
    world = world_of(make_record(workers={"idle_timeout_s": 1}))
    assert world.resting() == {"ep-1"}
    world.arrive(1)
    assert world.resting() == set()
    world.run(3)
    assert world.running() == 1
    assert world.resting() == set()
    world.run(20)
    assert not world.of()
    assert world.resting() == {"ep-1"}
    world.put(make_record("ep-2"))
    assert world.resting() == {"ep-1"}  # nobody has decided on the other yet


def test_what_time_alone_changes_does_not_rest() -> None:
    window = {"start": "08:00", "end": "10:00", "min": 1}
    assert world_of(make_record(scaling={"schedule": [window]})).resting() == set()
    world = world_of(make_record(workers={"min": 1}))
    world.nodes.clear()
    world.kill(world.of()[0].worker_id)
    world.settle()
    assert not world.of()
    assert world.resting() == set()  # it is tried again


def test_an_endpoint_whose_start_failed_does_not_rest_until_its_status_is_over() -> None:
    world = world_of(make_record())
    world.fails = lambda _: "exited with exit code 1"
    world.arrive(1)
    while not world.memory.endpoints["ep-1"].backoff.failures:
        world.step(0.5)
        world.tick()
    world.leave(1)
    world.settle()
    assert not world.of()
    assert world.memory.endpoints["ep-1"].desired == 0
    assert world.resting() == set()
    world.now += 100
    assert world.poke("ep-1")  # its status is another now


# ---- the agenda


@given(st.integers(0, 150), st.sets(st.integers(0, 149)))
def test_a_pass_takes_each_once_and_every_poke_comes_first(n: int, poked: set[int]) -> None:
    order = [f"ep-{i}" for i in range(n)]
    agenda = Agenda(1.0)
    assert agenda.pass_due(0)
    agenda.begin_pass(order, 0)
    for i in poked:
        agenda.poke(f"ep-{i}")
    pokes = {f"ep-{i}" for i in poked}
    now, seen = 0.0, Counter[str]()
    n_takes = 0
    while not agenda.pass_due(now):
        taken = agenda.take(now)
        n_takes += 1
        assert len(taken) <= 50 + SLICE
        seen.update(taken)
        wait_s = agenda.wait_s(now)
        pokes -= taken
        assert (wait_s == 0) or not pokes
        if pokes:
            assert len(taken) >= 50
        now += wait_s
    assert set(seen) == {*order, *(f"ep-{i}" for i in poked)}
    assert seen.total() <= n + len(poked)
    assert 0.99 <= now <= 1.01 or n == 0
    assert n_takes <= n // SLICE + 3 + len(poked) // 50 + 1


def test_all_poked_hurries_the_pass_that_is_under_way_and_then_begins_another() -> None:
    agenda = Agenda(1.0)
    order = [f"ep-{i}" for i in range(3 * SLICE)]
    agenda.begin_pass(order, 0)  # the first pass is one that is poked: all of it is due
    for _ in range(3):
        assert agenda.wait_s(0) == 0
        assert len(agenda.take(0)) == SLICE
    assert agenda.wait_s(0.25) == 0.75
    assert agenda.pass_due(1)
    agenda.begin_pass(order, 1)
    assert len(agenda.take(1)) == SLICE
    assert agenda.take(1) == set()
    agenda.poke_all()
    agenda.poke_all()
    assert not agenda.pass_due(1)  # or it would never come to its end
    assert len(agenda.take(1)) == SLICE
    assert len(agenda.take(1)) == SLICE
    assert agenda.pass_due(1)


def test_every_tenth_pass_is_whole_and_so_is_one_that_all_were_poked_for() -> None:
    agenda = Agenda(1.0)
    whole = []
    for n in range(25):
        whole.append(agenda.whole)
        agenda.begin_pass([], float(n))
        if n == 13:
            agenda.poke_all()
    assert [n for n, is_whole in enumerate(whole) if is_whole] == [0, 10, 14, 20]


# ---- writes that are not shown yet


def test_an_endpoint_waits_until_its_writes_are_shown() -> None:
    writes = ExpectedWrites()
    assert not writes.withhold("ep-1")
    writes.expect("ep-1", ("workers", "a"), 7, 0)
    writes.expect("ep-1", ("statuses", "ep-1"), None, 0)
    assert writes.withhold("ep-1")
    assert not writes.note_row("ep-1", ("workers", "a"), 6)
    assert not writes.note_row("ep-1", ("workers", "a"), None)
    assert writes.note_row("ep-1", ("workers", "a"), 7)
    assert not writes.release("ep-1")
    assert not writes.note_row("ep-1", ("statuses", "ep-1"), 3)
    assert writes.note_row("ep-1", ("statuses", "ep-1"), None)
    assert writes.release("ep-1")
    assert not writes.release("ep-1")
    assert not writes.withhold("ep-1")


def test_a_write_that_is_never_shown_is_given_up() -> None:
    writes = ExpectedWrites()
    writes.expect("ep-1", ("workers", "a"), 7, 0)
    assert writes.forget_old("ep-1", SHOWS_WITHIN_S) == []
    assert writes.forget_old("ep-1", SHOWS_WITHIN_S + 1) == [("workers", "a")]
    assert not writes.withhold("ep-1")
