"""Each way in which a container worker ends has its reason, and a sentence that helps a person."""

import asyncio
import io
import struct
import tarfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_common.messages import Gpu, WorkerStatus
from penstock_common.specs import EndpointSpec
from penstock_common.states import GpuReason, WorkerReason, WorkerState
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.runtimes.docker.containers import DockerSettings
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from tests.support.agent_rig import NODE, AgentRig, agent_rig, endpoint_spec
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.docker_registry import PrivateRegistry
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.nats, pytest.mark.slow]

SERVER = (
    "import http.server, os, sys; answers = iter([200] * 3); "
    "H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response({status}), s.end_headers()); "
    "H.log_message = lambda *a: None; print('here I am', flush=True); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
#: listens where it should not
LISTENER = (
    "import socket, time; s = socket.create_server(('{host}', {port})); "
    "print('here I am', flush=True); time.sleep(600)"
)
#: healthy at first
FAILING = SERVER.format(status="next(answers, 500)")


#: All containers begin at once, and each must have come as far as it gets.
LIMIT_S = 8


@dataclass(frozen=True)
class Case:
    """An endpoint, and how its worker must end."""

    reason: WorkerReason
    #: words of the sentence: what happened, and what to do
    words: tuple[str, ...]
    program: str = ""
    image: str = IMAGE
    entrypoint: str = "python3 -c"
    exit_code: int | None = None
    #: words of the last lines
    tail: str = ""
    sections: dict[str, Any] = field(default_factory=dict)
    gpus: tuple[str, ...] = ()
    way: Any = None

    def spec(self) -> EndpointSpec:
        image: dict[str, Any] = {"image": self.image, "entrypoint": self.entrypoint}
        if self.program:
            image["command"] = f'"{self.program}"'
        # Who does not come to listen is given up soon; who ends by itself has all the time it takes.
        limited = self.reason is WorkerReason.START_TIMEOUT
        workers = {"start_timeout_s": LIMIT_S if limited else 60, "stop_grace_s": 30}
        return endpoint_spec("", **({"image": image, "workers": workers} | self.sections))


CASES = {
    "the command crashes": Case(
        WorkerReason.EXITED,
        ("exited with exit code 3", "before it was healthy", "log_tail"),
        "import sys; print('no model'); sys.exit(3)",
        exit_code=3,
        tail="no model",
    ),
    "the program is not in the image": Case(
        WorkerReason.START_FAILED,
        ("/no-such-program", "No such file", "correct image.entrypoint"),
        entrypoint="/no-such-program",
        exit_code=127,
        tail="/no-such-program",
    ),
    "the program may not be executed": Case(
        WorkerReason.START_FAILED,
        ("/etc/passwd", "Permission denied", "correct image.entrypoint"),
        entrypoint="/etc/passwd",
        exit_code=126,
        tail="/etc/passwd",
    ),
    "it never listens": Case(
        WorkerReason.START_TIMEOUT,
        (f"not healthy within {LIMIT_S} s", "$PORT", "workers.start_timeout_s"),
        "import time; print('thinking', flush=True); time.sleep(600)",
        exit_code=143,
        tail="thinking",
    ),
    "its health path says no": Case(
        WorkerReason.START_TIMEOUT,
        ("answered 503", "health.path"),
        SERVER.format(status="503"),
        exit_code=143,
        tail="here I am",
    ),
    "it listens on another port": Case(
        WorkerReason.START_TIMEOUT,
        (
            "nothing listens on port 8000; the worker listens on port 5000",
            "set image.http_port to 5000",
        ),
        LISTENER.format(host="0.0.0.0", port=5000),
        exit_code=143,
        tail="here I am",
    ),
    "it listens for itself alone": Case(
        WorkerReason.START_TIMEOUT,
        ("listens on port 8000 of 127.0.0.1 alone", "let it listen on all addresses (0.0.0.0)"),
        LISTENER.format(host="127.0.0.1", port=8000),
        exit_code=143,
        tail="here I am",
    ),
    "its health path leads elsewhere": Case(
        WorkerReason.START_TIMEOUT,
        ("GET /health on port 8000 answered 307, a redirect", "set health.path"),
        SERVER.format(status="307"),
        exit_code=143,
        tail="here I am",
    ),
    "it falls ill": Case(
        WorkerReason.UNHEALTHY,
        ("probes in a row failed", "answered 500", "health.timeout_s"),
        FAILING,
        exit_code=143,
        tail="here I am",
    ),
    "its program takes the port": Case(
        WorkerReason.EXITED,
        ("exited with exit code 1", "log_tail"),
        "import os, socket; a = ('', int(os.environ['PORT'])); "
        "s = socket.create_server(a); socket.create_server(a)",
        exit_code=1,
        tail="Address already in use",
    ),
    "it runs out of memory": Case(
        WorkerReason.OOM_KILLED,
        ("ran out of memory", "docker_memory_bytes"),
        "print('eating', flush=True); b'x' * 10**9",
        exit_code=137,
        tail="eating",
    ),
    "there is no such image": Case(
        WorkerReason.REGISTRY_UNREACHABLE,
        ("check image.image", "the node reaches its registry"),
        image="127.0.0.1:1/acme/none:1",
    ),
    "the image has no name": Case(
        WorkerReason.IMAGE_NOT_FOUND, ("check image.image",), image="Not A Name"
    ),
    "a volume cannot be mounted": Case(
        WorkerReason.START_FAILED,
        ("correct storage.volumes",),
        "print(1)",
        sections={"storage": {"volumes": [{"type": "local", "mount_path": "/etc/passwd"}]}},
    ),
    "the engine has no NVIDIA support": Case(
        WorkerReason.START_FAILED,
        ("install the NVIDIA container toolkit",),
        "print(1)",
        gpus=("GPU-12345678",),
    ),
    "the engine lacks the runtime": Case(
        WorkerReason.START_FAILED,
        ("install the NVIDIA container toolkit", "docker_gpu_way"),
        "print(1)",
        gpus=("GPU-12345678",),
        way="runtime",
    ),
}


@pytest.fixture
async def rig(nats_server: NatsServer) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        yield made


def runtime(**changes: Any) -> DockerRuntime:
    fields: dict[str, Any] = {
        "docker_host": docker_host(),
        "node_id": f"{NODE}-{uuid.uuid4().hex[:8]}",
        "address": "127.0.0.1",
        "memory_bytes": 256 * 1024**2,
        "pull_pauses_s": (),
    }
    return DockerRuntime(DockerSettings(**fields | changes))


async def failed(rig: AgentRig, spec: EndpointSpec, **changes: Any) -> WorkerStatus:
    """How its worker fails; nothing is left of it afterwards."""
    worker = await rig.scheduler.assign(spec, **changes)
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED, 120)
    await rig.scheduler.unassign(worker.worker_id)
    await rig.scheduler.until_gone(worker.worker_id)
    return status


async def check(case: Case, status: WorkerStatus) -> None:
    message = status.message or ""
    assert status.reason is case.reason, status
    assert [word for word in case.words if word not in message] == [], message
    assert status.exit_code == case.exit_code, status
    assert case.tail in "\n".join(status.log_tail), status
    assert bool(status.log_tail) is bool(case.tail), status


async def test_an_end_has_its_reason_and_says_what_to_do(rig: AgentRig) -> None:
    """All at once: they wait for one another's timeouts."""
    await rig.start(runtime())
    cases = [case for case in CASES.values() if case.way is None]
    async with asyncio.TaskGroup() as group:
        ends = [
            group.create_task(failed(rig, case.spec(), gpus=case.gpus), name="one end")
            for case in cases
        ]
    for case, end in zip(cases, ends, strict=True):
        await check(case, end.result())


async def test_a_runtime_that_the_engine_lacks_is_said(rig: AgentRig) -> None:
    case = CASES["the engine lacks the runtime"]
    await rig.start(runtime(gpu_way=case.way))

    await check(case, await failed(rig, case.spec(), gpus=case.gpus))


async def test_a_private_image_without_credentials_is_said(rig: AgentRig, tmp_path: Path) -> None:
    docker_host()
    registry = PrivateRegistry(tmp_path / "registry")
    await asyncio.to_thread(registry.start)
    engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
    try:
        image = await asyncio.to_thread(registry.push, engine, "acme/private")
        await rig.start(runtime())
        case = Case(
            WorkerReason.REGISTRY_AUTH_FAILED,
            (image, "image.registry_auth_id"),
            image=image,
            entrypoint="",
        )

        await check(case, await failed(rig, case.spec()))
    finally:
        await asyncio.to_thread(registry.stop)
        with pytest.raises(APIError):
            await asyncio.to_thread(engine.inspect_image, image)
        engine.close()


async def test_an_image_of_another_architecture_is_said(rig: AgentRig) -> None:
    repository = f"penstock-test-{uuid.uuid4().hex[:8]}"
    engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
    try:
        await asyncio.to_thread(
            engine.import_image_from_data, foreign_program(), repository=repository, tag="1"
        )
        await rig.start(runtime())
        case = Case(
            WorkerReason.START_FAILED,
            ("/program", "CPU architecture"),
            image=f"{repository}:1",
            entrypoint="/program",
            exit_code=127,
            tail="/program",
        )

        await check(case, await failed(rig, case.spec()))
    finally:
        await asyncio.to_thread(engine.remove_image, f"{repository}:1")
        engine.close()


def foreign_program() -> bytes:
    """An archive with the head of a program for a processor that no node has."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 0xFFFE, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writing:
        member = tarfile.TarInfo("program")
        member.size, member.mode = len(head), 0o755
        writing.addfile(member, io.BytesIO(head))
    return archive.getvalue()


async def test_a_worker_that_fails_on_a_sick_gpu_says_so(rig: AgentRig) -> None:
    """The GPU is one of an operator's list that a stand-in for NVML calls sick."""
    sick = Gpu(uuid="static-0", product="rtx-4090-24gb", vram_bytes=1, reason=GpuReason.XID)
    await rig.start(runtime(), inventory=GpuInventory(gpus=(sick,), static=True))
    crash = CASES["the command crashes"]

    status = await failed(rig, crash.spec(), gpus=("static-0",))

    assert status.reason is WorkerReason.GPU_FAULT
    assert status.exit_code == 3
    assert "no model" in status.log_tail[-1]
    message = status.message or ""
    assert "static-0 reports a fault" in message
    assert "nvidia-smi" in message


async def test_a_worker_that_crashes_beside_a_sick_gpu_is_its_own_fault(rig: AgentRig) -> None:
    sick = Gpu(uuid="static-0", product="rtx-4090-24gb", vram_bytes=1, reason=GpuReason.XID)
    await rig.start(runtime(), inventory=GpuInventory(gpus=(sick,), static=True))

    status = await failed(rig, CASES["the command crashes"].spec(), gpus=("static-1",))

    assert status.reason is WorkerReason.EXITED
