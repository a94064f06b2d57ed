"""Quotas of API keys: never exceeded by a start, told in the status, and no rollout stuck on them."""

from datetime import timedelta
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import rule

from penstock_common.messages import ApiKeyRecord
from penstock_common.states import EndpointReason
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World
from tests.unit.scheduler.test_scheduler_properties import (
    ENDPOINTS,
    SchedulerStory,
    limits,
    scalings,
)

both_ways = pytest.mark.usefixtures("both_ways")

OWNER = "key-1"


def make_key(
    key_id: str = OWNER, *, max_workers: int | None = None, max_gpus: int | None = None
) -> ApiKeyRecord:
    return ApiKeyRecord(
        key_id=key_id,
        name="ours",
        sha256="0" * 64,
        scope="deploy",
        max_workers=max_workers,
        max_gpus=max_gpus,
        created_at=EPOCH,
    )


def a_world(key: ApiKeyRecord, *endpoints: str, workers: dict[str, object]) -> World:
    world = World(start_s=2.0)
    world.join(make_node(n_gpus=8))
    world.keys[key.key_id] = key
    for endpoint_id in endpoints or ("ep-1",):
        world.put(make_record(endpoint_id, gpu={"count": 1}, workers=workers, owner=key.key_id))
    return world


@both_ways
def test_no_more_workers_start_than_the_key_may_hold() -> None:
    world = a_world(make_key(max_workers=2), workers={"min": 3, "max": 5})
    world.run(10)
    assert world.running() == 2
    status = world.statuses["ep-1"]
    assert status.reason is EndpointReason.QUOTA_EXCEEDED
    assert status.message == "API key key-1 (ours) may hold 2 workers and holds 2"
    world.keys[OWNER] = make_key(max_workers=3)
    world.run(10)
    assert world.running() == 3
    assert world.statuses["ep-1"].reason is None


@both_ways
def test_gpus_are_counted_over_all_endpoints_of_the_key() -> None:
    world = a_world(make_key(max_gpus=3), workers={"min": 1, "max": 5})
    pair: dict[str, object] = {"min": 2, "max": 5}
    world.put(make_record("ep-2", gpu={"count": 2}, workers=pair, owner=OWNER))
    world.put(make_record("ep-3", gpu={"count": 2}, workers={"min": 1, "max": 1}))  # nobody's
    world.run(10)
    assert (world.running("ep-1"), world.running("ep-2"), world.running("ep-3")) == (1, 1, 1)
    message = world.statuses["ep-2"].message
    assert message == "API key key-1 (ours) may hold 3 GPUs and holds 3; a worker needs 2"


@both_ways
def test_workers_that_drain_still_count() -> None:
    world = a_world(make_key(max_workers=1), "ep-1", "ep-2", workers={"min": 0, "max": 1})
    world.arrive(1, "ep-1")
    world.service_s = 50.0
    world.run(4)
    assert world.running("ep-1") == 1
    world.change("ep-1", paused=True)
    world.arrive(1, "ep-2")
    world.run(10)  # the request at ep-1 is not through
    assert world.of("ep-2") == []
    assert world.statuses["ep-2"].reason is EndpointReason.QUOTA_EXCEEDED
    world.run(60)
    assert len(world.of("ep-2")) == 1


@both_ways
def test_a_new_revision_at_the_limit_makes_room_for_itself() -> None:
    world = a_world(make_key(max_workers=2), workers={"min": 2, "max": 2})
    world.run(5)
    world.change(revision=2)
    served = []
    for _ in range(60):
        world.run(0.5)
        served.append(world.running())
    assert [a.revision for a in world.wanted()] == [2, 2]
    assert min(served) >= 1, "one worker made room, the other served on"


@both_ways
def test_a_revision_that_can_never_fit_leaves_the_old_one_alone() -> None:
    world = a_world(make_key(max_gpus=2), workers={"min": 2, "max": 2})
    world.run(5)
    record = world.endpoints["ep-1"]
    spec = record.spec.model_copy(update={"gpu": record.spec.gpu.model_copy(update={"count": 3})})
    world.change(spec=spec, revision=2)
    world.run(20)
    assert world.running() == 2
    assert world.statuses["ep-1"].reason is EndpointReason.QUOTA_EXCEEDED


class QuotaStory(SchedulerStory):
    """All that may befall two endpoints, which belong to one key whose quota changes."""

    @rule(endpoint_id=st.sampled_from(ENDPOINTS), workers=limits, scaling=scalings)
    def put(self, endpoint_id: str, workers: dict[str, object], scaling: dict[str, object]) -> None:
        super().put(endpoint_id, workers, scaling)
        self.world.change(endpoint_id, owner=OWNER)

    @rule(
        max_workers=st.none() | st.integers(0, 4),
        max_gpus=st.none() | st.integers(0, 5),
        gone=st.booleans(),
    )
    def limit(self, max_workers: int | None, max_gpus: int | None, gone: bool) -> None:
        self.world.keys.clear()
        if not gone:
            self.world.keys[OWNER] = make_key(max_workers=max_workers, max_gpus=max_gpus)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.keys.clear()  # then all runs that is wanted, as without quotas
        super().teardown()
        if hasattr(self, "world"):
            self._usage_is_exact()

    def _usage_is_exact(self) -> None:
        """Whoever led when: each worker that is gone has one record, and no GPU two holders."""
        world = self.world
        of_gpu: dict[str, list[tuple[float, float]]] = {}
        started = {a.worker_id: a for plan in world.plans for a in plan.creates}
        present = {a.worker_id for a, _ in world.assignments.values()}
        assert world.usages.keys() == started.keys() - present
        for worker_id, usage in world.usages.items():
            assert usage.began_at == started[worker_id].assigned_at
            assert usage.began_at <= usage.ended_at <= world.utc
            for gpu in started[worker_id].gpus:
                held = ((usage.began_at - EPOCH) / SECOND, (usage.ended_at - EPOCH) / SECOND)
                of_gpu.setdefault(gpu, []).append(held)
        for intervals in of_gpu.values():
            for one, other in pairwise(sorted(intervals)):
                assert one[1] <= other[0], "two workers pay for one GPU"


class QuotaStoryByParts(QuotaStory):
    """The same, decided on endpoint by endpoint."""

    by_parts = True


SECOND = timedelta(seconds=1)
QuotaStory.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestQuotaStory = QuotaStory.TestCase
QuotaStoryByParts.TestCase.settings = QuotaStory.TestCase.settings
TestQuotaStoryByParts = QuotaStoryByParts.TestCase


@both_ways
def test_one_plan_starts_no_more_for_two_endpoints_than_their_key_may_hold() -> None:
    world = a_world(make_key(max_workers=1), "ep-1", "ep-2", workers={"min": 1, "max": 1})
    world.tick()
    assert len(world.of("ep-1")) + len(world.of("ep-2")) == 1
