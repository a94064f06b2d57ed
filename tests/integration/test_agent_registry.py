"""Pulls from a real private registry: credentials that work, that do not, and that never show."""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient
from docker.errors import APIError

from penstock_common import entropy, ids, subjects
from penstock_common.states import DesiredState, Phase, WorkerReason, WorkerState
from penstock_node_agent.runtimes.docker.client import connect
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.pulls import ImagePuller
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from penstock_node_agent.runtimes.protocol import Credentials, StartFailedError
from tests.support.agent_rig import NODE, agent_rig
from tests.support.api_server import ApiServer, running_api
from tests.support.docker_engine import docker_host
from tests.support.docker_registry import PASSWORD, USERNAME, PrivateRegistry
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.nats, pytest.mark.slow]

GOOD = Credentials(USERNAME, PASSWORD)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[PrivateRegistry]:
    docker_host()
    made = PrivateRegistry(tmp_path / "registry")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def engine() -> Iterator[APIClient]:
    client = APIClient(base_url=docker_host(), version="auto", timeout=60)
    yield client
    client.close()


@pytest.fixture
def image(registry: PrivateRegistry, engine: APIClient) -> Iterator[str]:
    """An image that only the registry has."""
    reference = registry.push(engine, "acme/private", n_bytes=8_000_000)
    yield reference
    with contextlib.suppress(APIError):
        engine.remove_image(reference, force=True)


@pytest.fixture
async def puller() -> AsyncIterator[ImagePuller]:
    made = ImagePuller(lambda timeout_s: connect(docker_host(), timeout_s), ())
    yield made
    made.close()


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def failure(
    puller: ImagePuller, image: str, credentials: Credentials | None
) -> StartFailedError:
    with pytest.raises(StartFailedError) as raised:
        await puller.pull(image, credentials)
    assert PASSWORD not in str(raised.value)
    return raised.value


async def test_each_way_a_pull_can_fail_has_its_reason(
    puller: ImagePuller, registry: PrivateRegistry, image: str, engine: APIClient
) -> None:
    wrong = Credentials(USERNAME, "wrong")
    nobody = Credentials("nobody", PASSWORD)
    for refused in (None, wrong, nobody):
        error = await failure(puller, image, refused)
        assert error.reason is WorkerReason.REGISTRY_AUTH_FAILED, str(error)
    error = await failure(puller, registry.reference("acme/nothing"), GOOD)
    assert error.reason is WorkerReason.IMAGE_NOT_FOUND, str(error)
    error = await failure(puller, f"127.0.0.1:{free_port()}/acme/private:1", GOOD)
    assert error.reason is WorkerReason.REGISTRY_UNREACHABLE, str(error)

    await puller.pull(image, GOOD)
    assert (await asyncio.to_thread(engine.inspect_image, image))["RepoTags"] == [image]


async def test_who_has_no_credentials_does_not_share_the_pull_of_who_has(
    puller: ImagePuller, image: str
) -> None:
    allowed, refused = await asyncio.gather(
        puller.pull(image, GOOD), puller.pull(image), return_exceptions=True
    )
    assert allowed is None
    assert isinstance(refused, StartFailedError)


def test_credentials_do_not_show_in_their_repr() -> None:
    assert PASSWORD not in repr(GOOD)


async def make_auth(api: ApiServer, password: str = PASSWORD) -> str:
    document = {"name": "ours", "username": USERNAME, "password": password}
    answer = await api.ask("POST", "/v1/registry-auths", document)
    assert answer.status == 201
    made: str = answer.document["id"]
    return made


async def test_an_endpoints_credentials_pull_and_are_seen_nowhere(
    api: ApiServer,
    nats_server: NatsServer,
    image: str,
    engine: APIClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    auth_id = await make_auth(api)
    created = await api.create(
        image={"image": image, "registry_auth_id": auth_id}, gpu={"count": 0}
    )
    record = await api.record(created["id"])
    seen: list[Any] = [created, record.encode()]
    node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
    runtime = DockerRuntime(
        DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
    )
    async with agent_rig(nats_server) as rig:
        told = await api.listen(f"{subjects.PREFIX}.>")
        stored = await api.listen("$KV.>")
        agent = await rig.start(runtime, sealer=api.sealer)
        scheduler = rig.scheduler
        assignment = await scheduler.assign(record.spec, endpoint_id=created["id"])

        # The image is bare: what counts is that it was pulled.
        status = await scheduler.until_state(assignment.worker_id, WorkerState.FAILED, 60)

        assert Phase.PULLED in status.phases, status
        assert status.pull_bytes == status.pull_total_bytes
        assert status.pull_bytes, "how far the pull was stands in the status"
        seen.append(engine.images())
        seen += [s.encode() for s in scheduler.history]
        for path in ("registry-auths", f"registry-auths/{auth_id}", "nodes"):
            seen.append((await api.ask("GET", f"/v1/{path}")).document)
        seen.append((await api.ask("GET", f"/v1/endpoints/{created['id']}/workers")).document)
        with contextlib.suppress(APIError):
            name = container_name(assignment.worker_id)
            seen.append(await asyncio.to_thread(engine.inspect_container, name))
        await scheduler.want(assignment, DesiredState.STOPPED)
        await scheduler.unassign(assignment.worker_id)
        await scheduler.until_gone(assignment.worker_id)
        await agent.stop()
        seen += [(m.subject, m.data, dict(m.headers or {})) for m in (*told, *stored)]
        assert told
        assert stored
    seen += [str(vars(entry)) for entry in caplog.records]
    assert PASSWORD not in json.dumps(seen, default=str)


@pytest.mark.parametrize("why", ["wrong", "gone", "other key"])
async def test_credentials_that_do_not_work_end_in_their_reason(
    api: ApiServer, nats_server: NatsServer, image: str, tmp_path: Path, why: str
) -> None:
    auth_id = await make_auth(api, "wrong" if why == "wrong" else PASSWORD)
    created = await api.create(
        image={"image": image, "registry_auth_id": auth_id}, gpu={"count": 0}
    )
    spec = (await api.record(created["id"])).spec
    if why == "gone":
        other = spec.image.model_copy(update={"registry_auth_id": entropy.random_id("ra")})
        spec = spec.model_copy(update={"image": other})
    other_key = ApiServer(nats_server, tmp_path / "other").sealer
    node_id = f"{NODE}-{uuid.uuid4().hex[:8]}"
    runtime = DockerRuntime(
        DockerSettings(docker_host=docker_host(), node_id=node_id, address="127.0.0.1")
    )
    async with agent_rig(nats_server) as rig:
        agent = await rig.start(runtime, sealer=other_key if why == "other key" else api.sealer)
        assignment = await rig.scheduler.assign(spec, worker_id=entropy.random_id(ids.WORKER))

        status = await rig.scheduler.until_state(assignment.worker_id, WorkerState.FAILED, 60)

        assert status.reason is WorkerReason.REGISTRY_AUTH_FAILED, status
        await agent.stop()
