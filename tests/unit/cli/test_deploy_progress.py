"""The story of a deployment: what is new at each look, how it ends, how it looks on a terminal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.deployment.panel import bar, panel
from penstock_cli.deployment.progress import Ending, Progress
from penstock_client.documents import RevisionDocument, WorkerDocument
from tests.support.documents import NOW, endpoint_document, worker_document

STARTING = {"decided": 0, "received": 10, "created": 100, "started": 120}


def successor(cause: str, why: str | None = None, revision: int = 3) -> RevisionDocument:
    return RevisionDocument.of(
        {
            "revision": revision,
            "created_at": NOW,
            "cause": cause,
            "why": why,
            "same_as": [],
            "present": True,
            "changes": [],
        }
    )


def outcome(progress: Progress) -> tuple[Ending, str]:
    assert progress.outcome is not None
    return progress.outcome.ending, progress.outcome.told


def test_a_first_start_is_told_step_by_step_and_each_step_once() -> None:
    progress = Progress("echo", 1, now=0)
    deploying = endpoint_document(state="deploying", reason="starting", workers={"min": 1})
    pulling = {"state": "pulling", "pull_total_bytes": 4_000_000_000}
    looks: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["echo: deploying", "wk-1 on node-a: placed, its node has not begun"]),
        ({}, []),
        (pulling, ["wk-1 on node-a: pulls its image"]),
        (
            {**pulling, "pull_bytes": 10},
            ["wk-1 on node-a: pulls its image, 0.0 of 4.0 GB"],
        ),
        ({**pulling, "pull_bytes": 900_000_000}, []),
        (
            {**pulling, "pull_bytes": 2_100_000_000},
            ["wk-1 on node-a: pulls its image, 2.0 of 4.0 GB"],
        ),
        ({"state": "starting"}, ["wk-1 on node-a: is being made"]),
        (
            {"state": "starting", "phases_ms": STARTING},
            ["wk-1 on node-a: started, does not listen yet"],
        ),
        (
            {"state": "starting", "phases_ms": {**STARTING, "listening": 300}},
            ["wk-1 on node-a: listens, /health does not answer 200 yet"],
        ),
        (
            {
                "state": "starting",
                "phases_ms": {**STARTING, "listening": 300},
                "health_problem": {
                    "message": "GET /health on port 8000 answered 404",
                    "fix": "set health.path",
                    "since": NOW,
                },
            },
            ["wk-1 on node-a: GET /health on port 8000 answered 404; set health.path"],
        ),
        (
            {"state": "running", "phases_ms": {**STARTING, "listening": 300, "healthy": 9_000}},
            ["wk-1 on node-a: runs, ready after 9.0 s"],
        ),
    ]
    for now, (fields, news) in enumerate(looks):
        assert progress.note(deploying, [worker_document(**fields)], now) == news
        assert progress.outcome is None
    serving = endpoint_document(workers_running=1, workers={"min": 1})
    assert progress.note(serving, [worker_document(**looks[-1][0])], 20) == []
    assert outcome(progress) == (
        Ending.SERVES,
        "serves with 1 worker: http://127.0.0.1:8080/echo",
    )


def test_an_endpoint_with_min_0_serves_at_0_workers() -> None:
    progress = Progress("echo", 1, now=0)
    progress.note(endpoint_document(), [], 1)
    assert outcome(progress) == (
        Ending.SERVES,
        "serves at 0 workers, a request starts one: http://127.0.0.1:8080/echo",
    )


def test_what_serves_already_is_no_news() -> None:
    progress = Progress("echo", 1, now=0)
    running = worker_document(state="running", phases_ms={"decided": 0, "healthy": 400})
    serving = endpoint_document(workers={"min": 1}, workers_running=1)
    assert progress.note(serving, [running], 1) == []
    assert outcome(progress)[0] is Ending.SERVES


def test_what_serves_with_too_few_workers_is_waited_for() -> None:
    progress = Progress("echo", 1, now=0)
    progress.note(endpoint_document(workers={"min": 2}, workers_running=1), [], 1)
    assert progress.outcome is None
    progress.note(endpoint_document(workers={"min": 2}, workers_running=2), [], 1)
    assert outcome(progress)[0] is Ending.SERVES


def test_a_state_of_the_revision_before_is_no_end() -> None:
    progress = Progress("echo", 2, now=0)
    progress.note(endpoint_document(revision=1, state="serving"), [], 1)
    assert progress.outcome is None


def test_what_ran_before_is_no_news_and_what_goes_is() -> None:
    progress = Progress("echo", 2, now=0)
    updating = endpoint_document(state="updating", revision=2)
    old = worker_document("wk-old", state="running", phases_ms={"decided": 0, "healthy": 400})
    new = worker_document("wk-new", revision=2)
    assert progress.note(updating, [old, new], 1) == [
        "echo: updating",
        "wk-new on node-a: placed, its node has not begun",
    ]
    draining = worker_document("wk-old", state="draining", in_flight=2)
    assert progress.note(updating, [draining], 2) == [
        "wk-old (revision 1) on node-a: finishes its requests",
        "wk-new: gone",
    ]


def test_a_rollback_is_a_failure_with_its_reason_and_the_workers_last_lines() -> None:
    progress = Progress("echo", 2, now=0)
    failed = worker_document(
        "wk-2",
        revision=2,
        state="failed",
        reason="exited",
        message="exited with exit code 3",
        exit_code=3,
        log_tail=["oh no"],
    )
    news = progress.note(endpoint_document(revision=2, state="updating"), [failed], 1)
    assert news == ["echo: updating", "wk-2 on node-a: failed (exited): exited with exit code 3"]
    progress.note(
        endpoint_document(revision=3), [], 2, successor=successor("rolled_back", "could not start")
    )
    assert outcome(progress) == (Ending.FAILED, "could not start")
    assert progress.failure is not None
    assert progress.failure.log_tail == ("oh no",)


def test_a_failure_that_only_the_endpoint_tells_is_kept() -> None:
    progress = Progress("echo", 1, now=0)
    crashed = endpoint_document(
        state="failed", reason="crash_backoff", message="exited", exit_code=3, log_tail=["oh no"]
    )
    assert progress.note(crashed, [], 1) == ["echo: failed: exited"]
    assert outcome(progress) == (Ending.FAILED, "exited")
    assert progress.failure is not None
    assert (progress.failure.exit_code, progress.failure.log_tail) == (3, ("oh no",))


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        ("updated", "somebody changed it meanwhile: revision 3 took its place"),
        ("rolled_back", "somebody went back to another meanwhile: revision 3 took its place"),
    ],
)
def test_somebody_else_may_take_its_place(cause: str, told: str) -> None:
    progress = Progress("echo", 2, now=0)
    progress.note(endpoint_document(revision=3), [], 1, successor=successor(cause))
    assert outcome(progress) == (Ending.SUPERSEDED, told)


@pytest.mark.parametrize("state", ["paused", "deleting", None])
def test_what_is_paused_or_deleted_is_waited_for_no_longer(state: str | None) -> None:
    progress = Progress("echo", 1, now=0)
    progress.note(endpoint_document(state=state) if state else None, [], 1)
    assert outcome(progress)[0] is Ending.SUPERSEDED


def test_an_api_that_is_away_is_told_once_and_its_return_too() -> None:
    progress = Progress("echo", 1, now=0)
    assert progress.note_away("cannot be reached") == ["cannot be reached; still waiting"]
    assert progress.note_away("cannot be reached") == []
    deploying = endpoint_document(state="deploying")
    assert progress.note(deploying, [], 1) == ["the api answers again", "echo: deploying"]


def test_a_pull_has_a_bar_a_rate_and_an_end() -> None:
    progress = Progress("echo", 1, now=100)
    deploying = endpoint_document(state="deploying")

    def pulled(n_bytes: int) -> WorkerDocument:
        return worker_document(state="pulling", pull_bytes=n_bytes, pull_total_bytes=4_000_000_000)

    progress.note(deploying, [pulled(0)], 100)
    progress.note(deploying, [pulled(1_000_000_000)], 102)
    assert progress.pull_rate(pulled(0)) == 500_000_000
    head, line = panel(progress, 102, width=200, height=10)
    assert head.plain == "echo  deploying  revision 1  2.0 s"
    assert line.plain == (
        f"  wk-1 on node-a  pulling  {'━' * 24}  1.0 of 4.0 GB  500 MB/s  6.0 s left"
    )
    progress.note(deploying, [pulled(1_000_000_000)], 120)  # it stands still
    assert not progress.pull_rate(pulled(0))


def test_a_worker_counts_on_between_two_looks_by_our_own_clock() -> None:
    progress = Progress("echo", 1, now=0)
    starting = worker_document(state="starting", phases_ms=STARTING)
    deploying = endpoint_document(state="deploying")
    progress.note(deploying, [starting], 50)
    assert progress.elapsed_s(starting, 53) == pytest.approx(3.12)
    progress.note(deploying, [starting], 53)
    assert progress.elapsed_s(starting, 54) == pytest.approx(4.12)
    running = worker_document(state="running", phases_ms={**STARTING, "healthy": 2_000})
    progress.note(deploying, [running], 55)
    assert progress.elapsed_s(running, 99) == 2.0


@given(st.integers(-5, 10**12), st.integers(0, 10**12), st.integers(0, 60))
def test_a_bar_is_as_wide_as_it_is_told(done: int, total: int, width: int) -> None:
    assert bar(max(done, 0), total, width).cell_len == width


@given(st.integers(10, 200), st.integers(1, 40), st.integers(0, 30))
def test_a_panel_stays_within_its_terminal(width: int, height: int, n_workers: int) -> None:
    progress = Progress("echo", 2, now=0)
    workers = [
        worker_document(f"wk-{n}", revision=1 + n % 2, state="starting", message="x\x1b[2J" * 20)
        for n in range(n_workers)
    ]
    crashed = endpoint_document(
        state="updating", revision=2, message="m" * 300, reason="crash_backoff", log_tail=["l"] * 9
    )
    progress.note(crashed, workers, 1)
    lines = panel(progress, 2, width=width, height=height)
    assert len(lines) <= max(height, 4)
    assert all(line.cell_len <= width for line in lines)
    assert all("\x1b" not in line.plain for line in lines)
