"""The small cores: presence, reports, snapshot, drivers, backoff, settings."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from penstock_common.messages import EndpointStatus, QueueReport, WorkerLoad
from penstock_common.states import EndpointReason, EndpointState, Phase, WorkerReason, WorkerState
from penstock_scheduler.holdings.drivers import Drives
from penstock_scheduler.rollout.backoff import Backoff, Failure, failure_of, note_failure, recall
from penstock_scheduler.settings import Settings
from penstock_scheduler.snapshot import HeardReport, Tables, Worker, build_snapshot
from penstock_scheduler.store.presence import Presence
from penstock_scheduler.store.reports import ReportBook
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_world import World

# ---- presence


def lost(presence: Presence, now: float, present: tuple[str, ...] = ()) -> set[str]:
    return set(presence.lost(["node-a"], present=present, now=now))


def test_silence_makes_lost_once_the_key_is_gone() -> None:
    presence = Presence(lost_after_s=10)
    presence.note_synced(0)
    presence.note_heard("node-a", 5)
    assert lost(presence, 14.9) == set()
    assert lost(presence, 15, present=("node-a",)) == set()
    assert lost(presence, 15) == {"node-a"}


def test_silence_counts_from_when_the_table_was_whole_again() -> None:
    """nats-server restarted: the bucket comes back empty and nobody has had time to beat."""
    presence = Presence(lost_after_s=10)
    presence.note_synced(0)
    presence.note_heard("node-a", 5)
    presence.note_synced(100)
    assert lost(presence, 109.9) == set()
    assert lost(presence, 110) == {"node-a"}


def test_nobody_is_lost_before_the_table_was_ever_whole() -> None:
    assert lost(Presence(lost_after_s=10), 1000) == set()


def test_a_new_leader_gives_a_node_it_never_heard_the_same_time() -> None:
    presence = Presence(lost_after_s=10)
    presence.note_synced(50)
    assert lost(presence, 59) == set()
    assert lost(presence, 60) == {"node-a"}


def test_a_key_that_goes_away_before_it_could_expire_was_taken_away() -> None:
    presence = Presence(lost_after_s=10)
    presence.note_synced(0)
    presence.note_heard("node-a", 20)
    presence.note_removed("node-a", 23)
    assert lost(presence, 23) == {"node-a"}
    presence.note_heard("node-a", 24)
    presence.note_removed("node-a", 34)  # expired, or a frozen server's clock jumped
    assert lost(presence, 33) == set()


def test_nobody_is_lost_because_the_bucket_could_not_be_written() -> None:
    """It has no leader for eight seconds; the next one finds all keys expired before any beat."""
    presence = Presence(lost_after_s=10)
    presence.note_synced(0)
    for name, at in (("node-a", 20), ("node-b", 21)):
        presence.note_told(at)
        presence.note_heard(name, at)
    presence.note_told(31)  # the first key goes away
    assert presence.settling_since == 31
    assert presence.lost(["node-a", "node-b"], present=(), now=31.1) == set()
    presence.note_told(33)
    presence.note_heard("node-b", 33)
    assert lost(presence, 35.9, present=("node-b",)) == set()
    assert lost(presence, 36, present=("node-b",)) == {"node-a"}


def test_a_node_is_lost_at_once_when_others_were_heard_meanwhile() -> None:
    presence = Presence(lost_after_s=10)
    presence.note_synced(0)
    presence.note_heard("node-a", 1)
    for at in (1, 4, 7, 10):
        presence.note_told(at)
        presence.note_heard("node-b", at)
    presence.note_told(11)  # node-a's key goes away
    assert lost(presence, 11, present=("node-b",)) == {"node-a"}


# ---- reports and snapshot


def report(
    router_id: str = "rt-1", *, workers: tuple[WorkerLoad, ...] = (), **fields: object
) -> QueueReport:
    values = {"waiting": 0, "oldest_wait_s": 0, "in_flight": 0} | fields
    return QueueReport.model_validate(
        {
            "router_id": router_id,
            "endpoint_id": "ep-1",
            "sent_at": EPOCH,
            "arrivals_total": 0,
            "completions_total": 0,
            "workers": workers,
        }
        | values
    )


def load(worker_id: str = "wk-1", **fields: object) -> WorkerLoad:
    values = {"in_flight": 0, "accepting": True, "idle_s": 0, "assignment_revision": 1} | fields
    return WorkerLoad.model_validate({"worker_id": worker_id} | values)


def test_reports_are_summed_and_grow_old() -> None:
    reports = {
        ("ep-1", "rt-1"): HeardReport(
            report(
                "rt-1",
                waiting=2,
                oldest_wait_s=1,
                in_flight=3,
                service_time_s=1.0,
                service_times=((0, 3.0),),
            ),
            10,
        ),
        ("ep-1", "rt-2"): HeardReport(
            report(
                "rt-2", waiting=1, oldest_wait_s=4, service_time_s=5.0, service_times=((17, 1.0),)
            ),
            8,
        ),
        ("ep-1", "rt-3"): HeardReport(report("rt-3", waiting=50), 6.9),  # no news any more
        ("ep-1", "rt-4"): HeardReport(report("rt-4", waiting=50), 12),  # lost
    }
    snapshot = build_snapshot(
        Tables(), reports, now=12, utc=EPOCH, lost_routers=frozenset({"rt-4"})
    )
    queue = snapshot.loads["ep-1"]
    assert (queue.waiting, queue.in_flight) == (3, 3)
    assert queue.oldest_wait_s == 8  # 4 and the 4 s since that report
    assert queue.service_time_s == pytest.approx((3 * 1.0 + 1 * 5.0) / 4)
    assert queue.service_p95_s == pytest.approx(5.0, rel=0.06)
    assert set(queue.arrivals) == {"rt-1", "rt-2"}


def test_a_worker_has_been_idle_since_the_report_as_well() -> None:
    world = World(start_s=0)
    world.join(make_node())
    world.put(make_record(workers={"min": 1}))
    world.settle()
    world.step(0)
    worker = next(iter(world.snapshot().workers.values()))
    for said, grown in [
        (load(worker.id, idle_s=2), 5),
        (load(worker.id, in_flight=1), None),
        (load(worker.id, accepting=False, idle_s=2), None),
    ]:
        heard = HeardReport(report(workers=(said,)), 7)
        snapshot = build_snapshot(world.tables(), {("ep-1", "rt-1"): heard}, now=10, utc=EPOCH)
        assert next(iter(snapshot.workers.values())).idle_s == grown


def test_only_the_drivers_word_on_a_worker_counts() -> None:
    world = World(start_s=0)
    world.join(make_node())
    world.put(make_record(workers={"min": 1}))
    world.settle()
    heard = HeardReport(report("rt-2", workers=(load("wk-0001", in_flight=9),)), 0)
    snapshot = build_snapshot(world.tables(), {("ep-1", "rt-2"): heard}, now=0, utc=EPOCH)
    assert next(iter(snapshot.workers.values())).load is None


def test_reports_that_call_for_a_decision() -> None:
    book = ReportBook()
    assert not book.hear(report(), 0)
    assert book.hear(report(waiting=1), 1)
    assert not book.hear(report(waiting=1), 2)
    assert book.hear(report(waiting=2), 3)
    assert not book.hear(report(workers=(load(in_flight=1, accepting=False),)), 4)
    assert book.hear(report(workers=(load(accepting=False),)), 5)
    assert not book.hear(report(workers=(load(accepting=False, idle_s=1),)), 6)
    book.forget_old(11.1)
    assert not book.reports


# ---- drivers


def test_a_new_worker_goes_to_who_drives_the_fewest_of_its_endpoint() -> None:
    drives = Drives(["rt-1", "rt-2"])
    for key, router, endpoint_id in (
        ("a", "rt-2", "ep-9"),
        ("b", "rt-2", "ep-9"),
        ("c", "rt-1", "ep-1"),
    ):
        drives.put(key, router, endpoint_id)
    picked = []
    for key in "def":
        picked.append(drives.pick("ep-1"))
        drives.put(key, picked[-1], "ep-1")
    assert picked == ["rt-2", "rt-1", "rt-2"]
    drives.put("d", None, "ep-1")
    drives.put("f", "rt-1", "ep-1")
    assert drives.pick("ep-1") == "rt-2"  # 3 of this endpoint at rt-1, none at rt-2


def test_without_routers_there_is_no_driver() -> None:
    assert Drives([]).pick("ep-1") is None
    drives = Drives(["rt-1"])
    drives.see_routers([])
    assert drives.pick("ep-1") is None


def test_a_router_that_drives_nothing_is_given_idle_workers() -> None:
    world = World(start_s=0)
    world.join(make_node(n_gpus=8))
    world.put(make_record(workers={"min": 6, "max": 8}))
    world.settle()
    world.arrive(2)
    world.step(0.5)
    world.routers = frozenset({"rt-1", "rt-2"})
    plan = world.tick()
    moved = [a.worker_id for a in plan.changes]
    assert len(moved) == 3
    assert all(a.driver == "rt-2" for a in plan.changes)
    assert not any(world.in_flight(worker_id) for worker_id in moved)


def test_nobody_is_moved_while_both_drive() -> None:
    world = World(start_s=0)
    world.join(make_node(n_gpus=8))
    world.put(make_record(workers={"min": 4, "max": 8}))
    world.routers = frozenset({"rt-1", "rt-2"})
    world.settle()
    world.routers = frozenset({"rt-1", "rt-2"})
    world.change(spec=make_record(workers={"min": 8, "max": 8}).spec)
    world.settle()
    drivers = sorted(a.driver or "" for a in world.of())
    assert drivers == ["rt-1"] * 4 + ["rt-2"] * 4


# ---- backoff

FAILURE = Failure("wk-1", "node-a", "exited", 1, ("boom",))


def test_each_failure_doubles_the_pause_up_to_a_minute() -> None:
    backoff, now, pauses = Backoff(), 0.0, []
    for _ in range(8):
        backoff = note_failure(backoff, FAILURE, revision=1, counts=True, now=now, utc=EPOCH)
        assert backoff.pauses(now)
        pauses.append(backoff.retry_at - now)
        assert backoff.retry_utc == EPOCH + timedelta(seconds=pauses[-1])
        now = backoff.retry_at
        assert not backoff.pauses(now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_several_that_fail_in_one_pause_count_once() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff = note_failure(backoff, FAILURE, revision=1, counts=True, now=0, utc=EPOCH)
    assert backoff.failures == 1


def test_a_new_leader_recalls_the_pause_from_the_status() -> None:
    status = EndpointStatus(
        endpoint_id="ep-1",
        state=EndpointState.FAILED,
        reason=EndpointReason.CRASH_BACKOFF,
        message="exited",
        revision=3,
        retry_at=EPOCH + timedelta(seconds=16),
        exit_code=1,
        log_tail=("boom",),
        fencing_token=1,
        updated_at=EPOCH,
    )
    backoff = recall(status, now=100, utc=EPOCH + timedelta(seconds=10))
    assert (backoff.failures, backoff.retry_at) == (5, 106)
    assert backoff.last is not None
    assert backoff.last.log_tail == ("boom",)
    assert recall(None, now=0, utc=EPOCH) == Backoff()


def failed_worker(lived_s: float | None, reason: WorkerReason = WorkerReason.EXITED) -> Worker:
    world = World(start_s=0)
    world.join(make_node())
    world.put(make_record(workers={"min": 1}))
    world.settle()
    worker = next(iter(world.snapshot().workers.values()))
    assert worker.status is not None
    healthy = {Phase.HEALTHY: EPOCH} if lived_s is not None else {}
    status = worker.status.model_copy(
        update={
            "state": WorkerState.FAILED,
            "reason": reason,
            "exit_code": 3,
            "phases": {Phase.RECEIVED: EPOCH, **healthy},
            "updated_at": EPOCH + timedelta(seconds=lived_s or 0),
        }
    )
    return Worker(worker.assignment, worker.revision, status)


@pytest.mark.parametrize(("lived_s", "counts"), [(None, True), (3.0, True), (11.0, False)])
def test_an_early_end_is_a_failed_start(lived_s: float | None, counts: bool) -> None:
    found = failure_of(failed_worker(lived_s))
    assert found is not None
    failure, failed_start = found
    assert failed_start is counts
    assert failure.message == "worker wk-0001 on node-a ended with code 3 (exited)"


def test_who_was_stopped_with_its_agent_has_not_failed() -> None:
    assert failure_of(failed_worker(None, WorkerReason.AGENT_STOPPED)) is None
    assert failure_of(failed_worker(None, WorkerReason.ENGINE_RESTARTED)) is None


# ---- settings


def test_settings_refuse_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SCHEDULER_LEASE_TTL_S", "7")
    assert Settings().lease_ttl_s == 7
    with pytest.raises(ValidationError, match="settle_s"):
        Settings(settle_s=30, lost_after_s=10)
