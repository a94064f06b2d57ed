"""Workers and nodes as the api shows them, and the events that it writes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.messages import (
    EndpointNews,
    EngineProblem,
    Gpu,
    NodeRecord,
    QueueReport,
    WorkerAssignment,
    WorkerLoad,
    WorkerStatus,
)
from penstock_common.nats.kv import Bucket
from penstock_common.states import EndpointState, Phase, WorkerState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.cloud_events import read_message
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
KEY = subjects.worker_key("node-a", "wk-1")


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def assign(api: ApiServer, endpoint_id: str) -> WorkerAssignment:
    now = CLOCK.utc()
    assignment = WorkerAssignment(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id=endpoint_id,
        spec=(await api.record(endpoint_id)).spec,
        revision=1,
        gpus=("GPU-1",),
        driver="rt-1",
        fencing_token=1,
        decided_at=now,
        assigned_at=now + timedelta(milliseconds=3),
    )
    await api.put(subjects.WORKERS, KEY, assignment)
    return assignment


async def test_a_worker_is_shown_from_its_assignment_to_its_last_request(api: ApiServer) -> None:
    made = await api.create(secrets={"TOKEN": "s3cret"})
    # The lease of the scheduler shares the bucket and is no worker.
    await Bucket(api.bus, subjects.WORKERS).put(subjects.SCHEDULER_LEASE_KEY, b"scheduler-1")
    assignment = await assign(api, made["id"])

    async def workers() -> list[dict[str, object]]:
        answer = await api.ask("GET", "/v1/endpoints/echo/workers")
        assert answer.status == 200
        found: list[dict[str, object]] = answer.document["workers"]
        return found

    (worker,) = await eventually(workers)
    assert (worker["id"], worker["state"], worker["driver"]) == ("wk-1", "pending", "rt-1")
    assert (worker["gpus"], worker["node_id"]) == (["GPU-1"], "node-a")
    assert worker["phases_ms"] == {"decided": 0.0, "assigned": 3.0}
    assert "spec" not in worker

    status = WorkerStatus(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id=made["id"],
        revision=1,
        state=WorkerState.RUNNING,
        host="127.0.0.1",
        port=4000,
        phases={Phase.HEALTHY: assignment.decided_at + timedelta(milliseconds=250)},
        updated_at=CLOCK.utc(),
    )
    await api.put(subjects.WORKER_STATUS, KEY, status)
    load = WorkerLoad(
        worker_id="wk-1", in_flight=2, accepting=True, idle_s=0, assignment_revision=1
    )
    report = QueueReport(
        router_id="rt-1",
        endpoint_id=made["id"],
        sent_at=CLOCK.utc(),
        waiting=0,
        oldest_wait_s=0,
        in_flight=2,
        arrivals_total=2,
        completions_total=0,
        workers=(load,),
    )

    async def busy() -> dict[str, object] | None:
        # Again each time: an old report counts no more.
        await api.bus.publish(subjects.queue_metrics(made["id"]), report.encode())
        (worker,) = await workers()
        return worker if (worker["in_flight"], worker["state"]) == (2, "running") else None

    found = await eventually(busy)
    assert found is not None
    worker = found
    assert (worker["state"], worker["host"], worker["port"]) == ("running", "127.0.0.1", 4000)
    assert worker["phases_ms"] == {"decided": 0.0, "assigned": 3.0, "healthy": 250.0}


async def test_an_endpoint_with_a_worker_is_not_removed(api: ApiServer) -> None:
    made = await api.create()
    await assign(api, made["id"])
    await eventually(lambda: _n_workers(api))
    await api.ask("DELETE", "/v1/endpoints/echo")
    await api.say(made["id"], EndpointState.DELETING, message="1 worker left")
    shown = await api.becomes("echo", message="1 worker left")
    assert shown["state"] == "deleting"
    await Bucket(api.bus, subjects.WORKERS).delete(KEY)

    async def is_gone() -> bool:
        return (await api.ask("GET", "/v1/endpoints/echo")).status == 404

    await eventually(is_gone)


async def _n_workers(api: ApiServer) -> int:
    answer = await api.ask("GET", "/v1/endpoints/echo/workers")
    return len(answer.document["workers"])


async def test_a_node_is_shown_with_the_holders_of_its_gpus(api: ApiServer) -> None:
    assert (await api.ask("GET", "/v1/nodes")).document == {"nodes": [], "next_cursor": None}
    made = await api.create()
    await assign(api, made["id"])
    node = NodeRecord(
        node_id="node-a",
        hostname="a",
        address="127.0.0.1",
        runtime="process",
        gpus=tuple(
            Gpu(uuid=f"GPU-{n}", product="rtx-4090-24gb", vram_bytes=24 * 10**9) for n in (1, 2)
        ),
        cpu_count=2,
        memory_bytes=1,
        disk_free_bytes=1,
        version="0.1.0",
        started_at=CLOCK.utc(),
        beat=1,
    )
    await api.put(subjects.NODES, "node-a", node)

    async def nodes() -> list[dict[str, object]]:
        found: list[dict[str, object]] = (await api.ask("GET", "/v1/nodes")).document["nodes"]
        return [
            node for node in found if node["gpus_total"]
        ]  # else it is known by its worker alone

    (shown,) = await eventually(nodes)
    assert (shown["id"], shown["gpus_total"], shown["workers"]) == ("node-a", 2, ["wk-1"])
    assert shown["gpus_free"] == 1
    assert shown["engine_problem"] is None

    problem = EngineProblem(message="connection refused", since=CLOCK.utc())
    await api.put(
        subjects.NODES, "node-a", node.model_copy(update={"engine_problem": problem, "beat": 2})
    )

    async def said() -> object:
        return (await nodes())[0]["engine_problem"]

    assert await eventually(said) == {
        "message": "connection refused",
        "since": problem.model_dump(mode="json")["since"],
        "full": False,
    }


async def test_every_change_becomes_an_event(api: ApiServer) -> None:
    events = await api.listen(f"{subjects.PREFIX}.events.endpoint.>")
    made = await api.create(secrets={"TOKEN": "s3cret"})
    for method, path, body in (
        ("PATCH", "", {"env": {"A": "1"}}),
        ("PATCH", "", {"env": {"A": "1"}}),  # changes nothing
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("DELETE", "", None),
        ("DELETE", "", None),  # changes nothing
    ):
        assert (await api.ask(method, f"/v1/endpoints/echo{path}", body)).status < 300

    async def all_there() -> bool:
        return len(events) == 5

    await eventually(all_there)
    verbs = ["created", "updated", "paused", "resumed", "deleted"]
    assert [event.subject for event in events] == [
        subjects.endpoint_event(made["id"], verb) for verb in verbs
    ]
    assert len({event.headers["ce-id"] for event in events}) == 5
    told = [read_message(event) for event in events]
    assert [row.name for row, _ in told] == [f"penstock.endpoint.{verb}" for verb in verbs]
    news = [data for _, data in told if isinstance(data, EndpointNews)]
    assert (news[0].endpoint_id, news[0].app_name) == (made["id"], "echo")
    assert (news[0].secrets, news[1].env) == (("TOKEN",), ("A",))
    assert [n.paused for n in news[1:4]] == [False, True, False]
    assert news[4].deleted_at is not None
    assert b"s3cret" not in events[0].data
