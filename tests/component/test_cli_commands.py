"""The command, run as a person runs it, against a real api."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock_common.messages import (
    EndpointStatus,
    Gpu,
    ScaleDecision,
    ScaleHistory,
    ScaleInputs,
)
from penstock_common.states import EndpointReason, EndpointState, GpuReason
from penstock_common.subjects import ENDPOINT_STATUS, NODES, SCALE_HISTORY
from tests.fakes.scheduler_records import make_node
from tests.support.api_server import ADMIN_KEY, ApiServer, eventually, running_api
from tests.support.command_inside import Outcome, run_inside
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = [pytest.mark.nats, pytest.mark.slow]


class Penstock:
    """Runs `penstock` in a directory of its own."""

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.env = {
            k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK", "FORCE_"))
        } | {
            "PENSTOCK_API_URL": api.url,
            "PENSTOCK_API_KEY": ADMIN_KEY,
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    async def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "penstock_cli",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self.env | env,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        assert b"Traceback" not in err, err.decode()
        assert process.returncode is not None
        return Outcome(process.returncode, out.decode(), err.decode())

    async def inside(self, *arguments: str, stdin: str = "", **env: str) -> Outcome:
        """The same in this process, without a new interpreter."""
        return await run_inside(*arguments, env=self.env | env, stdin=stdin)


@pytest.fixture
async def penstock(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Penstock]:
    folder = tmp_path / "cwd"
    folder.mkdir()
    async with running_api(nats_server, tmp_path / "api") as api:
        yield Penstock(api, folder)


async def test_an_endpoint_lives_its_life_by_flags(penstock: Penstock) -> None:
    made = await penstock(
        *[
            "endpoint",
            "create",
            "--app-name",
            "echo",
            "--image",
            "acme/echo",
            "--gpus",
            "0",
            "--min",
            "0",
            "--max",
            "2",
        ],
        *[
            "--concurrency",
            "4",
            "--scale",
            "queue_delay=2",
            "--secret",
            "TOKEN",
            "--env",
            "A=1",
            "--json",
        ],
        TOKEN="s3cret",
    )
    assert (made.code, made.err) == (0, "")
    document: dict[str, Any] = json.loads(made.out)
    assert document == await penstock.api.show("echo")
    assert (document["workers"]["max_concurrency"], document["secrets"]) == (4, ["TOKEN"])

    listed = await penstock("endpoint", "list")
    assert listed.code == 0
    assert listed.out.splitlines()[1].split()[:2] == ["echo", "deploying"]
    assert json.loads((await penstock("endpoint", "list", "--json")).out) == {
        "endpoints": [document],
        "next_cursor": None,
    }
    assert document["url"] in (await penstock("endpoint", "show", "echo")).out

    updated = await penstock("endpoint", "update", "echo", "--max", "5", "--public")
    assert (updated.code, "updated echo" in updated.out) == (0, True)
    shown = await penstock.api.show("echo")
    assert (shown["workers"]["max"], shown["public"], shown["revision"]) == (5, True, 1)
    patched = await penstock(
        "endpoint", "update", "echo", "-f", "-", stdin='{"secrets": {"TOKEN": null}}'
    )
    assert patched.code == 0
    assert (await penstock.api.show("echo"))["secrets"] == []

    assert "paused" in (await penstock("endpoint", "pause", "echo")).out
    assert "deploying" in (await penstock("endpoint", "resume", "echo", "--json")).out
    assert (await penstock("worker", "list", "echo")).out == ""
    for group in ("worker", "node"):
        found = json.loads((await penstock(group, "list", "--json")).out)
        assert found == {f"{group}s": [], "next_cursor": None}

    deletion = asyncio.create_task(penstock("endpoint", "delete", "echo", "--wait"))
    await penstock.api.becomes("echo", state="deleting")
    await penstock.api.say(document["id"], EndpointState.DELETING)
    deleted = await deletion
    assert (deleted.code, deleted.out.startswith("deleted echo")) == (0, True)


async def test_a_canary_is_begun_shared_shown_and_ended(penstock: Penstock) -> None:
    await penstock.api.create("echo")
    begun = await penstock("endpoint", "update", "echo", "--env", "COLOUR=blue", "--canary", "10")
    assert (begun.code, "updated echo" in begun.out) == (0, True)
    assert (await penstock("endpoint", "update", "echo", "--canary", "30")).code == 0
    told = "30 % of the requests, the others for revision 1"
    assert told in (await penstock("endpoint", "show", "echo")).out
    refused = await penstock("endpoint", "update", "echo", "--env", "COLOUR=red")
    assert (refused.code != 0, "promote or abort" in refused.err) == (True, True)
    assert "aborted echo" in (await penstock("endpoint", "abort", "echo")).out
    assert (await penstock.api.show("echo"))["env"] == {}
    assert "no canary" in (await penstock("endpoint", "promote", "echo")).err.lower()


async def test_node_list_says_which_gpu_gets_no_worker_and_why(penstock: Penstock) -> None:
    gpus = (
        Gpu(uuid="GPU-1", product="h100-80gb", vram_bytes=80 * 10**9),
        Gpu(
            uuid="GPU-2",
            product="h100-80gb",
            vram_bytes=80 * 10**9,
            reason=GpuReason.LOST,
            message="off\x1b the bus",
        ),
    )
    node = make_node("node-a").model_copy(update={"gpus": gpus})
    await penstock.api.put(NODES, "node-a", node)

    async def told() -> bool:
        return bool((await penstock.api.ask("GET", "/v1/nodes")).document["nodes"])

    await eventually(told)
    shown = (await penstock("node", "list")).out
    assert "1 of 2" in shown
    (bad,) = [line for line in shown.splitlines() if "GPU-2" in line]
    assert bad.startswith("node-a: GPU-2 (h100-80gb) gets no worker: lost, off")
    assert "\x1b" not in bad
    assert "GPU-1" not in shown


async def test_explain_says_why_the_workers_changed(penstock: Penstock) -> None:
    made = await penstock.api.create("echo")
    assert (await penstock("endpoint", "explain", "echo")).err == "no decision yet\n"
    at = datetime(2030, 1, 1, tzinfo=UTC)
    inputs = ScaleInputs(
        policy="queue_delay",
        value=2,
        least=0,
        most=9,
        waiting=14,
        oldest_wait_s=3.1,
        in_flight=2,
        running=2,
        starting=0,
        arrivals_per_s=1.5,
        window_s=60,
        burst=True,
        service_time_s=0.25,
        start_s=10,
    )
    decisions = (
        ScaleDecision(at=at + timedelta(seconds=9), before=5, after=0, why="paused"),
        ScaleDecision(at=at, before=2, after=5, why="2 → 5: 14 waiting", inputs=inputs),
    )
    history = ScaleHistory(endpoint_id=made["id"], decisions=decisions, fencing_token=1)
    await penstock.api.put(SCALE_HISTORY, made["id"], history)

    async def told() -> bool:
        answer = await penstock.api.ask("GET", "/v1/endpoints/echo/decisions")
        return len(answer.document["decisions"]) == 2

    await eventually(told)
    shown = await penstock("endpoint", "explain", "echo")
    first, second = shown.out.splitlines()[1:]
    assert first.split(maxsplit=9) == [
        *("2030-01-01", "00:00:00Z", "2", "to", "5", "1.50/s", "burst", "0.25", "s"),
        "10.0 s  2 → 5: 14 waiting",
    ]
    assert second.split(maxsplit=8)[2:] == ["5", "to", "0", "-", "-", "-", "paused"]
    listed = json.loads((await penstock("endpoint", "explain", "echo", "--json")).out)
    assert [d["after"] for d in listed["decisions"]] == [0, 5]
    assert listed["decisions"][1]["inputs"]["waiting"] == 14

    trouble = EndpointStatus(
        endpoint_id=made["id"],
        state=EndpointState.DEPLOYING,
        reason=EndpointReason.STARTING,
        message="GET /health on port 8000 answered 404",
        revision=1,
        fencing_token=1,
        updated_at=at,
    )
    await penstock.api.put(ENDPOINT_STATUS, made["id"], trouble)

    async def stuck() -> bool:
        answer = await penstock.api.ask("GET", "/v1/endpoints/echo")
        return answer.document["message"] is not None

    await eventually(stuck)
    shown = await penstock("endpoint", "explain", "echo")
    assert shown.out.splitlines()[-1] == f"now deploying (starting): {trouble.message}"


async def test_create_waits_until_it_serves_or_has_failed(penstock: Penstock) -> None:
    document = json.dumps({"app_name": "echo", "image": {"image": "acme/echo"}})
    (penstock.folder / "echo.json").write_text(document)
    waiting = asyncio.create_task(penstock("endpoint", "create", "-f", "echo.json", "--wait"))
    made = await _made(penstock.api, "echo")
    await penstock.api.say(made["id"], EndpointState.SERVING)
    outcome = await waiting
    assert outcome.code == 0
    assert "echo serves at 0 workers, a request starts one" in outcome.out.splitlines()[-1]

    waiting = asyncio.create_task(
        penstock("endpoint", "create", "-f", "-", "--app-name", "bad", "--wait", stdin=document)
    )
    made = await _made(penstock.api, "bad")
    await penstock.api.say(
        made["id"],
        EndpointState.FAILED,
        reason=EndpointReason.CRASH_BACKOFF,
        message="exited with 7",
        log_tail=("no model here",),
    )
    outcome = await waiting
    assert outcome.code == 7
    assert "penstock: 'bad' does not serve as deployed: exited with 7" in outcome.err
    assert "  | no model here" in outcome.err


async def _made(api: ApiServer, app: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            answer = await api.ask("GET", f"/v1/endpoints/{app}")
            if answer.status == 200:
                document: dict[str, Any] = answer.document
                return document
            await asyncio.sleep(0.02)


async def test_refusals_name_the_field_and_the_flag(penstock: Penstock) -> None:
    flags = ["--image", "a", "--min", "4", "--port", "0", "--scale", "slow=1", "--app-name", "Bad"]
    refused = await penstock("endpoint", "create", *flags)
    assert refused.code == 1
    lines = refused.err.splitlines()
    assert lines[0] == "penstock: the document has 4 errors"
    assert "  workers: min 4 is above max 3; raise max or lower min" in lines
    assert any(line.startswith("  image.http_port (--port): ") for line in lines)
    assert any(line.startswith("  scaling.type (--scale): ") for line in lines)
    assert any(line.startswith("  app_name (--app-name): ") for line in lines)

    missing = await penstock("endpoint", "show", "nobody")
    assert (missing.code, missing.out) == (5, "")
    assert missing.err == (
        "penstock: there is no endpoint 'nobody'; `penstock endpoint list` shows what there is\n"
    )
    unknown = await penstock("endpoint", "list", PENSTOCK_API_KEY="wrong")
    assert unknown.code == 6
    assert "PENSTOCK_API_KEY" in unknown.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["endpoint", "create"], "--image"),
        (["endpoint", "update", "echo"], "flags"),
        (["endpoint", "show"], "APP"),
        (["endpoint", "create", "--min", "few"], "--min"),
        (["endpoint", "create", "--image", "a", "--scale", "fast"], "queue_delay=4"),
        (["endpoint", "create", "-f", "nowhere.json"], "nowhere.json"),
        (["endpoint", "create", "-f", "broken.json"], "line 2, column 1"),
        (["endpoint", "create", "-f", "list.json"], "object"),
        (["endpoint", "list", "--api", "localhost"], "http://"),
    ],
)
async def test_a_wrong_command_line_exits_with_2(
    penstock: Penstock, arguments: list[str], told: str
) -> None:
    (penstock.folder / "broken.json").write_text('{"a":\n')
    (penstock.folder / "list.json").write_text("[]")
    outcome = await penstock(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err


async def test_an_api_that_is_away_exits_with_3(penstock: Penstock) -> None:
    away = await penstock("endpoint", "list", "--api", f"http://127.0.0.1:{free_port()}")
    assert away.code == 3
    assert len(away.err.splitlines()) == 1
    assert "penstock up" in away.err
    other = await penstock("node", "list", "--api", penstock.api.nats.monitor_url)
    assert other.code == 3
    assert "is no Penstock api" in other.err


async def test_url_and_key_come_from_the_data_directory(penstock: Penstock) -> None:
    for name in ("PENSTOCK_API_URL", "PENSTOCK_API_KEY"):
        del penstock.env[name]
    nothing = await penstock("endpoint", "list")
    assert (nothing.code, "admin.key" in nothing.err) == (6, True)
    data = penstock.folder / ".penstock"
    data.mkdir()
    (data / "admin.key").write_text(ADMIN_KEY)
    (data / "ready.json").write_text(json.dumps({"api": penstock.api.url}))
    assert (await penstock("endpoint", "list", "--json")).code == 0
    elsewhere = await penstock("endpoint", "list", PENSTOCK_DATA="elsewhere")
    assert elsewhere.code == 6


async def test_volumes_are_made_listed_renamed_and_forgotten(penstock: Penstock) -> None:
    assert (await penstock("volume", "list")).err.startswith("no network volumes")
    made = await penstock("volume", "create", "models", "--nfs", "10.0.0.9:/export", "--json")
    assert made.code == 0, made.err
    volume = json.loads(made.out)
    assert volume["source"]["server"] == "10.0.0.9"
    other = await penstock("volume", "create", "data", "--host-path", "/mnt/shared")
    assert (other.code, other.out.startswith("made vol-")) == (0, True)
    mounted = [{"type": "network", "id": volume["id"], "mount_path": "/models"}]
    await penstock.api.create("echo", storage={"volumes": mounted})

    listed = (await penstock("volume", "list")).out.splitlines()
    assert [line.split()[1] for line in listed] == ["NAME", "models", "data"]
    assert "nfs 10.0.0.9:/export (nfsvers=4" in listed[1]
    assert listed[1].split()[-1] == "echo"
    assert "host path /mnt/shared" in listed[2]
    renamed = await penstock("volume", "rename", volume["id"], "weights")
    assert renamed.out == f"{volume['id']} is called weights\n"
    assert "weights" in (await penstock("volume", "show", volume["id"])).out
    refused = await penstock("volume", "delete", volume["id"])
    assert (refused.code, "'echo' uses" in refused.err) == (1, True)
    data_id = other.out.split()[1]
    forgotten = await penstock("volume", "delete", data_id)
    assert forgotten.out == f"forgot {data_id} (data); its data stay\n"

    for wrong in (
        ["x"],
        ["x", "--nfs", "no-path"],
        ["x", "--nfs", "a:/b", "--host-path", "/c"],
        ["x", "--host-path", "/c", "--nfs-options", "soft"],
    ):
        assert (await penstock("volume", "create", *wrong)).code == 2


async def test_prewarms_are_made_listed_and_forgotten(penstock: Penstock) -> None:
    assert (await penstock("prewarm", "list")).err.startswith("no prewarms")
    made = await penstock(
        "prewarm", "create", "acme/echo:1", "--node", "node-a", "--gpu", "t4-16gb"
    )
    assert made.code == 0, made.err
    prewarm_id = made.out.split()[1].rstrip(":")
    assert made.out == f"made {prewarm_id}: acme/echo:1 on 0 nodes so far\n"
    (line,) = (await penstock("prewarm", "list")).out.splitlines()[1:]
    assert line.split() == [
        prewarm_id,
        *["pending", "0", "of", "0", "node-a", "t4-16gb", "acme/echo:1"],
    ]
    shown = json.loads((await penstock("prewarm", "show", prewarm_id, "--json")).out)
    assert (shown["nodes"], shown["products"], shown["progress"]) == (["node-a"], ["t4-16gb"], [])
    assert "no node that it is for" in (await penstock("prewarm", "show", prewarm_id)).err
    assert (await penstock("prewarm", "delete", prewarm_id)).out.startswith(f"forgot {prewarm_id}")
    assert (await penstock("prewarm", "show", prewarm_id)).code == 5


async def test_a_reader_that_leaves_early_is_no_error_for_people(penstock: Penstock) -> None:
    await penstock.api.create()
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m penstock_cli endpoint list | true",
        stderr=asyncio.subprocess.PIPE,
        env=penstock.env,
        cwd=penstock.folder,
    )
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert b"Traceback" not in err
