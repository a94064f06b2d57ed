"""The documents that the api shows."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock_api.loads import EndpointLoad
from penstock_api.node_views import node_document
from penstock_api.views import endpoint_document, shown_state, worker_document
from penstock_common.messages import (
    EndpointRecord,
    EndpointStatus,
    Gpu,
    GpuReading,
    NodeRecord,
    WorkerAssignment,
    WorkerLoad,
    WorkerStatus,
)
from penstock_common.specs import parse_endpoint
from penstock_common.states import (
    DesiredState,
    EndpointReason,
    EndpointState,
    GpuReason,
    Phase,
    WorkerReason,
    WorkerState,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SPEC = parse_endpoint(
    {
        "name": "Echo",
        "app_name": "echo",
        "image": {"image": "acme/echo"},
        "secrets": {"B": "sealed-b", "A": "sealed-a"},
    }
)
RECORD = EndpointRecord(endpoint_id="ep-1", spec=SPEC, revision=2, created_at=NOW, updated_at=NOW)
ASSIGNMENT = WorkerAssignment(
    worker_id="wk-1",
    node_id="node-a",
    endpoint_id="ep-1",
    spec=SPEC,
    revision=2,
    gpus=("GPU-1",),
    driver="rt-1",
    fencing_token=1,
    decided_at=NOW,
    assigned_at=NOW + timedelta(milliseconds=2),
)


def status(state: EndpointState, revision: int = 2) -> EndpointStatus:
    return EndpointStatus(
        endpoint_id="ep-1",
        state=state,
        reason=EndpointReason.CRASH_BACKOFF,
        message="exited with 7",
        revision=revision,
        workers_running=3,
        fencing_token=1,
        updated_at=NOW,
        exit_code=7,
        log_tail=("boom",),
    )


@pytest.mark.parametrize(
    ("changes", "told", "shown"),
    [
        ({}, None, "deploying"),
        ({}, status(EndpointState.SERVING), "serving"),
        ({}, status(EndpointState.FAILED), "failed"),
        # the scheduler has not seen the last change yet
        ({}, status(EndpointState.SERVING, revision=1), "updating"),
        ({}, status(EndpointState.FAILED, revision=1), "updating"),
        ({}, status(EndpointState.DEPLOYING, revision=1), "deploying"),
        ({}, status(EndpointState.PAUSED), "deploying"),
        ({"paused": True}, status(EndpointState.SERVING), "paused"),
        ({"paused": True}, None, "paused"),
        ({"deleted_at": NOW}, status(EndpointState.SERVING), "deleting"),
        ({"deleted_at": NOW, "paused": True}, None, "deleting"),
    ],
)
def test_the_state_is_never_older_than_the_record(
    changes: dict[str, object], told: EndpointStatus | None, shown: str
) -> None:
    assert shown_state(RECORD.model_copy(update=changes), told) == shown


def test_an_endpoint_shows_names_of_secrets_only() -> None:
    load = EndpointLoad(2, 1, 0.5, service_p50_s=0.25, service_p95_s=4.0, arrivals_per_s=1.5)
    document = endpoint_document(
        RECORD, status(EndpointState.FAILED), load, router_url="http://r"
    ).model_dump(mode="json")
    assert document["secrets"] == ["A", "B"]
    assert "sealed" not in str(document)
    assert document["url"] == "http://r/echo"
    assert document["load"] == {
        "waiting": 2,
        "in_flight": 1,
        "oldest_wait_s": 0.5,
        "service_p50_s": 0.25,
        "service_p95_s": 4.0,
        "service_p99_s": None,
        "first_byte_p50_s": None,
        "first_byte_p95_s": None,
        "arrivals_per_s": 1.5,
    }
    assert document["queue"] == {"max_waiting": 1000, "max_wait_s": 300.0}
    assert (document["reason"], document["exit_code"]) == ("crash_backoff", 7)


def test_the_reason_of_another_state_is_not_shown() -> None:
    document = endpoint_document(
        RECORD, status(EndpointState.FAILED, revision=1), EndpointLoad(), router_url="http://r"
    )
    assert document.state == "updating"
    assert (document.reason, document.message, document.log_tail) == (None, None, ())


def test_a_worker_that_no_agent_has_seen_is_pending() -> None:
    document = worker_document(ASSIGNMENT, None, None)
    assert document.state is WorkerState.PENDING
    assert document.phases_ms == {"decided": 0.0, "assigned": 2.0}
    assert (document.in_flight, document.idle_s, document.host) == (None, None, None)


def test_a_worker_joins_what_three_services_know() -> None:
    seen = WorkerStatus(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id="ep-1",
        revision=2,
        state=WorkerState.DRAINING,
        host="10.0.0.1",
        port=4000,
        phases={
            Phase.HEALTHY: NOW + timedelta(seconds=1.5),
            Phase.STARTED: NOW + timedelta(seconds=1),
        },
        updated_at=NOW,
    )
    load = WorkerLoad(
        worker_id="wk-1", in_flight=2, accepting=False, idle_s=0, assignment_revision=9
    )
    wanted = ASSIGNMENT.model_copy(
        update={"desired": DesiredState.DRAINING, "reason": WorkerReason.IDLE}
    )
    document = worker_document(wanted, seen, load)
    assert (document.state, document.desired, document.reason) == ("draining", "draining", "idle")
    assert list(document.phases_ms.items()) == [
        ("decided", 0.0),
        ("assigned", 2.0),
        ("started", 1000.0),
        ("healthy", 1500.0),
    ]
    assert (document.in_flight, document.port) == (2, 4000)


def test_a_node_counts_gpus_that_are_healthy_and_free() -> None:
    node = NodeRecord(
        node_id="node-a",
        hostname="a",
        address="10.0.0.1",
        runtime="docker",
        gpus=tuple(
            Gpu(
                uuid=f"GPU-{n}",
                product="rtx-4090-24gb",
                vram_bytes=24,
                reason=GpuReason.XID if n == 2 else None,
                message="the driver told XID 95" if n == 2 else None,
            )
            for n in range(4)
        ),
        gpu_readings={"GPU-2": GpuReading(temperature_c=71, xids=(95,))},
        cpu_count=8,
        memory_bytes=1,
        disk_free_bytes=1,
        version="0.1.0",
        started_at=NOW,
        beat=1,
    )
    document = node_document("node-a", node, None, [ASSIGNMENT])
    assert (document.gpus_total, document.gpus_free) == (4, 2)
    assert [gpu.worker_id for gpu in document.gpus] == [None, "wk-1", None, None]
    assert document.workers == ("wk-1",)
    assert [gpu.healthy for gpu in document.gpus] == [True, True, False, True]
    bad = document.gpus[2]
    assert (bad.reason, bad.message) == (GpuReason.XID, "the driver told XID 95")
    assert (bad.temperature_c, bad.xids, document.gpus[0].temperature_c) == (71, (95,), None)
