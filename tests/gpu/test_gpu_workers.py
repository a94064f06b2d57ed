"""Workers that compute on a real GPU: under the node agent, and through the whole platform."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock_common.states import DesiredState, WorkerState
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from tests.gpu.rig import (
    BALLAST_BYTES,
    SLACK_BYTES,
    WORKER,
    N,
    expected_row,
    until,
    used_bytes,
    worker_env,
)
from tests.support.agent_rig import AgentRig, agent_rig, endpoint_spec
from tests.support.installation import PENSTOCK, Installation
from tests.support.nats_server import NatsServer
from tests.support.process_workers import process_settings

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.nats]


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


@pytest.fixture
async def probe() -> AsyncIterator[NvmlProbe]:
    made = NvmlProbe()
    yield made
    await made.close()


async def test_a_worker_computes_on_the_gpu_of_its_assignment(
    rig: AgentRig, probe: NvmlProbe, tmp_path: Path
) -> None:
    await rig.start(ProcessRuntime(process_settings(tmp_path)), probe=probe)
    node = await rig.scheduler.node()
    assert node is not None
    gpu = next(gpu for gpu in node.gpus if gpu.healthy)
    before = used_bytes(gpu.uuid)

    assignment = await rig.scheduler.assign(
        endpoint_spec(
            WORKER, gpu={"count": 1}, env=worker_env(), health={"path": "/health", "interval_s": 1}
        ),
        gpus=(gpu.uuid,),
    )
    status = await rig.scheduler.until_state(assignment.worker_id, WorkerState.RUNNING, 120)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{status.host}:{status.port}/product?n={N}") as answer,
    ):
        told = await answer.json()
    assert told["gpus"] == [gpu.uuid]
    assert told["row"] == expected_row()
    assert told["worker"] == assignment.worker_id
    assert used_bytes(gpu.uuid) >= before + BALLAST_BYTES
    measured = (await probe.inventory()).readings[gpu.uuid]
    assert (measured.memory_used_bytes or 0) >= before + BALLAST_BYTES

    await rig.scheduler.want(assignment, DesiredState.STOPPED)
    await rig.scheduler.until_state(assignment.worker_id, WorkerState.STOPPED, 60)
    await until(
        lambda: used_bytes(gpu.uuid) <= before + SLACK_BYTES, "the GPU's memory is free again"
    )


async def test_a_worker_without_gpus_sees_none(rig: AgentRig, tmp_path: Path) -> None:
    await rig.start(ProcessRuntime(process_settings(tmp_path)))
    assignment = await rig.scheduler.assign(endpoint_spec(WORKER, env=worker_env()))
    status = await rig.scheduler.until_state(assignment.worker_id, WorkerState.FAILED, 60)
    assert "CUDA_ERROR_NO_DEVICE" in "".join(status.log_tail)


async def test_a_request_at_zero_workers_is_answered_by_a_gpu(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "auto")
    async with Installation(tmp_path / "data", *options) as penstock:
        (node,) = (await penstock.api("GET", "/v1/nodes"))["nodes"]
        healthy = {gpu["uuid"]: gpu for gpu in node["gpus"] if gpu["healthy"]}
        assert healthy
        before = {uuid: used_bytes(uuid) for uuid in healthy}
        await penstock.deploy(
            "product",
            WORKER,
            gpu={"count": 1},
            env=worker_env(),
            # Long enough for the looks below.
            workers={"min": 0, "max": 1, "idle_timeout_s": 8},
        )
        status, told = await penstock.get("product", f"/product?n={N}")
        assert status == 200, told
        (uuid,) = told["gpus"]
        assert uuid in healthy
        assert told["row"] == expected_row()
        assert used_bytes(uuid) >= before[uuid] + BALLAST_BYTES
        (worker,) = await penstock.workers("product")
        assert worker["gpus"] == [uuid]
        listed = await node_list(penstock)
        assert {g["uuid"]: g["worker_id"] for g in listed["gpus"]}[uuid] == worker["id"]

        await penstock.no_workers("product", within_s=60)
        await until(
            lambda: used_bytes(uuid) <= before[uuid] + SLACK_BYTES,
            "the GPU's memory is free again",
        )
        (node,) = (await penstock.api("GET", "/v1/nodes"))["nodes"]
        assert node["gpus_free"] == len(healthy)


async def node_list(penstock: Installation) -> dict[str, Any]:
    """The only node, as `penstock node list` shows it."""
    process = await asyncio.create_subprocess_exec(
        PENSTOCK,
        "node",
        "list",
        "--json",
        "--data",
        str(penstock.data),
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    (node,) = json.loads(out)["nodes"]
    shown: dict[str, Any] = node
    return shown
