"""The live view: what a snapshot of one endpoint shows, and writes that are not shown yet."""

from penstock_scheduler.store.expected import SHOWS_WITHIN_S, ExpectedWrites
from penstock_scheduler.store.view import LiveView
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_view import show
from tests.fakes.scheduler_world import World


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
