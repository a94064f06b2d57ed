"""Cordon, drain and uncordon through the api and the command, with the other services played."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_client.client import PenstockClient
from penstock_client.errors import ApiError, DrainEndedError, WaitTimeoutError
from penstock_common import subjects
from penstock_common.messages import Gpu, NodeOrder, NodeOrdered, NodeRecord, WorkerAssignment
from penstock_common.nats.kv import Bucket
from penstock_common.specs import parse_endpoint
from penstock_common.states import DesiredState, EndpointReason, EndpointState, NodeWish
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.cloud_events import read_message
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
SPEC = parse_endpoint({"name": "e", "app_name": "e", "image": {"image": "acme/echo"}})


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def join(api: ApiServer, **changes: Any) -> None:
    record = NodeRecord(
        node_id="node-a",
        hostname="a",
        address="127.0.0.1",
        runtime="process",
        gpus=(Gpu(uuid="GPU-1", product="rtx-4090-24gb", vram_bytes=24 * 10**9),),
        cpu_count=2,
        memory_bytes=1,
        disk_free_bytes=1,
        version="0.1.0",
        started_at=CLOCK.utc(),
        beat=1,
    )
    await api.put(subjects.NODES, "node-a", record.model_copy(update=changes))


async def leave(api: ApiServer) -> None:
    await Bucket(api.bus, subjects.NODES).delete("node-a")


async def assign(api: ApiServer, endpoint_id: str = "ep-1", **changes: Any) -> None:
    now = CLOCK.utc()
    assignment = WorkerAssignment(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id=endpoint_id,
        spec=SPEC,
        revision=1,
        gpus=("GPU-1",),
        fencing_token=1,
        decided_at=now,
        assigned_at=now,
    )
    key = subjects.worker_key("node-a", "wk-1")
    await api.put(subjects.WORKERS, key, assignment.model_copy(update=changes))


async def unassign(api: ApiServer) -> None:
    await Bucket(api.bus, subjects.WORKERS).delete(subjects.worker_key("node-a", "wk-1"))


async def becomes(api: ApiServer, state: str) -> dict[str, Any]:
    async def is_so() -> dict[str, Any] | None:
        answer = await api.ask("GET", "/v1/nodes/node-a")
        shown: dict[str, Any] = answer.document
        return shown if answer.status == 200 and shown["state"] == state else None

    found = await eventually(is_so)
    assert found is not None
    return found


async def order(api: ApiServer) -> NodeOrder | None:
    entry = await Bucket(api.bus, subjects.NODE_ORDERS).get("node-a")
    return NodeOrder.decode(entry.value) if entry else None


async def test_a_node_goes_from_ready_through_its_orders_and_back(api: ApiServer) -> None:
    events = await api.listen(f"{subjects.PREFIX}.events.node.>")
    await join(api)
    assert (await becomes(api, "ready"))["order"] is None

    shown = (await api.ask("POST", "/v1/nodes/node-a/cordon", {"reason": "fan"})).document
    assert (shown["state"], shown["order"]["wish"], shown["order"]["reason"]) == (
        "cordoned",
        "cordoned",
        "fan",
    )
    await assign(api)
    await eventually(lambda: _has_worker(api))
    shown = (await api.ask("POST", "/v1/nodes/node-a/drain", {"deadline_s": 60})).document
    assert (shown["state"], shown["order"]["reason"]) == ("draining", "")
    (worker,) = shown["worker_details"]
    assert (worker["id"], worker["state"], shown["workers"]) == ("wk-1", "pending", ["wk-1"])
    stored = await order(api)
    assert stored is not None
    assert stored.deadline_at == stored.at + timedelta(seconds=60)

    await unassign(api)
    await becomes(api, "drained")
    shown = (await api.ask("POST", "/v1/nodes/node-a/uncordon")).document
    assert (shown["state"], shown["order"], await order(api)) == ("ready", None, None)

    async def all_told() -> bool:
        return len(events) == 3

    await eventually(all_told)
    verbs = ["cordoned", "draining", "uncordoned"]
    read = [read_message(event) for event in events]
    assert [row.name for row, _ in read] == [f"penstock.node.{verb}" for verb in verbs]
    told = [data.order for _, data in read if isinstance(data, NodeOrdered)]
    assert [order.wish if order else None for order in told] == ["cordoned", "draining", None]
    assert told[1] == stored


async def _has_worker(api: ApiServer) -> bool:
    return bool((await api.ask("GET", "/v1/nodes/node-a")).document["workers"])


async def test_a_repeated_order_changes_nothing_and_keeps_what_it_leaves_out(
    api: ApiServer,
) -> None:
    events = await api.listen(f"{subjects.PREFIX}.events.node.>")
    await join(api)
    await becomes(api, "ready")
    path = "/v1/nodes/node-a/drain"
    first = (await api.ask("POST", path, {"reason": "disk", "deadline_s": 60})).document
    again = (await api.ask("POST", path)).document
    assert again == first == (await api.ask("POST", path, {"reason": "disk"})).document
    other = (await api.ask("POST", path, {"deadline_s": None})).document
    assert other["order"] == {**first["order"], "deadline_at": None}
    # To cordon ends the drain, and the node stays closed.
    closed = (await api.ask("POST", "/v1/nodes/node-a/cordon")).document
    assert (closed["state"], closed["order"]["wish"]) == ("cordoned", "cordoned")
    for _ in range(2):
        assert (await api.ask("POST", "/v1/nodes/node-a/uncordon")).status == 200

    async def all_told() -> bool:
        return len(events) >= 4

    await eventually(all_told)
    assert [e.headers["ce-type"].rpartition(".")[2] for e in events] == [
        "draining",
        "draining",
        "cordoned",
        "uncordoned",
    ]


async def test_an_order_outlives_the_node_and_the_node_is_known_by_it(api: ApiServer) -> None:
    await join(api)
    await becomes(api, "ready")
    await api.ask("POST", "/v1/nodes/node-a/cordon")
    await leave(api)
    shown = await becomes(api, "lost")
    assert (shown["hostname"], shown["gpus"], shown["order"]["wish"]) == (None, [], "cordoned")
    await join(api, restarting=True)
    await becomes(api, "restarting")
    await leave(api)
    await becomes(api, "lost")
    last = (await api.ask("POST", "/v1/nodes/node-a/uncordon")).document
    assert (last["state"], last["order"]) == ("lost", None)
    assert (await api.ask("GET", "/v1/nodes/node-a")).status == 404
    assert (await api.ask("GET", "/v1/nodes")).document == {"nodes": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"reason": 5}, "/reason"),
        ({"deadline_s": -1}, "/deadline_s"),
        ({"deadline_s": "60"}, "/deadline_s"),
        ({"dedline_s": 1}, "/dedline_s"),
    ],
)
async def test_what_is_wrong_in_a_request_is_named(
    api: ApiServer, document: dict[str, object], pointer: str
) -> None:
    await join(api)
    await becomes(api, "ready")
    answer = await api.ask("POST", "/v1/nodes/node-a/drain", document)
    assert answer.status == 422
    assert [error["pointer"] for error in answer.document["errors"]] == [pointer]
    assert await order(api) is None


async def test_an_unknown_node_is_no_node(api: ApiServer) -> None:
    for method, path in (
        ("GET", ""),
        ("POST", "/cordon"),
        ("POST", "/uncordon"),
        ("POST", "/drain"),
    ):
        answer = await api.ask(method, f"/v1/nodes/node-x{path}")
        assert (answer.status, answer.document["reason"]) == (404, "node_not_found")


async def test_the_client_waits_for_a_drain_and_sees_it_taken_back(api: ApiServer) -> None:
    await join(api)
    await assign(api)
    await becomes(api, "ready")
    async with PenstockClient(api.url, ADMIN_KEY) as client:
        await client.nodes.drain("node-a", "fan")
        with pytest.raises(WaitTimeoutError):
            await client.nodes.wait_until_drained("node-a", timeout_s=0.3, poll_s=0.05)
        waiting = asyncio.create_task(client.nodes.wait_until_drained("node-a", timeout_s=60))
        await unassign(api)
        assert (await waiting).state == "drained"
        await client.nodes.uncordon("node-a")
        with pytest.raises(DrainEndedError):
            await client.nodes.wait_until_drained("node-a", timeout_s=60)
        with pytest.raises(ApiError):
            await client.nodes.wait_until_drained("node-x", timeout_s=60)


async def begin(api: ApiServer, *arguments: str) -> asyncio.subprocess.Process:
    """The command, begun."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK", "FORCE_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock_cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env=env
        | {
            "PENSTOCK_API_URL": api.url,
            "PENSTOCK_API_KEY": ADMIN_KEY,
            "PYTHONUNBUFFERED": "1",
        },
    )


async def penstock(api: ApiServer, *arguments: str) -> tuple[int | None, str]:
    """Exit code and stdout of the command."""
    process = await begin(api, *arguments)
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


async def next_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode()


@pytest.mark.slow
async def test_the_command_tells_how_far_a_drain_is(api: ApiServer) -> None:
    made = await api.create()
    await join(api)
    await assign(api, made["id"])
    await becomes(api, "ready")
    lack = "no capacity: 1 node is draining"
    await api.say(
        made["id"], EndpointState.SERVING, reason=EndpointReason.NO_CAPACITY, message=lack
    )
    await api.becomes("echo", message=lack)

    drain = await begin(api, "node", "drain", "node-a", "--wait")
    waiting = f"node-a is draining: 1 worker until others run elsewhere (echo: {lack})\n"
    assert await next_line(drain) == waiting
    (_, listed), (_, shown) = await asyncio.gather(
        penstock(api, "node", "list"), penstock(api, "node", "show", "node-a")
    )
    assert listed.splitlines()[1].split()[:2] == ["node-a", "draining"]
    assert "wk-1" in shown
    assert "echo" in shown
    await assign(api, made["id"], desired=DesiredState.DRAINING)
    assert await next_line(drain) == "node-a is draining: 1 worker finishing 0 in flight\n"
    await unassign(api)
    assert await next_line(drain) == "node-a is drained\n"
    assert await drain.wait() == 0

    code, out = await penstock(api, "node", "uncordon", "node-a")
    assert (code, out) == (0, "node-a is ready, 0 workers on it\n")
    code, out = await penstock(api, "node", "cordon", "node-a", "--reason", "fan", "--json")
    assert (code, json.loads(out)["order"]["reason"]) == (0, "fan")
    assert (await penstock(api, "node", "show", "node-x"))[0] == 5
    assert (await order(api)) is not None
    assert NodeWish((await becomes(api, "cordoned"))["order"]["wish"]) is NodeWish.CORDONED
