"""Every worker of a revision runs the image that its first one found."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common.messages import WorkerAssignment, WorkerStatus
from penstock_common.states import WorkerReason, WorkerState
from penstock_scheduler.placement.cluster import Cluster, Request
from penstock_scheduler.rollout.image_pins import KEPT, learn_pins, pin_of, strays
from penstock_scheduler.snapshot import Worker
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

both_ways = pytest.mark.usefixtures("both_ways")


@pytest.fixture
def world() -> World:
    """An image whose tag is `sha256:one`; two workers at least."""
    world = World(start_s=2, service_s=1)
    world.join(make_node("node-a", n_gpus=4), make_node("node-b", n_gpus=4))
    world.tag = lambda _: "sha256:one"
    world.put(make_record(workers={"min": 1, "max": 6}))
    world.run(20)
    return world


def digests(world: World) -> dict[int, set[str | None]]:
    """Revision → what its wanted workers run."""
    found: dict[int, set[str | None]] = {}
    wanted = {a.worker_id: a.revision for a in world.wanted()}
    for status in world.worker_statuses.values():
        if status.worker_id in wanted:
            found.setdefault(wanted[status.worker_id], set()).add(status.image_digest)
    return found


def pins(world: World) -> Mapping[int, str]:
    return world.statuses["ep-1"].image_digests


@both_ways
def test_later_workers_run_what_the_first_one_found(world: World) -> None:
    assert pins(world) == {1: "sha256:one"}
    world.tag = lambda _: "sha256:two"
    world.put(make_record(workers={"min": 4, "max": 6}))
    world.run(20)
    assert len(world.wanted()) == 4
    assert digests(world) == {1: {"sha256:one"}}


@both_ways
def test_a_new_leader_knows_what_the_status_says(world: World) -> None:
    world.tag = lambda _: "sha256:two"
    world.replace_leader()
    world.kill(world.wanted()[0].worker_id)
    world.run(30)
    assert digests(world) == {1: {"sha256:one"}}


@both_ways
def test_a_new_revision_takes_the_tag_anew(world: World) -> None:
    world.tag = lambda _: "sha256:two"
    world.change(revision=2)
    world.run(30)
    assert digests(world) == {2: {"sha256:two"}}
    assert pins(world) == {1: "sha256:one", 2: "sha256:two"}


@both_ways
def test_a_rollback_runs_what_the_old_revision_ran(world: World) -> None:
    world.tag = lambda _: "sha256:two"
    world.change(revision=2)
    world.run(30)
    world.change(revision=3, same_as=(1,))
    world.run(30)
    assert digests(world) == {3: {"sha256:one"}}


@both_ways
def test_a_worker_that_found_another_image_at_the_same_time_is_replaced() -> None:
    world = World(start_s=2, service_s=1)
    world.join(make_node("node-a", n_gpus=1), make_node("node-b", n_gpus=1))
    world.join(make_node("node-c", n_gpus=1))
    world.tag = lambda a: "sha256:one" if a.node_id == "node-a" else "sha256:two"
    world.put(make_record(workers={"min": 2, "max": 2}))
    world.run(40)
    (found,) = digests(world)[1]
    assert found == pins(world)[1]
    assert len(world.wanted()) == 2
    reasons = {a.reason for plan in world.plans for a in plan.changes if a.reason}
    assert reasons == {WorkerReason.UPDATED}


@both_ways
def test_images_without_a_digest_are_left_alone() -> None:
    world = World(start_s=2, service_s=1)
    world.join(make_node("node-a", n_gpus=4))
    world.put(make_record(workers={"min": 3, "max": 3}))
    world.run(30)
    assert pins(world) == {}
    assert len(world.starts) == 3


def test_a_node_that_has_the_pinned_image_needs_no_pull() -> None:
    has_tag = make_node("node-a", images=("acme/echo:1",))
    has_digest = make_node("node-b", images=("acme/echo@sha256:one",))
    spec = make_record(image={"image": "docker.io/acme/echo:1"}).spec
    wanted = Request("ep-1", spec, image_digest="sha256:one")
    (placed,), _ = Cluster([has_tag, has_digest], ()).place(wanted)
    assert placed.node_id == "node-b"


told = st.lists(
    st.tuples(
        st.integers(1, 60), st.sampled_from([None, "sha256:a", "sha256:b"]), st.integers(0, 9)
    ),
    max_size=12,
)


@given(told, st.dictionaries(st.integers(1, 60), st.sampled_from(["sha256:a", "sha256:b"])))
def test_what_is_known_stays_known_and_the_first_word_counts(
    told: list[tuple[int, str | None, int]], known: dict[int, str]
) -> None:
    record = make_record(revision=60)
    workers = [worker(n, *what) for n, what in enumerate(told)]
    before = dict(known)
    learnt = learn_pins(known, workers, record)
    assert known == before
    for revision, digest in known.items():
        assert learnt.get(revision) == (digest if revision > 60 - KEPT else None)
    for revision in learnt.keys() - known.keys():
        ages = [(at, n, d) for n, (r, d, at) in enumerate(told) if r == revision and d is not None]
        assert learnt[revision] == min(ages)[2]
    pin = pin_of(record, learnt)
    assert pin == learnt.get(60)
    for one in workers:
        assert one.status is not None
        if one.assignment.revision == 60:
            assert strays(one, pin) == (one.status.image_digest not in (None, pin))
    again = learn_pins(learnt, workers, record)
    assert {n: again[n] for n in again if n > 60 - KEPT} == {
        n: learnt[n] for n in learnt if n > 60 - KEPT
    }


def worker(number: int, revision: int, digest: str | None, age: int) -> Worker:
    at = EPOCH + timedelta(seconds=age)
    name = f"wk-{number:03}"
    fields: dict[str, Any] = {
        "worker_id": name,
        "node_id": "node-a",
        "endpoint_id": "ep-1",
        "revision": revision,
    }
    assignment = WorkerAssignment(
        **fields, spec=make_record().spec, fencing_token=1, decided_at=at, assigned_at=at
    )
    status = WorkerStatus(**fields, state=WorkerState.RUNNING, image_digest=digest, updated_at=at)
    return Worker(assignment, 1, status)
