"""Whatever happens, in whatever order: the world asserts the safety rules after every plan."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock_common.states import EndpointReason, EndpointState, GpuReason, NodeWish
from penstock_scheduler.rollout.canary import divide
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

ENDPOINTS = ("ep-1", "ep-2")
endpoint_ids = st.sampled_from(ENDPOINTS)
limits = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
    lambda pair: {"min": min(pair), "max": max(1, *pair)}
)
scalings = st.sampled_from(
    [
        {"type": "queue_delay", "value": 4},
        {"type": "queue_delay", "value": 0.5},
        {"type": "request_count", "value": 2},
    ]
)


class SchedulerStory(RuleBasedStateMachine):
    """Two endpoints on three nodes, with everything that may befall them."""

    by_parts = False

    @initialize(
        start_s=st.sampled_from([0.0, 1.0, 20.0]), service_s=st.sampled_from([0.2, 3.0, 50.0])
    )
    def begin(self, start_s: float, service_s: float) -> None:
        self.world = World(start_s=start_s, service_s=service_s)
        self.world.by_parts = self.by_parts
        self.world.join(make_node("node-a", n_gpus=1), make_node("node-b", n_gpus=3))
        self.faults: dict[str, dict[int, GpuReason]] = {}
        self.n_gpus = {"ep-1": 1, "ep-2": 2}

    @rule(endpoint_id=endpoint_ids, workers=limits, scaling=scalings)
    def put(self, endpoint_id: str, workers: dict[str, object], scaling: dict[str, object]) -> None:
        before = self.world.endpoints.get(endpoint_id)
        if before is not None and before.deleted_at is not None:
            return
        record = make_record(
            endpoint_id,
            gpu={"count": self.n_gpus[endpoint_id]},
            workers={"idle_timeout_s": 5, "request_timeout_s": 100, **workers},
            scaling=scaling,
        )
        if before is not None:
            kept = {n: getattr(before, n) for n in ("revision", "same_as", "canary")}
            record = record.model_copy(update=kept)
        self.world.put(record)

    @rule(endpoint_id=endpoint_ids)
    def update(self, endpoint_id: str) -> None:
        record = self.world.endpoints.get(endpoint_id)
        if record is not None and record.canary is None:  # else the api refuses it
            self.world.change(endpoint_id, revision=record.revision + 1, same_as=())

    @rule(endpoint_id=endpoint_ids, percent=st.sampled_from([1, 20, 50, 99]))
    def share(self, endpoint_id: str, percent: int) -> None:
        """Begin a canary, or give it another share."""
        record = self.world.endpoints.get(endpoint_id)
        if record is None:
            return
        if record.canary is None:
            self.world.begin_canary(endpoint_id, percent)
        else:
            canary = record.canary.model_copy(update={"percent": percent})
            self.world.change(endpoint_id, canary=canary)

    @rule(endpoint_id=endpoint_ids)
    def promote(self, endpoint_id: str) -> None:
        if endpoint_id in self.world.endpoints:
            self.world.change(endpoint_id, canary=None)

    @rule(endpoint_id=endpoint_ids)
    def abort(self, endpoint_id: str) -> None:
        record = self.world.endpoints.get(endpoint_id)
        if record is not None and record.canary is not None:
            self.world.abort_canary(endpoint_id)

    @rule(endpoint_id=endpoint_ids, paused=st.booleans())
    def pause(self, endpoint_id: str, paused: bool) -> None:
        if endpoint_id in self.world.endpoints:
            self.world.change(endpoint_id, paused=paused)

    @rule(endpoint_id=endpoint_ids)
    def delete(self, endpoint_id: str) -> None:
        if endpoint_id in self.world.endpoints:
            self.world.change(endpoint_id, deleted_at=EPOCH)

    @rule(endpoint_id=endpoint_ids)
    def reap(self, endpoint_id: str) -> None:
        """What the api does with a deleted endpoint."""
        status = self.world.statuses.get(endpoint_id)
        if status and status.state is EndpointState.DELETING and not self.world.of(endpoint_id):
            self.world.endpoints.pop(endpoint_id, None)

    @rule(endpoint_id=endpoint_ids, n=st.integers(1, 8))
    def arrive(self, endpoint_id: str, n: int) -> None:
        if endpoint_id in self.world.endpoints:
            self.world.arrive(n, endpoint_id)

    @rule(endpoint_id=endpoint_ids)
    def leave(self, endpoint_id: str) -> None:
        if endpoint_id in self.world.requests:
            self.world.requests[endpoint_id].waiting.clear()

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 6.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.step(seconds)

    @rule(number=st.integers(0, 10))
    def die(self, number: int) -> None:
        workers = sorted(status.worker_id for status in self.world.worker_statuses.values())
        if workers:
            self.world.kill(workers[number % len(workers)])

    @rule(broken=st.booleans())
    def break_image(self, broken: bool) -> None:
        self.world.fails = lambda _: "exited with exit code 1" if broken else None

    @rule(node_id=st.sampled_from(["node-a", "node-b", "node-c"]), lost=st.booleans())
    def lose(self, node_id: str, lost: bool) -> None:
        n_gpus = 2 if node_id == "node-c" else 3
        self.world.join(make_node(node_id, n_gpus=n_gpus, faults=self.faults.get(node_id)))
        self.world.lost_nodes = frozenset({node_id}) if lost else frozenset()

    @rule(
        node_id=st.sampled_from(["node-a", "node-b"]),
        wish=st.sampled_from([None, *NodeWish]),
        deadline_s=st.sampled_from([None, 0.0, 10.0]),
    )
    def order(self, node_id: str, wish: NodeWish | None, deadline_s: float | None) -> None:
        self.world.order(node_id, wish, deadline_s=deadline_s)

    @rule(number=st.integers(0, 10), deadline_s=st.sampled_from([None, 0.0, 10.0]))
    def stop(self, number: int, deadline_s: float | None) -> None:
        workers = sorted(a.worker_id for a, _ in self.world.assignments.values())
        if workers:
            self.world.stop(workers[number % len(workers)], deadline_s=deadline_s)

    @rule(node_id=st.sampled_from(["node-a", "node-b"]), restarting=st.booleans())
    def restart_agent(self, node_id: str, restarting: bool) -> None:
        record = self.world.nodes[node_id]
        self.world.join(record.model_copy(update={"restarting": restarting}))

    @rule(
        node_id=st.sampled_from(["node-a", "node-b"]),
        faults=st.dictionaries(st.integers(0, 2), st.sampled_from(GpuReason)),
    )
    def break_gpus(self, node_id: str, faults: dict[int, GpuReason]) -> None:
        """GPUs go bad, those that were bad before are mended."""
        self.faults[node_id] = faults
        if (node := self.world.nodes.get(node_id)) is not None:
            self.world.join(make_node(node_id, n_gpus=len(node.gpus), faults=faults))

    @rule(routers=st.sets(st.sampled_from(["rt-1", "rt-2"])))
    def change_routers(self, routers: set[str]) -> None:
        self.world.have_routers(routers, {"rt-1", "rt-2"} - routers)

    @rule(settled=st.booleans(), reporting=st.booleans())
    def disturb(self, settled: bool, reporting: bool) -> None:
        self.world.settled, self.world.reporting = settled, reporting

    @rule()
    def new_leader(self) -> None:
        self.world.replace_leader()

    @rule()
    def tick(self) -> None:
        self.world.tick()

    @rule(some=st.sets(endpoint_ids), fleet_wide=st.booleans())
    def poke(self, some: set[str], fleet_wide: bool) -> None:
        """What happened concerns these: they are decided on alone, maybe for nothing."""
        self.world.poke(*some, fleet_wide=fleet_wide)

    @rule(seconds=st.sampled_from([0.1, 2.0, 70.0, 5_000.0]))
    def rest(self, seconds: float) -> None:
        """For an endpoint at rest time alone makes no plan, so that a pass may leave it out."""
        world = self.world
        world.settle()
        resting = world.resting()
        world.step(seconds)  # what is in flight elsewhere ends meanwhile
        for endpoint_id in sorted(resting & world.resting()):
            assert not world.poke(endpoint_id)

    @invariant()
    def plans_end(self) -> None:
        """A plan that was carried out is not planned again, nor undone: no time, no more plans."""
        if hasattr(self, "world"):
            self.world.settle()
            assert not self.world.tick()

    def teardown(self) -> None:
        """Once nothing happens any more, what runs is what is wanted without any request."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.fails = lambda _: None
        world.routers, world.lost_routers = frozenset({"rt-1"}), frozenset({"rt-2"})
        for node_id, node in world.nodes.items():
            world.join(make_node(node_id, n_gpus=len(node.gpus)))
        world.lost_nodes, world.settled, world.reporting = frozenset(), True, True
        world.orders.clear()
        for node in list(world.nodes.values()):
            world.join(node.model_copy(update={"restarting": False}))
        for requests in world.requests.values():
            requests.waiting.clear()
        world.run(200, dt=2)
        for endpoint_id, record in world.endpoints.items():
            status = world.statuses[endpoint_id]
            gone = record.paused or record.deleted_at is not None
            least = 0 if gone else record.spec.workers.min
            if record.canary is not None:
                shares = divide(least, record.canary.percent)
                least = sum(shares)
                if status.reason is not EndpointReason.NO_CAPACITY:
                    assert [*map(len, world.sides(endpoint_id))] == [*shares]
            if status.reason is EndpointReason.NO_CAPACITY:
                assert len(world.wanted(endpoint_id)) < least
            else:
                assert world.running(endpoint_id) == len(world.of(endpoint_id)) == least


class SchedulerStoryByParts(SchedulerStory):
    """The same, decided on endpoint by endpoint."""

    by_parts = True


SchedulerStory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSchedulerStory = SchedulerStory.TestCase
SchedulerStoryByParts.TestCase.settings = SchedulerStory.TestCase.settings
TestSchedulerStoryByParts = SchedulerStoryByParts.TestCase
