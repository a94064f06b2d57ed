"""Prewarms over HTTP, with a real nats-server behind and the nodes' agents played."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_api.prewarms import overall
from penstock_common import subjects
from penstock_common.messages import Gpu, NodeRecord, PrewarmRecord, PrewarmState, PrewarmStatus
from penstock_common.nats.kv import Bucket
from penstock_common.states import WorkerReason
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

PATH = "/v1/prewarms"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        for node_id, product, runtime in (
            ("node-a", "t4-16gb", "docker"),
            ("node-b", "h100-80gb", "docker"),
            ("node-c", "t4-16gb", "process"),
        ):
            await join(server, node_id, product, runtime)

        async def known() -> bool:
            return len((await server.ask("GET", "/v1/nodes")).document["nodes"]) == 3

        await eventually(known)
        yield server


async def join(api: ApiServer, node_id: str, product: str, runtime: Any) -> None:
    record = NodeRecord(
        node_id=node_id,
        hostname=node_id,
        address="127.0.0.1",
        runtime=runtime,
        gpus=(Gpu(uuid=f"GPU-{node_id}", product=product, vram_bytes=1),),
        cpu_count=1,
        memory_bytes=1,
        disk_free_bytes=1,
        version="0",
        started_at=CLOCK.utc(),
        beat=1,
    )
    await api.put(subjects.NODES, node_id, record)


async def make(api: ApiServer, **changes: Any) -> dict[str, Any]:
    made = await api.ask("POST", PATH, {"image": "acme/echo:1", **changes})
    assert made.status == 201, made
    assert made.headers["Location"] == f"{PATH}/{made.document['id']}"
    document: dict[str, Any] = made.document
    return document


def nodes(document: dict[str, Any]) -> list[str]:
    return [item["node_id"] for item in document["progress"]]


async def test_a_prewarm_is_for_the_nodes_that_it_names(api: ApiServer) -> None:
    everywhere = await make(api)
    assert nodes(everywhere) == ["node-a", "node-b"], "process nodes have no images"
    assert everywhere["state"] == "pending"
    assert nodes(await make(api, nodes=["node-b", "node-z"])) == ["node-b"]
    assert nodes(await make(api, products=["T4-16GB"])) == ["node-a"]
    assert nodes(await make(api, nodes=["node-b"], products=["t4-16gb"])) == []
    listed = (await api.ask("GET", PATH)).document["prewarms"]
    assert listed[0] == everywhere
    assert len(listed) == 4


async def test_its_progress_is_what_the_agents_say(api: ApiServer) -> None:
    made = await make(api)
    entry = await Bucket(api.bus, subjects.PREWARMS).get(made["id"])
    assert entry is not None
    assert PrewarmRecord.decode(entry.value).image == "acme/echo:1"

    async def say(node_id: str, state: PrewarmState, **fields: Any) -> None:
        status = PrewarmStatus(
            node_id=node_id, prewarm_id=made["id"], state=state, updated_at=CLOCK.utc(), **fields
        )
        key = subjects.prewarm_status_key(node_id, made["id"])
        await api.put(subjects.PREWARM_STATUS, key, status)

    async def becomes(state: str) -> dict[str, Any]:
        async def is_so() -> dict[str, Any] | None:
            shown: dict[str, Any] = (await api.ask("GET", f"{PATH}/{made['id']}")).document
            return shown if shown["state"] == state else None

        found = await eventually(is_so)
        assert found is not None
        return found

    await say("node-a", PrewarmState.PULLING, pull_bytes=5, pull_total_bytes=10)
    shown = await becomes("pulling")
    assert [item["state"] for item in shown["progress"]] == ["pulling", "pending"]
    assert (shown["progress"][0]["pull_bytes"], shown["progress"][0]["pull_total_bytes"]) == (5, 10)
    await say("node-a", PrewarmState.DONE, image_digest="sha256:1")
    await say("node-b", PrewarmState.FAILED, reason=WorkerReason.NO_SPACE, message="full")
    shown = await becomes("failed")
    assert shown["progress"][0]["image_digest"] == "sha256:1"
    assert (shown["progress"][1]["reason"], shown["progress"][1]["message"]) == ("no_space", "full")
    await say("node-b", PrewarmState.DONE)
    await becomes("done")

    assert (await api.ask("DELETE", f"{PATH}/{made['id']}")).status == 200
    gone = await api.ask("GET", f"{PATH}/{made['id']}")
    assert (gone.status, gone.document["reason"]) == (404, "prewarm_not_found")


async def test_its_credentials_exist_and_stay(api: ApiServer) -> None:
    wrong = await api.ask("POST", PATH, {"image": "a/b", "registry_auth_id": "ra-none"})
    assert wrong.status == 422
    assert wrong.document["errors"][0]["pointer"] == "/registry_auth_id"
    auth = {"name": "ours", "username": "robot", "password": "x"}
    auth_id = (await api.ask("POST", "/v1/registry-auths", auth)).document["id"]
    made = await make(api, registry_auth_id=auth_id)
    kept = await api.ask("DELETE", f"/v1/registry-auths/{auth_id}")
    assert (kept.status, kept.document["reason"]) == (409, "registry_auth_in_use")
    assert made["id"] in kept.document["detail"]
    await api.ask("DELETE", f"{PATH}/{made['id']}")
    assert (await api.ask("DELETE", f"/v1/registry-auths/{auth_id}")).status == 200


@pytest.mark.parametrize(
    ("document", "pointer"),
    [({}, "/image"), ({"image": ""}, "/image"), ({"image": "a", "node": ["x"]}, "/node")],
)
async def test_what_is_wrong_is_named(
    api: ApiServer, document: dict[str, Any], pointer: str
) -> None:
    answer = await api.ask("POST", PATH, document)
    assert answer.status == 422
    assert [e["pointer"] for e in answer.document["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("", "pending"),
        ("done pulling failed", "pulling"),
        ("done pending failed", "pending"),
        ("done failed", "failed"),
        ("done done", "done"),
    ],
)
def test_the_state_over_all_nodes(states: str, expected: str) -> None:
    assert overall([PrewarmState(state) for state in states.split()]) is PrewarmState(expected)
