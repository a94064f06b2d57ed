"""The tables of states: every pair is a step or an error, and nothing leads out of the end."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common import states
from penstock_common.errors import IllegalTransitionError
from penstock_common.states import (
    ENDED,
    ENDPOINT_TRANSITIONS,
    WORKER_TRANSITIONS,
    EndpointState,
    WorkerState,
    advance_endpoint,
    advance_worker,
)

MACHINES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]], Callable[[Any, Any], Any]]] = [
    (WorkerState, WORKER_TRANSITIONS, advance_worker),
    (EndpointState, ENDPOINT_TRANSITIONS, advance_endpoint),
]


@pytest.mark.parametrize(("enum", "table", "advance"), MACHINES)
def test_every_pair_of_states(
    enum: type[StrEnum],
    table: Mapping[Any, frozenset[Any]],
    advance: Callable[[Any, Any], Any],
) -> None:
    assert set(table) == set(enum)
    for old in enum:
        for new in enum:
            if new is old or new in table[old]:
                assert advance(old, new) is new
            else:
                with pytest.raises(IllegalTransitionError, match=f"{old} → {new}"):
                    advance(old, new)


@pytest.mark.parametrize(
    ("table", "start"),
    [(WORKER_TRANSITIONS, WorkerState.PENDING), (ENDPOINT_TRANSITIONS, EndpointState.DEPLOYING)],
)
def test_every_state_can_be_reached(table: Mapping[Any, frozenset[Any]], start: StrEnum) -> None:
    reached, border = {start}, [start]
    while border:
        for state in table[border.pop()] - reached:
            reached.add(state)
            border.append(state)
    assert reached == set(table)


def test_no_worker_comes_back_and_any_may_fail() -> None:
    for state, following in WORKER_TRANSITIONS.items():
        assert not following if state in ENDED else WorkerState.FAILED in following


@given(st.lists(st.sampled_from(WorkerState), max_size=12))
def test_a_worker_that_ended_stays_ended(tries: list[WorkerState]) -> None:
    state, ended_as = WorkerState.PENDING, None
    for new in tries:
        try:
            state = advance_worker(state, new)
        except IllegalTransitionError:
            continue
        if ended_as is not None:
            assert state is ended_as
        if state in ENDED:
            ended_as = state


def test_values_are_lower_case_words() -> None:
    """They are written to KV, metrics and APIs."""
    for enum in vars(states).values():
        if isinstance(enum, type) and issubclass(enum, StrEnum):
            for member in enum:
                assert member.value == member.name.lower()
