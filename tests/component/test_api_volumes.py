"""Network volumes over HTTP, with a real nats-server behind."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.messages import VolumeRecord, WorkerAssignment
from penstock_common.nats.kv import Bucket
from penstock_common.states import DesiredState
from penstock_common.volumes import NFS_OPTIONS, HostPathSource
from tests.support.api_server import CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

PATH = "/v1/volumes"
SHARED = {"name": "models", "source": {"type": "host_path", "path": "/mnt/shared/models"}}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


def using(volume_id: str) -> dict[str, Any]:
    return {"volumes": [{"type": "network", "id": volume_id, "mount_path": "/data"}]}


async def test_a_volume_is_made_shown_renamed_and_forgotten(api: ApiServer) -> None:
    made = await api.ask("POST", PATH, SHARED)
    assert made.status == 201
    path = made.headers["Location"]
    assert path == f"{PATH}/{made.document['id']}"
    assert made.document.keys() == {
        *("id", "name", "source", "node_selector", "size_gb", "endpoints"),
        *("created_at", "updated_at"),
    }
    assert (await api.ask("GET", PATH)).document == {
        "volumes": [made.document],
        "next_cursor": None,
    }
    assert (await api.ask("GET", path)).document == made.document

    changed = await api.ask("PATCH", path, {"name": "weights"})
    assert (changed.status, changed.document["name"]) == (200, "weights")
    again = await api.ask("PATCH", path, {"name": "weights"})
    assert again.document == changed.document

    entry = await Bucket(api.bus, subjects.VOLUMES).get(made.document["id"])
    assert entry is not None
    record = VolumeRecord.decode(entry.value)
    assert record.name == "weights"
    assert record.source == HostPathSource(type="host_path", path="/mnt/shared/models")

    assert (await api.ask("DELETE", path)).status == 200
    for method in ("GET", "DELETE", "PATCH"):
        gone = await api.ask(method, path, {"name": "x"} if method == "PATCH" else None)
        assert (gone.status, gone.document["reason"]) == (404, "volume_not_found")


async def test_an_nfs_volume_has_options_that_do_not_hang(api: ApiServer) -> None:
    source = {"type": "nfs", "server": "10.0.0.9", "path": "/export"}
    made = await api.ask("POST", PATH, {"name": "nfs", "source": source})
    assert made.document["source"] == {**source, "options": NFS_OPTIONS}
    assert "soft" in NFS_OPTIONS.split(",")


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({"type": "host_path", "path": "/mnt/shared/../../etc"}, "/source/path"),
        ({"type": "host_path", "path": "mnt"}, "/source/path"),
        ({"type": "host_path", "path": "/mnt//x"}, "/source/path"),
        ({"type": "host_path", "path": "/"}, "/source/path"),
        ({"type": "nfs", "server": "a,addr=b", "path": "/x"}, "/source/server"),
        (
            {"type": "nfs", "server": "a", "path": "/x", "options": "soft,addr=1.2.3.4"},
            "/source/options",
        ),
        ({"type": "nfs", "server": "a", "path": "/x", "optoins": "soft"}, "/source/optoins"),
        ({"type": "driver_options", "options": {}}, "/source/options"),
        ({"type": "floppy"}, "/source"),
    ],
)
async def test_what_is_wrong_is_named(api: ApiServer, source: dict[str, Any], pointer: str) -> None:
    answer = await api.ask("POST", PATH, {"name": "x", "source": source})
    assert answer.status == 422
    assert [e["pointer"] for e in answer.document["errors"]] == [pointer]


async def test_a_volumes_source_never_changes(api: ApiServer) -> None:
    made = await api.ask("POST", PATH, SHARED)
    other = {"type": "host_path", "path": "/mnt/other"}
    for patch in ({"source": other}, {"source": None}, {"node_selector": {"region": "eu-1"}}):
        answer = await api.ask("PATCH", made.headers["Location"], patch)
        assert answer.status == 422
        assert [e["pointer"] for e in answer.document["errors"]] == [f"/{next(iter(patch))}"]


async def test_a_volume_tells_the_size_that_was_agreed_on(api: ApiServer) -> None:
    made = await api.ask("POST", PATH, SHARED | {"size_gb": 100, "node_selector": {"zone": "a"}})
    assert (made.document["size_gb"], made.document["node_selector"]) == (100, {"zone": "a"})
    path = made.headers["Location"]
    assert (await api.ask("PATCH", path, {"size_gb": 200})).document["size_gb"] == 200
    assert (await api.ask("PATCH", path, {"size_gb": None})).document["size_gb"] is None
    refused = await api.ask("PATCH", path, {"size_gb": 0})
    assert [e["pointer"] for e in refused.document["errors"]] == ["/size_gb"]


async def test_an_endpoint_names_one_that_exists_and_keeps_it(api: ApiServer) -> None:
    volume_id = (await api.ask("POST", PATH, SHARED)).document["id"]
    made = await api.create(storage=using(volume_id))
    (mounted,) = made["storage"]["volumes"]
    assert mounted == {
        "type": "network",
        "id": volume_id,
        "mount_path": "/data",
        "read_only": False,
    }
    assert (await api.ask("GET", f"{PATH}/{volume_id}")).document["endpoints"] == ["echo"]

    kept = await api.ask("DELETE", f"{PATH}/{volume_id}")
    assert (kept.status, kept.document["reason"]) == (409, "volume_in_use")
    assert "'echo'" in kept.document["detail"]
    path = f"/v1/endpoints/{made['id']}"
    wrong = await api.ask("PATCH", path, {"storage": using("vol-none")})
    assert wrong.status == 422
    assert wrong.document["errors"][0]["pointer"] == "/storage/volumes/0/id"

    changed = await api.ask("PATCH", path, {"storage": {"volumes": []}})
    assert (changed.status, changed.document["revision"]) == (200, 2)
    assert (await api.ask("DELETE", f"{PATH}/{volume_id}")).status == 200
    back = await api.ask("POST", f"{path}/rollback", {})
    assert back.status == 422
    assert volume_id in back.document["errors"][0]["message"]


async def test_a_volume_that_an_older_worker_still_has_is_kept(api: ApiServer) -> None:
    volume_id = (await api.ask("POST", PATH, SHARED)).document["id"]
    made = await api.create(storage=using(volume_id))
    record = await api.record(made["id"])
    assignment = WorkerAssignment(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id=made["id"],
        revision=1,
        spec=record.spec,
        desired=DesiredState.DRAINING,
        fencing_token=1,
        decided_at=CLOCK.utc(),
        assigned_at=CLOCK.utc(),
    )
    key = subjects.worker_key("node-a", "wk-1")
    await api.put(subjects.WORKERS, key, assignment)
    await api.ask("PATCH", f"/v1/endpoints/{made['id']}", {"storage": {"volumes": []}})

    async def is_kept() -> bool:
        kept = await api.ask("DELETE", f"{PATH}/{volume_id}")
        assert kept.status == 409, "it went before the worker did"
        return "wk-1" in kept.document["detail"]

    async def seen() -> bool:
        listed = await api.ask("GET", f"/v1/endpoints/{made['id']}/workers")
        return bool(listed.document["workers"])

    await eventually(seen)
    await eventually(is_kept)
    await Bucket(api.bus, subjects.WORKERS).delete(key)

    async def is_gone() -> bool:
        return (await api.ask("DELETE", f"{PATH}/{volume_id}")).status == 200

    await eventually(is_gone)
