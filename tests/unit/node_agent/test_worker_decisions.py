"""What the agent decides about a worker, whatever happens and in whatever order."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock_common.messages import WorkerAssignment, WorkerStatus
from penstock_common.specs import EndpointSpec
from penstock_common.states import (
    ENDED,
    WORKER_TRANSITIONS,
    DesiredState,
    Phase,
    WorkerReason,
    WorkerState,
)
from penstock_node_agent.workers.decide import (
    Ending,
    FoundState,
    Presence,
    Step,
    WorkerView,
    blame_gpus,
    decide,
    exit_ending,
    newer,
    resume,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
RUN, DRAIN, STOP = DesiredState.RUNNING, DesiredState.DRAINING, DesiredState.STOPPED
WANTED = st.sampled_from([RUN, DRAIN, STOP, None])
FAILED = Ending(WorkerState.FAILED, WorkerReason.EXITED)

endings = st.sampled_from([None, FAILED, Ending(WorkerState.STOPPED, WorkerReason.AGENT_STOPPED)])
views = st.builds(
    WorkerView,
    state=st.sampled_from(WorkerState),
    presence=st.sampled_from(Presence),
    ready=st.booleans(),
    ending=endings,
).map(lambda v: replace(v, ending=FAILED) if v.state in ENDED and v.ending is None else v)


@given(WANTED, views)
def test_the_reported_state_may_always_follow_the_last_one(
    wanted: DesiredState | None, view: WorkerView
) -> None:
    state = decide(wanted, view).state
    assert state is view.state or state in WORKER_TRANSITIONS[view.state]


@given(WANTED, views)
def test_deciding_twice_decides_the_same(wanted: DesiredState | None, view: WorkerView) -> None:
    first = decide(wanted, view)
    assert decide(wanted, replace(view, state=first.state)).step is first.step


@given(WANTED, views)
def test_a_worker_that_may_exist_is_never_reported_newly_ended(
    wanted: DesiredState | None, view: WorkerView
) -> None:
    decision = decide(wanted, view)
    if view.state not in ENDED and view.presence in (Presence.UP, Presence.PARTIAL):
        assert decision.state not in ENDED


@given(WANTED, views)
def test_a_worker_with_an_ending_is_never_started(
    wanted: DesiredState | None, view: WorkerView
) -> None:
    if view.ending is not None or (wanted is not RUN and view.presence is Presence.ABSENT):
        assert decide(wanted, view).step is not Step.START


@given(WANTED, views)
def test_a_worker_is_forgotten_only_without_assignment_and_remains(
    wanted: DesiredState | None, view: WorkerView
) -> None:
    if decide(wanted, view).step is Step.FORGET:
        assert wanted is None
        assert view.presence is Presence.ABSENT


@pytest.mark.parametrize(
    ("wanted", "view", "state", "step"),
    [
        (RUN, WorkerView(), "pending", "start"),
        (DRAIN, WorkerView(), "pending", "wait"),
        (STOP, WorkerView(), "stopped", "wait"),
        (None, WorkerView(), "stopped", "forget"),
        (RUN, WorkerView(WorkerState.PULLING, Presence.PARTIAL), "pulling", "start"),
        (RUN, WorkerView(WorkerState.PULLING, Presence.UP), "starting", "watch"),
        (RUN, WorkerView(WorkerState.STARTING, Presence.UP, ready=True), "running", "watch"),
        (DRAIN, WorkerView(WorkerState.RUNNING, Presence.UP, ready=True), "draining", "watch"),
        (RUN, WorkerView(WorkerState.DRAINING, Presence.UP, ready=True), "running", "watch"),
        (DRAIN, WorkerView(WorkerState.STARTING, Presence.UP), "draining", "watch"),
        (RUN, WorkerView(WorkerState.DRAINING, Presence.UP), "draining", "watch"),
        (STOP, WorkerView(WorkerState.RUNNING, Presence.UP, ready=True), "draining", "stop"),
        (STOP, WorkerView(WorkerState.STARTING, Presence.UP), "starting", "stop"),
        (RUN, WorkerView(WorkerState.STARTING, Presence.REMAINS), "starting", "remove"),
        (RUN, WorkerView(WorkerState.RUNNING, Presence.REMAINS, True, FAILED), "failed", "remove"),
        (RUN, WorkerView(WorkerState.FAILED, Presence.ABSENT, True, FAILED), "failed", "wait"),
        (RUN, WorkerView(WorkerState.FAILED, Presence.UP, True, FAILED), "failed", "stop"),
    ],
)
def test_table(wanted: DesiredState | None, view: WorkerView, state: str, step: str) -> None:
    decision = decide(wanted, view)
    assert (decision.state, decision.step) == (state, step)


class Life(RuleBasedStateMachine):
    """A worker whose steps succeed, fail or are interrupted while what is wanted changes."""

    def __init__(self) -> None:
        super().__init__()
        self.view = WorkerView()
        self.wanted: DesiredState | None = RUN
        self.exists = False
        self.starts_after_ending = 0
        self.forgotten = False

    def _decide(self) -> Step:
        decision = decide(self.wanted, self.view)
        assert decision.state is self.view.state or (
            decision.state in WORKER_TRANSITIONS[self.view.state]
        )
        self.view = replace(self.view, state=decision.state)
        return decision.step

    @precondition(lambda self: not self.forgotten)
    @rule(wanted=WANTED)
    def want(self, wanted: DesiredState | None) -> None:
        self.wanted = wanted
        self._decide()

    @precondition(lambda self: not self.forgotten)
    @rule(how=st.sampled_from(["ok", "fails", "interrupted"]))
    def step(self, how: str) -> None:
        step = self._decide()
        view = self.view
        if step is Step.START:
            if view.ending is not None:
                self.starts_after_ending += 1
            self.exists = True
            presence = Presence.UP if how == "ok" else Presence.PARTIAL
            ending = FAILED if how == "fails" else None
            self.view = replace(view, presence=presence, ending=ending)
        elif step is Step.WATCH and how == "ok":
            self.view = replace(view, ready=True)
        elif step is Step.WATCH and how == "fails":
            self.exists = False
            self.view = replace(view, presence=Presence.REMAINS, ending=FAILED)
        elif step is Step.STOP:
            ending = view.ending or Ending(WorkerState.STOPPED)
            self.view = replace(view, ending=ending)
            if how == "ok":
                self.exists = False
                self.view = replace(self.view, presence=Presence.REMAINS)
        elif step is Step.REMOVE and how == "ok":
            self.view = replace(view, presence=Presence.ABSENT)
        elif step is Step.FORGET:
            self.forgotten = True
        self._decide()

    @precondition(lambda self: self.forgotten)
    @rule()
    def rest(self) -> None:
        """Nothing happens to a forgotten worker."""

    @invariant()
    def ended_means_gone(self) -> None:
        assert not (self.exists and self.view.state in ENDED)

    @invariant()
    def no_second_life(self) -> None:
        assert self.starts_after_ending == 0

    @invariant()
    def forgotten_means_gone(self) -> None:
        assert not (self.forgotten and self.exists)

    def teardown(self) -> None:
        """However it came here: once it is unassigned and steps succeed, it goes."""
        self.wanted = None
        for _ in range(5):
            if not self.forgotten:
                self.step("ok")
        assert self.forgotten


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestLife = Life.TestCase


def status(state: WorkerState, *phases: Phase, **changes: object) -> WorkerStatus:
    fields = {
        "worker_id": "wk-1",
        "node_id": "node-a",
        "endpoint_id": "ep-1",
        "revision": 1,
        "state": state,
        "phases": dict.fromkeys(phases, AT),
        "updated_at": AT,
    }
    return WorkerStatus.model_validate(fields | changes)


RUNNING = status(WorkerState.RUNNING, Phase.STARTED, Phase.HEALTHY)
UP = FoundState(created_only=False, running=True)
DEAD = FoundState(created_only=False, running=False, exit_code=137, oom_killed=True)


def test_a_running_worker_is_taken_over_as_running() -> None:
    view = resume(RUNNING, UP, wanted=RUN)
    assert view == WorkerView(WorkerState.RUNNING, Presence.UP, ready=True)
    assert decide(RUN, view).state is WorkerState.RUNNING


def test_a_worker_found_dead_failed_with_its_exit_code() -> None:
    view = resume(RUNNING, DEAD, wanted=RUN)
    assert view.presence is Presence.REMAINS
    assert view.ending is not None
    assert (view.ending.reason, view.ending.exit_code) == (WorkerReason.OOM_KILLED, 137)


@pytest.mark.parametrize("found", [DEAD, None])
def test_a_worker_that_was_to_stop_and_is_found_ended_has_not_failed(
    found: FoundState | None,
) -> None:
    view = resume(RUNNING, found, wanted=DesiredState.STOPPED)
    while (decision := decide(DesiredState.STOPPED, view)).step is not Step.WAIT:
        assert decision.step is Step.REMOVE
        view = replace(view, state=decision.state, presence=Presence.ABSENT)
    assert decision.state is WorkerState.STOPPED


def test_a_worker_that_ran_and_is_not_found_failed_and_is_not_run_again() -> None:
    decision = decide(RUN, resume(RUNNING, None, wanted=RUN))
    assert (decision.state, decision.step) == (WorkerState.FAILED, Step.WAIT)


@pytest.mark.parametrize("state", ["pending", "pulling", "starting"])
def test_a_start_that_a_crash_interrupted_goes_on(state: str) -> None:
    assert decide(RUN, resume(status(WorkerState(state)), None, wanted=RUN)).step is Step.START


def test_a_created_container_is_started_not_doubled() -> None:
    found = FoundState(created_only=True, running=False)
    view = resume(status(WorkerState.STARTING), found, wanted=RUN)
    assert view.presence is Presence.PARTIAL
    assert decide(RUN, view).step is Step.START


@given(st.sampled_from([None, UP, DEAD]))
def test_a_reported_ending_is_final(found: FoundState | None) -> None:
    told = status(
        WorkerState.STOPPED, reason=WorkerReason.IDLE, exit_code=143, message="m", log_tail=("l",)
    )
    view = resume(told, found, wanted=RUN)
    assert decide(RUN, view).state is WorkerState.STOPPED
    assert view.ending == Ending(WorkerState.STOPPED, WorkerReason.IDLE, "m", 143, ("l",))


@given(st.sampled_from([None, RUNNING]), st.sampled_from([None, UP, DEAD]), WANTED)
def test_whatever_is_found_can_be_decided_upon(
    told: WorkerStatus | None, found: FoundState | None, wanted: DesiredState | None
) -> None:
    view = resume(told, found, wanted=wanted)
    state = decide(wanted, view).state
    assert state is view.state or state in WORKER_TRANSITIONS[view.state]


@pytest.mark.parametrize(
    ("code", "oom", "ready", "reason", "message"),
    [
        (3, False, True, "exited", "exited with exit code 3"),
        (None, False, False, "exited", "exited with an unknown exit code before it was healthy"),
        (137, True, True, "oom_killed", "ran out of memory and was killed"),
    ],
)
def test_an_exit_is_explained(
    code: int | None, oom: bool, ready: bool, reason: str, message: str
) -> None:
    ending = exit_ending(code, oom_killed=oom, ready=ready)
    said, _, advice = (ending.message or "").partition("; ")
    assert (ending.state, ending.reason, said) == ("failed", reason, message)
    assert advice


def test_a_lower_fencing_token_changes_nothing() -> None:
    spec = EndpointSpec.model_validate({"name": "a", "app_name": "a", "image": {"image": "i:1"}})
    old = WorkerAssignment(
        spec=spec,
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id="ep-1",
        revision=1,
        fencing_token=5,
        decided_at=AT,
        assigned_at=AT,
    )
    stale, fresh = (old.model_copy(update={"fencing_token": n}) for n in (4, 6))
    assert newer(None, stale) is stale
    assert newer(old, stale) is old
    assert newer(old, old.model_copy(update={"driver": "rt-1"})).driver == "rt-1"
    assert newer(old, fresh) is fresh


@pytest.mark.parametrize(
    ("code", "line", "reason"),
    [
        (127, "[FATAL tini (7)] exec /nope failed: No such file or directory", "start_failed"),
        (126, "[FATAL tini (8)] exec /x failed: Permission denied", "start_failed"),
        (126, "[FATAL tini (8)] exec /x failed: Exec format error", "start_failed"),
        (127, "sh: 1: nope: not found", "exited"),
        (1, "[FATAL tini (7)] exec /nope failed: No such file or directory", "exited"),
    ],
)
def test_a_program_that_could_not_be_started_is_told_from_one_that_exits(
    code: int, line: str, reason: str
) -> None:
    ending = exit_ending(code, oom_killed=False, ready=False, log_tail=("before", line))
    assert (ending.reason, ending.exit_code) == (reason, code)
    assert ending.log_tail == ("before", line)


@pytest.mark.parametrize(
    ("reason", "sick", "expected"),
    [
        ("exited", {"GPU-1"}, "gpu_fault"),
        ("unhealthy", {"GPU-1"}, "gpu_fault"),
        ("start_timeout", {"GPU-1"}, "gpu_fault"),
        ("oom_killed", {"GPU-1"}, "oom_killed"),
        ("engine_restarted", {"GPU-1"}, "engine_restarted"),
        ("exited", set(), "exited"),
    ],
)
def test_a_sick_gpu_is_blamed_where_it_may_be_the_cause(
    reason: str, sick: set[str], expected: str
) -> None:
    ending = Ending(WorkerState.FAILED, WorkerReason(reason), "ended", 3, ("line",))
    blamed = blame_gpus(ending, frozenset(sick))
    assert (blamed.reason, blamed.exit_code, blamed.log_tail) == (expected, 3, ("line",))
    assert ("GPU-1 reports a fault" in (blamed.message or "")) is (expected == "gpu_fault")
