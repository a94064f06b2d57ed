"""States of endpoints and workers in Novita's words."""

from typing import Any

from penstock_api.novita.states import ENDPOINT_STATES, WORKER_STATES
from penstock_api.novita.v1 import worker
from penstock_client.documents import WorkerDocument
from penstock_common.states import DesiredState, EndpointState, WorkerReason, WorkerState
from tests.support.dialect_rig import EP, NOW


def test_every_state_has_a_word_of_theirs() -> None:
    assert ENDPOINT_STATES.keys() == set(EndpointState)
    assert WORKER_STATES.keys() == set(WorkerState)
    # As a client of theirs knows them.
    known = {
        "serving", "running", "stopped", "failed", "pending", "creating", "updating",
        "deleting", "removed",
    }  # fmt: skip
    assert {*ENDPOINT_STATES.values(), *WORKER_STATES.values()} <= known
    usable = [state for state, word in ENDPOINT_STATES.items() if word == "serving"]
    assert usable == [EndpointState.SERVING]
    running = [state for state, word in WORKER_STATES.items() if word == "running"]
    assert running == [WorkerState.RUNNING]


def worker_document(state: WorkerState, **fields: Any) -> WorkerDocument:
    return WorkerDocument(
        id="wk-1",
        endpoint_id=EP,
        node_id="node-1",
        revision=1,
        desired=DesiredState.RUNNING,
        state=state,
        gpus=(),
        driver=None,
        host=None,
        port=None,
        decided_at=NOW,
        in_flight=None,
        idle_s=None,
        exit_code=None,
        log_tail=(),
        **{"reason": None, "message": None, "phases_ms": {}, **fields},
    )


def test_a_worker_tells_when_it_was_ready_and_why_it_failed() -> None:
    running = worker(worker_document(WorkerState.RUNNING, phases_ms={"healthy": 1500.0}))
    assert (running.healthy, running.drain, running.state.state) == (True, False, "running")
    assert running.created_at == "2030-01-01T00:00:00.000Z"
    assert running.ready_at == "2030-01-01T00:00:01.500Z"
    failed = worker(
        worker_document(WorkerState.FAILED, reason=WorkerReason.EXITED, message="exited with 1")
    )
    assert failed.state.model_dump() == {
        "state": "failed",
        "error": "exited",
        "message": "exited with 1",
    }
    draining = worker(worker_document(WorkerState.DRAINING, reason=WorkerReason.IDLE))
    assert (draining.drain, draining.healthy, draining.state.error) == (True, False, "")
