"""Nodes beside the installation's own: they join, are drained, restart, are lost, and leave."""

import asyncio
import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from penstock_node_agent.runtimes.docker.containers import NODE_LABEL
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.installation import (
    CLOCK,
    PENSTOCK,
    ROOT,
    Installation,
    eventually,
    processes_with,
)
from tests.support.node_agent import NodeAgent, joined
from tests.support.traffic import enough, traffic

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
SERVER = (
    "import http.server, os; H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.send_header('Content-Length', '2'), "
    "s.end_headers(), s.wfile.write(b'{}')); "
    "http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
pytestmark = [pytest.mark.slow, pytest.mark.nats]


async def nodes(penstock: Installation) -> dict[str, tuple[int, int]]:
    """Node → (GPUs free, GPUs in all)."""
    answer = await penstock.api("GET", "/v1/nodes")
    return {n["id"]: (n["gpus_free"], n["gpus_total"]) for n in answer["nodes"]}


async def test_workers_that_need_gpus_go_where_gpus_are_and_share_none(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "none")
    async with Installation(tmp_path / "data", *options) as penstock:
        made = await penstock.deploy(
            "gauge",
            f"sh -c 'echo gpus=$CUDA_VISIBLE_DEVICES; exec {GAUGE}'",
            gpu={"count": 2, "products": ["rtx-4090-24gb"]},
            workers={"min": 2, "max": 3},
            secrets={"TOKEN": "canary-7531"},
        )
        assert "canary-7531" not in str(made)

        async def lacks_gpus() -> bool:
            shown = await penstock.api("GET", "/v1/endpoints/gauge")
            return bool(shown["reason"] == "no_capacity")

        await eventually(lacks_gpus, "the endpoint says that there are no GPUs")

        async with joined(penstock, "big", GPUS="4 x rtx-4090-24gb"):

            async def two_run() -> bool:
                workers = await penstock.workers("gauge")
                return [w["state"] for w in workers] == ["running"] * 2

            await eventually(two_run, "two workers run on the node that joined")
            workers = await penstock.workers("gauge")
            assert {w["node_id"] for w in workers} == {"node-big"}
            assert len({gpu for w in workers for gpu in w["gpus"]}) == 4
            assert (await nodes(penstock))["node-big"] == (0, 4)
            status, _ = await penstock.get("gauge", "/")
            assert status == 200

        async def has_left() -> bool:
            return "node-big" not in await nodes(penstock)

        await eventually(has_left, "the node has left")
        await penstock.no_workers("gauge")


async def command(penstock: Installation, *arguments: str) -> str:
    """What `penstock` prints, once it has ended well."""
    process = await asyncio.create_subprocess_exec(
        PENSTOCK,
        *arguments,
        "--data",
        str(penstock.data),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def running_on(penstock: Installation, app: str, node: NodeAgent, n: int) -> list[str]:
    """Ids of the endpoint's workers when `n` run, all of them there."""
    workers = await penstock.workers(app)
    there = [w["id"] for w in workers if (w["state"], w["node_id"]) == ("running", node.node_id)]
    return sorted(there) if len(there) == len(workers) == n else []


async def test_a_drain_moves_the_workers_and_fails_no_request(tmp_path: Path) -> None:
    options = ("--runtime", "process", "--gpus", "none")
    pool = {"placement": {"node_selector": {"pool": "p"}}}
    async with (
        Installation(tmp_path / "data", *options) as penstock,
        joined(penstock, "a", LABELS="pool=p") as a,
    ):
        limits = {"min": 2, "max": 2, "max_concurrency": 8}
        await penstock.deploy("gauge", GAUGE, workers=limits, **pool)
        await eventually(lambda: running_on(penstock, "gauge", a, 2), "two workers run on a")
        async with (
            joined(penstock, "b", LABELS="pool=p") as b,
            traffic(penstock) as statuses,
        ):
            assert await eventually(b.state, "b has joined") == "ready"
            await enough(statuses, 50)
            told = await command(penstock, "node", "drain", a.node_id, "--wait")
            assert told.splitlines()[-1] == f"{a.node_id} is drained"
            assert len(told.splitlines()) > 1, told
            assert await running_on(penstock, "gauge", b, 2)
            shown = json.loads(await command(penstock, "node", "show", a.node_id, "--json"))
            assert (shown["state"], shown["workers"]) == ("drained", [])
            await command(penstock, "node", "uncordon", a.node_id)
            assert await a.state() == "ready"
            await enough(statuses, len(statuses) + 50)
        assert set(statuses) == {200}


def containers(engine: APIClient, node: NodeAgent) -> list[str]:
    """Ids of the containers of a node's workers."""
    filters = {"label": f"{NODE_LABEL}={node.node_id}"}
    return [c["Id"] for c in engine.containers(all=True, filters=filters)]


def remove_all(engine: APIClient, node: NodeAgent) -> None:
    """What a test that failed left behind."""
    for container in containers(engine, node):
        engine.remove_container(container, force=True, v=True)
    engine.close()


async def is_in(node: NodeAgent, state: str) -> bool:
    return await node.state() == state


async def test_nodes_that_are_away(tmp_path: Path) -> None:
    """Two stories at once, since both wait for longer than a heartbeat lives."""
    engine = APIClient(base_url=docker_host(), version="auto", timeout=30)
    options = ("--runtime", "process", "--gpus", "none")
    async with (
        Installation(tmp_path / "data", *options) as penstock,
        joined(
            penstock,
            f"docker-{uuid.uuid4().hex[:8]}",
            LABELS="kind=docker",
            RUNTIME="docker",
            RESTART_GRACE_S="120",
        ) as node,
        joined(penstock, "a", LABELS="pool=p,own=a") as a,
    ):
        try:
            async with asyncio.TaskGroup() as stories:
                stories.create_task(an_upgrade_interrupts_nothing(penstock, node, engine))
                stories.create_task(a_lost_node_keeps_what_nothing_replaced(penstock, a))
        finally:
            await asyncio.to_thread(remove_all, engine, node)


async def an_upgrade_interrupts_nothing(
    penstock: Installation, node: NodeAgent, engine: APIClient
) -> None:
    """Its agent is told to end and comes back: the same container, no request failed."""
    await penstock.deploy(
        "gauge",
        "",
        image={"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'},
        placement={"node_selector": {"kind": "docker"}},
        workers={"min": 1, "max": 1, "max_concurrency": 8},
    )
    before = await eventually(lambda: running_on(penstock, "gauge", node, 1), "a container serves")
    made = await asyncio.to_thread(containers, engine, node)
    async with traffic(penstock) as statuses:
        await enough(statuses, 50)
        await node.stop()
        ended_at = CLOCK.monotonic()
        await eventually(lambda: is_in(node, "restarting"), "it is awaited back")

        async def would_be_lost() -> bool:
            # An agent that had died would be lost by then, and its worker replaced.
            return CLOCK.monotonic() - ended_at > 12

        await eventually(would_be_lost, "time passes")
        assert await node.state() == "restarting"
        await node.start()
        await eventually(lambda: is_in(node, "ready"), "it is back")
        await enough(statuses, len(statuses) + 50)
    assert set(statuses) == {200}
    assert await running_on(penstock, "gauge", node, 1) == before
    assert await asyncio.to_thread(containers, engine, node) == made
    # The new agent looks after it: told to, it stops it.
    await penstock.api("DELETE", "/v1/endpoints/gauge")

    async def none_left() -> bool:
        return not await asyncio.to_thread(containers, engine, node)

    await eventually(none_left, "the container is gone")


async def a_lost_node_keeps_what_nothing_replaced(penstock: Installation, a: NodeAgent) -> None:
    """Its agent is frozen for longer than its heartbeat lives; its workers run on meanwhile."""
    limits = {"min": 1, "max": 1}
    for app, labels in (("moves", {"pool": "p"}), ("stays", {"own": "a"})):
        await penstock.deploy(app, GAUGE, workers=limits, placement={"node_selector": labels})

    async def both_run() -> bool:
        found = [await running_on(penstock, app, a, 1) for app in ("moves", "stays")]
        return all(found)

    await eventually(both_run, "both run on a")
    (moved,), (kept,) = await penstock.workers("moves"), await penstock.workers("stays")
    async with joined(penstock, "b", LABELS="pool=p") as b:
        await eventually(lambda: is_in(b, "ready"), "b has joined")
        a.send(signal.SIGSTOP)
        await eventually(lambda: running_on(penstock, "moves", b, 1), "it is replaced", within_s=90)
        assert await a.state() == "lost"

        async def is_kept() -> bool:  # each endpoint is seen to in its turn
            (waits,) = await penstock.workers("stays")
            assert waits["id"] == kept["id"]
            shown = await penstock.api("GET", "/v1/endpoints/stays")
            told = (waits["reason"], waits["driver"], shown["workers_running"], shown["reason"])
            return told == ("node_lost", None, 0, "no_capacity")

        await eventually(is_kept, "the one without another place is kept for its return")

        a.send(signal.SIGCONT)

        async def serves_again() -> dict[str, Any] | None:
            status, answer = await penstock.get("stays", "/")
            return answer if status == 200 else None

        answer = await eventually(serves_again, "the kept worker serves again")
        assert answer["worker"] == kept["id"]
        (after,) = await penstock.workers("stays")
        assert after["phases_ms"] == kept["phases_ms"]

        async def has_gone() -> bool:
            return not processes_with(moved["id"])

        await eventually(has_gone, "what was replaced is stopped")
        assert await running_on(penstock, "moves", b, 1)
        assert processes_with(kept["id"])
