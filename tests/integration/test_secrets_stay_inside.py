"""Secrets are where they belong and nowhere else: values, passwords, keys, tokens, the key of all."""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from penstock_common import subjects
from penstock_common.sealing import new_key
from penstock_common.specs import EndpointSpec
from penstock_common.states import WorkerState
from penstock_node_agent.runtimes.docker.containers import DockerSettings, container_name
from penstock_node_agent.runtimes.docker.runtime import DockerRuntime
from tests.support.agent_rig import NODE, agent_rig
from tests.support.api_server import ADMIN_KEY, ApiServer, running_api
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.docker, pytest.mark.nats, pytest.mark.slow]

SECRET = f"canary-secret-{uuid.uuid4().hex}"
PASSWORD = f"canary-password-{uuid.uuid4().hex}"
GUESS = f"canary-guess-{uuid.uuid4().hex}"
SECRET_KEY = new_key()
SERVER = (
    "import http.server, os; H = http.server.BaseHTTPRequestHandler; "
    "H.do_GET = lambda s: (s.send_response(200), s.end_headers()); "
    "http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()"
)
CRASH = "import sys; sys.exit(3)"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    folder = tmp_path / "api"
    folder.mkdir()
    (folder / "admin.key").write_text(ADMIN_KEY)
    (folder / "secret.key").write_text(SECRET_KEY)
    settings = {"secret_key": SECRET_KEY, "node_nats_url": "nats://10.0.0.1:4222"}
    async with running_api(nats_server, folder, **settings) as server:
        yield server


class Seen:
    """All that was said, shown or stored, except where the secret belongs."""

    def __init__(self, *canaries: str) -> None:
        self.canaries = list(canaries)
        self.places: dict[str, str] = {}

    def add(self, place: str, what: Any) -> None:
        self.places[place] = what if isinstance(what, str) else json.dumps(what, default=str)

    def leaks(self) -> list[str]:
        return [p for p, text in self.places.items() if any(c in text for c in self.canaries)]


async def use_credentials(api: ApiServer, seen: Seen) -> None:
    """Make, rotate, use and guess keys and tokens; what is shown once is a canary from then on."""
    made = (await api.ask("POST", "/v1/api-keys", {"name": "k", "scope": "read"})).document
    rotated = await api.ask("POST", f"/v1/api-keys/{made['id']}/rotate", {"old_expires_in_s": 60})
    token = (await api.ask("POST", "/v1/join-tokens", {})).document["token"]
    again = (await api.ask("POST", "/v1/join-tokens", {})).document["token"]
    seen.canaries += [made["key"], rotated.document["key"], token, again]
    for key in (made["key"], rotated.document["key"]):
        assert (await api.ask("GET", "/v1/nodes", key=key)).status == 200
        seen.add("a refusal", (await api.ask("POST", "/v1/volumes", {}, key=key)).document)
    headers = {"Idempotency-Key": "one"}
    for key in (token, token, GUESS):
        answer = await api.ask("POST", "/v1/join", key=key, headers=headers)
        if answer.status == 200:
            assert answer.document["secret_key"] == SECRET_KEY, "it belongs there"
        else:
            seen.add("a refused host", answer.document)
    seen.add("a wrong host", (await api.ask("POST", "/v1/join", {"token": [again]})).document)
    seen.add("a guess", (await api.ask("GET", "/v1/nodes", key=GUESS)).document)


async def make_endpoint(api: ApiServer, name: str, **sections: Any) -> EndpointSpec:
    image = {"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{SERVER}"'}
    created = await api.create(
        **({"app_name": name, "image": image, "gpu": {"count": 0}} | sections)
    )
    spec: EndpointSpec = (await api.record(created["id"])).spec
    return spec


async def test_secrets_are_where_they_belong_and_nowhere_else(
    api: ApiServer, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen = Seen(SECRET, PASSWORD, GUESS, SECRET_KEY)
    told = await api.listen(f"{subjects.PREFIX}.>")
    stored_in_memory = await api.listen("$KV.>")
    seen.add("settings", repr(api.settings) + api.settings.model_dump_json())
    await use_credentials(api, seen)
    auth = {"name": "ours", "username": "robot", "password": PASSWORD}
    answer = await api.ask("POST", "/v1/registry-auths", auth)
    auth_id = answer.document["id"]
    seen.add("answer of registry-auths", answer.document)
    secrets = {"TOKEN": SECRET}
    crash = {"image": IMAGE, "entrypoint": "python3 -c", "command": f'"{CRASH}"'}
    volumes = {"volumes": [{"type": "local", "mount_path": "/etc/passwd"}]}
    absent = {"image": "127.0.0.1:1/acme/none:1", "registry_auth_id": auth_id}
    holder = await make_endpoint(api, "holder", secrets=secrets)
    other = await make_endpoint(api, "other")
    failing = [
        await make_endpoint(api, "crashes", secrets=secrets, image=crash),
        await make_endpoint(api, "refused", secrets=secrets, storage=volumes),
        await make_endpoint(api, "absent", secrets=secrets, image=absent),
    ]
    engine = APIClient(base_url=docker_host(), version="auto", timeout=60)
    await api.ask("PATCH", "/v1/endpoints/other", {"secrets": {"TOKEN": SECRET}})
    await api.ask("PATCH", "/v1/endpoints/other", {"secrets": {"TOKEN": None}})
    async with agent_rig(nats_server) as rig:
        runtime = DockerRuntime(
            DockerSettings(
                docker_host=docker_host(),
                node_id=f"{NODE}-{uuid.uuid4().hex[:8]}",
                address="127.0.0.1",
                pull_pauses_s=(),
            )
        )
        await rig.start(runtime, sealer=api.sealer)
        scheduler = rig.scheduler
        workers = [await scheduler.assign(spec) for spec in (holder, other)]
        failed = [await scheduler.assign(spec) for spec in failing]
        for worker in workers:
            await scheduler.until_state(worker.worker_id, WorkerState.RUNNING)
        for worker in failed:
            status = await scheduler.until_state(worker.worker_id, WorkerState.FAILED)
            seen.add(f"sentence of {worker.worker_id}", status.message)

        inspected, others = [
            await asyncio.to_thread(engine.inspect_container, container_name(worker.worker_id))
            for worker in workers
        ]
        assert f"TOKEN={SECRET}" in inspected["Config"].pop("Env")
        seen.add("its own container but for its environment", inspected)
        seen.add("another container", others)
        listed = await asyncio.to_thread(
            engine.containers, filters={"id": inspected["Id"]}, all=True
        )
        seen.add("labels", listed)
        seen.add("statuses", [status.model_dump_json() for status in scheduler.history])
        seen.add("node", (await scheduler.until_node(lambda _: True)).model_dump_json())
        for path in (
            *("endpoints", "registry-auths", "nodes", "workers", "api-keys", "join-tokens"),
            *("audit", "endpoints/other/revisions"),
        ):
            shown = await api.ask("GET", f"/v1/{path}")
            seen.add(f"GET {path}", shown.document)
        assert "/secrets/TOKEN" in seen.places["GET audit"]
        assert "/sealed/password" in seen.places["GET audit"]
        for worker in (*workers, *failed):
            await scheduler.unassign(worker.worker_id)
        for worker in (*workers, *failed):
            await scheduler.until_gone(worker.worker_id)
        seen.add(
            "messages", [(m.subject, str(m.data), m.headers) for m in (*told, *stored_in_memory)]
        )
        assert told
        assert stored_in_memory
    engine.close()
    seen.add("log", [str(vars(entry)) for entry in caplog.records])
    stored = await asyncio.to_thread(stored_bytes, nats_server)
    for canary in seen.canaries:
        assert canary.encode() not in stored
    assert b"TOKEN" in stored, "streams and buckets are searched as they lie on the disk"

    assert seen.leaks() == []


def stored_bytes(server: NatsServer) -> bytes:
    """All that lies in the server's store: each stream, each bucket, each old revision."""
    files = [path for path in (server.folder / "store").rglob("*") if path.is_file()]
    found = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # the server rewrote or compacted it
            found.append(path.read_bytes())
    return b"\n".join(found)
