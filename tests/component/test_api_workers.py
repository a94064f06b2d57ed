"""Lists of workers, and orders to stop one, through the api with the other services played."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.messages import WorkerAssignment, WorkerOrder, WorkerStatus
from penstock_common.nats.kv import Bucket
from penstock_common.specs import parse_endpoint
from penstock_common.states import WorkerState
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
BEGAN = CLOCK.utc()


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def assign(
    api: ApiServer,
    number: int,
    endpoint_id: str,
    node_id: str = "node-a",
    state: WorkerState | None = None,
    owner: str | None = None,
) -> None:
    """Worker `wk-<number>`, the oldest first, shown by the api."""
    worker_id, decided_at = f"wk-{number}", BEGAN + timedelta(seconds=number)
    key = subjects.worker_key(node_id, worker_id)
    if state is not None:
        status = WorkerStatus(
            worker_id=worker_id,
            node_id=node_id,
            endpoint_id=endpoint_id,
            revision=1,
            state=state,
            updated_at=decided_at,
        )
        await api.put(subjects.WORKER_STATUS, key, status)
    assignment = WorkerAssignment(
        worker_id=worker_id,
        node_id=node_id,
        endpoint_id=endpoint_id,
        spec=parse_endpoint({"name": "e", "app_name": "e", "image": {"image": "acme/echo"}}),
        revision=1,
        owner=owner,
        fencing_token=1,
        decided_at=decided_at,
        assigned_at=decided_at,
    )
    await api.put(subjects.WORKERS, key, assignment)

    async def is_shown() -> bool:
        shown = await api.ask("GET", f"/v1/workers/{worker_id}")
        return shown.status == 200 and shown.document["state"] == (state or WorkerState.PENDING)

    await eventually(is_shown)


async def listed(api: ApiServer, path: str) -> list[str]:
    answer = await api.ask("GET", path)
    assert answer.status == 200, answer
    return [worker["id"] for worker in answer.document["workers"]]


async def test_workers_of_all_endpoints_are_listed_oldest_first_filtered_and_in_pages(
    api: ApiServer,
) -> None:
    echo, other = await api.create("echo"), await api.create("other")
    await assign(api, 3, echo["id"], "node-b", WorkerState.RUNNING)
    await assign(api, 1, echo["id"], "node-a", WorkerState.RUNNING)
    await assign(api, 2, other["id"], "node-b")
    assert await listed(api, "/v1/workers") == ["wk-1", "wk-2", "wk-3"]
    assert await listed(api, "/v1/workers?endpoint=echo") == ["wk-1", "wk-3"]
    assert await listed(api, f"/v1/workers?endpoint={other['id']}") == ["wk-2"]
    assert await listed(api, "/v1/workers?node=node-b") == ["wk-2", "wk-3"]
    assert await listed(api, "/v1/workers?state=pending") == ["wk-2"]
    assert await listed(api, "/v1/workers?state=running&node=node-b") == ["wk-3"]
    assert await listed(api, "/v1/endpoints/echo/workers?node=node-a") == ["wk-1"]
    page = (await api.ask("GET", "/v1/workers?limit=2")).document
    assert [worker["id"] for worker in page["workers"]] == ["wk-1", "wk-2"]
    rest = (await api.ask("GET", f"/v1/workers?limit=2&cursor={page['next_cursor']}")).document
    assert [worker["id"] for worker in rest["workers"]] == ["wk-3"]
    assert rest["next_cursor"] is None
    assert (await api.ask("GET", "/v1/workers?endpoint=none")).status == 404
    refused = await api.ask("GET", "/v1/workers?state=asleep")
    assert (refused.status, refused.document["reason"]) == (400, "malformed_filter")


async def order_of(api: ApiServer, number: int = 1) -> WorkerOrder | None:
    key = subjects.worker_key("node-a", f"wk-{number}")
    entry = await Bucket(api.bus, subjects.WORKER_ORDERS).get(key)
    return WorkerOrder.decode(entry.value) if entry else None


async def test_a_stop_is_an_order_that_stands_until_the_worker_is_gone(api: ApiServer) -> None:
    made = await api.create()
    await assign(api, 1, made["id"])
    events = await api.listen(subjects.worker_event("*", "*", "stop_ordered"))
    body = {"reason": "hangs", "deadline_s": 30}
    answer = await api.ask("POST", "/v1/workers/wk-1/stop", body)
    order = await order_of(api)
    assert answer.status == 202
    assert order is not None
    assert order.deadline_at == order.at + timedelta(seconds=30)
    shown = answer.document["order"]
    assert shown == (await api.ask("GET", "/v1/workers/wk-1")).document["order"]
    assert (shown["reason"], order.endpoint_id) == ("hangs", made["id"])
    again = await api.ask("POST", "/v1/workers/wk-1/stop")
    assert again.document["order"] == shown
    assert await order_of(api) == order

    async def is_told() -> bool:
        return len(events) == 1  # what changed nothing is not told

    await eventually(is_told)
    assert WorkerOrder.decode(events[0].data) == order


async def test_an_order_is_removed_once_its_worker_is_gone(api: ApiServer) -> None:
    made = await api.create()
    await assign(api, 1, made["id"])
    await assign(api, 2, made["id"])
    long_ago = BEGAN - timedelta(minutes=1)  # too young ones are kept: see the unit tests
    for number in (1, 2):
        order = WorkerOrder(
            worker_id=f"wk-{number}", node_id="node-a", endpoint_id=made["id"], at=long_ago
        )
        key = subjects.worker_key("node-a", order.worker_id)
        await api.put(subjects.WORKER_ORDERS, key, order)
    await Bucket(api.bus, subjects.WORKERS).delete(subjects.worker_key("node-a", "wk-1"))

    async def is_gone() -> bool:
        return await order_of(api, 1) is None

    await eventually(is_gone)
    assert await order_of(api, 2) is not None
    gone = await api.ask("GET", "/v1/workers/wk-1")
    assert (gone.status, gone.document["reason"]) == (404, "worker_not_found")


async def test_only_who_may_change_the_endpoint_stops_its_workers(api: ApiServer) -> None:
    keys: dict[str, str] = {}
    for name in ("mine", "theirs"):
        made = await api.ask("POST", "/v1/api-keys", {"name": name, "scope": "deploy"})
        keys[name] = made.document["key"]
    document = {"app_name": "echo", "image": {"image": "acme/echo"}}
    created = await api.ask("POST", "/v1/endpoints", document, key=keys["mine"])
    await assign(api, 1, created.document["id"])
    await assign(api, 2, "ep-gone")  # of an endpoint that nobody owns any more

    async def stop(number: int, key: str) -> int:
        return (await api.ask("POST", f"/v1/workers/wk-{number}/stop", key=key)).status

    assert await stop(1, keys["theirs"]) == 403
    assert await stop(1, keys["mine"]) == 202
    assert await stop(2, keys["mine"]) == 403
    assert (await api.ask("POST", "/v1/workers/wk-2/stop")).status == 202
    assert (await api.ask("POST", "/v1/workers/wk-3/stop")).status == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"deadline_s": -1}, "/deadline_s"), ({"force": True}, "/force"), ([], "")],
)
async def test_a_wrong_request_is_refused_and_orders_nothing(
    api: ApiServer, body: Any, pointer: str
) -> None:
    made = await api.create()
    await assign(api, 1, made["id"])
    answer = await api.ask("POST", "/v1/workers/wk-1/stop", body)
    assert answer.status == 422
    assert [error["pointer"] for error in answer.document["errors"]] == [pointer]
    assert await order_of(api) is None
