"""What is told of workers that run and are not healthy: real processes, seen in the real kernel."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common.messages import HealthProblem
from penstock_common.states import WorkerReason, WorkerState
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from tests.support.agent_rig import AgentRig, agent_rig, endpoint_spec
from tests.support.certificates import self_signed
from tests.support.nats_server import NatsServer
from tests.support.process_workers import process_settings

pytestmark = [pytest.mark.nats, pytest.mark.slow]

#: Listens on a port that the kernel picks, and writes which.
ELSEWHERE = (
    "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
    "print(s.getsockname()[1], flush=True); time.sleep(60)"
)
#: Answers over TLS alone.
TLS = (
    "import http.server, os, ssl; c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); "
    "c.load_cert_chain('{certificate}', '{key}'); "
    "h = http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), "
    "http.server.SimpleHTTPRequestHandler); "
    "h.socket = c.wrap_socket(h.socket, server_side=True); h.serve_forever()"
)


@pytest.fixture
async def rig(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[AgentRig]:
    async with agent_rig(nats_server) as made:
        await made.start(ProcessRuntime(process_settings(tmp_path)))
        yield made


async def problem_of(rig: AgentRig, worker_id: str, words: str) -> HealthProblem:
    """What is told of it while it starts, once that has these words."""

    def told() -> list[HealthProblem]:
        statuses = [status for status in rig.scheduler.history if status.worker_id == worker_id]
        problems = [s.health_problem for s in statuses if s.health_problem is not None]
        return [problem for problem in problems if words in problem.message]

    await rig.scheduler.until(lambda: bool(told()))
    return told()[-1]


async def test_the_port_on_which_a_process_listens_instead_is_told(rig: AgentRig) -> None:
    spec = endpoint_spec(
        f'python3 -c "{ELSEWHERE}"', workers={"start_timeout_s": 8, "stop_grace_s": 1}
    )
    worker = await rig.scheduler.assign(spec)

    problem = await problem_of(rig, worker.worker_id, "the worker listens on port")
    status = await rig.scheduler.until_state(worker.worker_id, WorkerState.FAILED)

    port = status.log_tail[-1]
    assert problem.message.endswith(f"the worker listens on port {port} of 127.0.0.1 alone")
    assert problem.fix == "let it listen on 0.0.0.0:$PORT"
    assert status.reason is WorkerReason.START_TIMEOUT
    assert status.health_problem is None
    message = status.message or ""
    assert message.startswith("not healthy within 8 s; the last of ")
    assert message.endswith(f"{problem.message}; {problem.fix}")


async def test_a_server_that_speaks_tls_is_told(rig: AgentRig, tmp_path: Path) -> None:
    certificate, key = await asyncio.to_thread(self_signed, tmp_path)
    command = f'python3 -c "{TLS.format(certificate=certificate, key=key)}"'
    worker = await rig.scheduler.assign(endpoint_spec(command))

    problem = await problem_of(rig, worker.worker_id, "speaks TLS")

    assert "plain HTTP" in (problem.fix or "")
    await rig.scheduler.unassign(worker.worker_id)
    await rig.scheduler.until_gone(worker.worker_id)
