"""Scripts written for Novita's management APIs, against the running api."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.messages import Gpu, NodeRecord
from penstock_common.states import EndpointState
from tests.support.api_server import CLOCK, Answer, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

V1 = "/gpu-instance/openapi/v1"
V2 = "/gpus/v2"
ENDPOINT: dict[str, Any] = {
    "name": "echo",
    "workerConfig": {
        "minNum": 0,
        "maxNum": 1,
        "freeTimeout": 300,
        "maxConcurrent": 1,
        "gpuNum": 1,
    },
    "ports": [{"port": "8080"}],
    "policy": {"type": "queue", "value": 4},
    "image": {"image": "acme/echo", "authId": "", "command": ""},
    "products": [{"id": "rtx-4090-24gb"}],
    "rootfsSize": 100,
    "volumeMounts": [],
    "envs": [{"key": "A", "value": "1"}],
    "healthy": {"path": "/health"},
}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def create(api: ApiServer, **changes: Any) -> str:
    made = await api.ask("POST", f"{V1}/endpoint/create", {"endpoint": ENDPOINT | changes})
    assert made.status == 200, made
    assert made.document.keys() == {"id"}
    created: str = made.document["id"]
    return created


async def shown(api: ApiServer, endpoint_id: str) -> dict[str, Any]:
    answer = await api.ask("GET", f"{V1}/endpoint?id={endpoint_id}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.document["endpoint"]
    return found


async def test_the_life_of_an_endpoint(api: ApiServer) -> None:
    endpoint_id = await create(api)
    ours = await api.show(endpoint_id)
    assert (ours["app_name"], ours["public"]) == (endpoint_id, True)
    theirs = await shown(api, endpoint_id)
    assert theirs["appName"] == endpoint_id
    assert theirs["url"] == f"http://router.test:8080/{endpoint_id}"
    assert theirs["state"]["state"] == "creating"
    assert theirs["workerConfig"]["freeTimeout"] == "300"
    assert theirs["ports"] == [{"port": 8080}]
    assert theirs["workers"] == []

    await api.say(endpoint_id, EndpointState.SERVING)
    await api.becomes(endpoint_id, state="serving")
    assert (await shown(api, endpoint_id))["state"]["state"] == "serving"

    # What the answer holds may be sent back, with what is to be changed.
    theirs["workerConfig"] |= {"minNum": 1, "freeTimeout": "1"}
    theirs["envs"] = [{"key": "B", "value": "2"}]
    changed = await api.ask("POST", f"{V1}/endpoint/update", theirs | {"workers": None})
    assert (changed.status, changed.document) == (200, {})
    ours = await api.show(endpoint_id)
    assert (ours["workers"]["min"], ours["workers"]["idle_timeout_s"]) == (1, 1)
    assert ours["env"] == {"B": "2"}

    gone = await api.ask("POST", f"{V1}/endpoint/delete", {"id": endpoint_id})
    assert (gone.status, gone.document) == (200, {})
    assert (await shown(api, endpoint_id))["state"]["state"] == "deleting"


async def test_pages_count_from_0_and_know_the_total(api: ApiServer) -> None:
    made = [await create(api, name=f"e{n}") for n in range(3)]

    async def listed(query: str) -> list[str]:
        answer = await api.ask("GET", f"{V1}/endpoints{query}")
        assert (answer.status, answer.document["total"]) == (200, 3), answer
        return [endpoint["id"] for endpoint in answer.document["endpoints"]]

    assert await listed("") == made
    assert await listed("?pageSize=2&pageNum=0") == made[:2]
    assert await listed("?pageSize=2&pageNum=1") == made[2:]
    assert await listed("?pageSize=2&pageNum=2") == []
    wrong = await api.ask("GET", f"{V1}/endpoints?pageSize=-1")
    assert (wrong.status, wrong.document["reason"]) == (400, "WRONG_PARAMETER")


async def test_errors_have_their_form(api: ApiServer) -> None:
    config = ENDPOINT["workerConfig"] | {"minNum": 5}
    body = {"endpoint": ENDPOINT | {"workerConfig": config, "appName": "No"}}
    wrong = await api.ask("POST", f"{V1}/endpoint/create", body)
    assert wrong.status == 400
    assert wrong.headers["Content-Type"].startswith("application/json")
    assert (wrong.document["code"], wrong.document["reason"]) == (400, "INVALID_DOCUMENT")
    assert set(wrong.document["metadata"]) == {"endpoint.workerConfig", "endpoint.appName"}
    assert "endpoint.appName takes lower-case letters" in wrong.document["message"]

    def told(answer: Answer) -> tuple[int, str]:
        assert answer.document["code"] == answer.status
        assert answer.document["message"]
        return answer.status, answer.document["reason"]

    assert told(await api.ask("GET", f"{V1}/endpoint?id=ep-none")) == (404, "ENDPOINT_NOT_FOUND")
    assert told(await api.ask("GET", f"{V1}/endpoint")) == (400, "WRONG_PARAMETER")
    assert told(await api.ask("GET", f"{V1}/instances")) == (404, "NO_SUCH_ROUTE")
    assert told(await api.ask("GET", f"{V1}/endpoints", key=None)) == (401, "INVALID_API_KEY")
    assert told(await api.ask("DELETE", f"{V1}/endpoints")) == (405, "METHOD_NOT_ALLOWED")
    assert told(await api.ask("GET", f"{V2}/endpoints/ep-none")) == (404, "ENDPOINT_NOT_FOUND")
    unknown = ENDPOINT | {"image": {"image": "a", "authId": "ra-none"}}
    refused = await api.ask("POST", f"{V1}/endpoint/create", {"endpoint": unknown})
    assert told(refused) == (400, "INVALID_DOCUMENT")
    assert set(refused.document["metadata"]) == {"endpoint.image.authId"}


async def test_registry_auths(api: ApiServer) -> None:
    body = {"name": "ours", "username": "robot", "password": "canary-3141"}
    saved = await api.ask("POST", f"{V1}/repository/auth/save", body)
    assert saved.status == 200
    auth_id = saved.document["id"]
    listed = await api.ask("GET", f"{V1}/repository/auths")
    assert listed.document == {
        "data": [{"id": auth_id, "name": "ours", "username": "robot", "password": ""}]
    }
    endpoint_id = await create(api, image={"image": "acme/echo", "authId": auth_id})
    assert (await shown(api, endpoint_id))["image"]["authId"] == auth_id
    kept = await api.ask("POST", f"{V1}/repository/auth/delete", {"id": auth_id})
    assert (kept.status, kept.document["reason"]) == (409, "REGISTRY_AUTH_IN_USE")
    cleared = {"id": endpoint_id, "image": {"image": "acme/echo", "authId": ""}}
    assert (await api.ask("POST", f"{V1}/endpoint/update", cleared)).status == 200
    gone = await api.ask("POST", f"{V1}/repository/auth/delete", {"id": auth_id})
    assert (gone.status, gone.document) == (200, {})
    wrong = await api.ask("POST", f"{V1}/repository/auth/save", body | {"password": ""})
    assert wrong.status == 400
    assert set(wrong.document["metadata"]) == {"password"}


async def test_the_catalog_is_what_the_nodes_have(api: ApiServer) -> None:
    node = NodeRecord(
        node_id="node-1",
        hostname="gpu-1",
        address="10.0.0.1",
        runtime="docker",
        gpus=(Gpu(uuid="GPU-1", product="rtx-4090-24gb", vram_bytes=24 * 2**30),),
        cuda_version="12.8",
        cpu_count=16,
        memory_bytes=64 * 10**9,
        disk_bytes=10**12,
        disk_free_bytes=10**12,
        labels={"region": "as-sgp-2"},
        version="1",
        started_at=CLOCK.utc(),
        beat=1,
    )
    await api.put(subjects.NODES, "node-1", node)

    async def clusters() -> Any:
        return (await api.ask("GET", f"{V1}/clusters")).document["data"]

    (cluster,) = await eventually(clusters)
    assert (cluster["id"], cluster["availableGpuType"]) == ("as-sgp-2", ["rtx-4090-24gb"])
    (product,) = (await api.ask("GET", f"{V1}/products?gpuNum=1")).document["data"]
    assert (product["id"], product["availableDeploy"]) == ("rtx-4090-24gb", True)
    assert (await api.ask("GET", f"{V1}/products?gpuNum=2")).document == {"data": []}
    told = (await api.ask("GET", f"{V1}/endpoint/limit")).document
    assert (told["minGPUNum"], told["cudaVersionList"]) == (0, ["12.8"])


async def test_version_2(api: ApiServer) -> None:
    body = {
        "type": "sync",
        "name": "x",
        "product_id": "rtx-4090-24gb",
        "image": "repo/img:tag",
        "worker_config": {"max_replicas": 2},
        "app_name": "my-app",
    }
    made = await api.ask("POST", f"{V2}/endpoints", body)
    assert made.status == 200, made
    endpoint_id = made.document["id"]
    path = f"{V2}/endpoints/{endpoint_id}"
    assert (await api.ask("GET", path)).document == made.document
    assert made.document["url"] == "http://router.test:8080/my-app"
    assert (await api.show("my-app"))["public"] is True

    patched = await api.ask("PATCH", path, {"worker_config": {"min_replicas": 1}})
    assert patched.document["worker_config"]["min_replicas"] == 1
    assert patched.document["worker_config"]["max_replicas"] == 2
    wrong = await api.ask("PATCH", path, {"worker_config": {"min_replicas": 9}})
    assert (wrong.status, set(wrong.document["metadata"])) == (400, {"worker_config"})

    await create(api)
    first = (await api.ask("GET", f"{V2}/endpoints?limit=1")).document
    assert [one["id"] for one in first["data"]] == [endpoint_id]
    assert first["has_more"] is True
    cursor = first["next_cursor"]
    last = (await api.ask("GET", f"{V2}/endpoints?limit=1&cursor={cursor}")).document
    assert ([one["name"] for one in last["data"]], last["has_more"]) == (["echo"], False)
    found = (await api.ask("GET", f"{V2}/endpoints?limit=0&cursor=&keyword=MY-APP")).document
    assert [one["id"] for one in found["data"]] == [endpoint_id]

    gone = await api.ask("DELETE", path)
    assert (gone.status, gone.document) == (200, {})
    assert (await api.ask("GET", path)).document["status"]["status"] == "deleting"


async def test_image_prewarms(api: ApiServer) -> None:
    path = f"{V1}/image/prewarm"
    body = {"imageUrl": "acme/echo:1", "clusterId": "default", "note": "first"}
    made = [(await api.ask("POST", path, body | {"note": n})).document["id"] for n in "abc"]
    assert (await api.ask("GET", f"{path}/quota")).document["total"] == 3
    listed = await api.ask("GET", f"{path}?page=2&pageSize=2")
    assert (listed.status, listed.document["total"]) == (200, 3)
    assert [one["id"] for one in listed.document["data"]] == made[2:]
    assert (await api.ask("GET", f"/v1/prewarms/{made[0]}")).document["image"] == "acme/echo:1"

    edited = await api.ask("POST", f"{path}/edit", {"id": made[0], "note": "other"})
    assert (edited.status, edited.document["note"]) == (200, "other")
    found = await api.ask("GET", f"{path}?name=oth&state=Pending")
    assert [one["id"] for one in found.document["data"]] == [made[0]]

    wrong = await api.ask("POST", path, body | {"repositoryAuth": "ra-none"})
    assert (wrong.status, set(wrong.document["metadata"])) == (400, {"repositoryAuth"})
    unknown = await api.ask("POST", f"{path}/delete", {"ids": [made[0], "pw-none"]})
    assert (unknown.status, unknown.document["reason"]) == (404, "PREWARM_NOT_FOUND")
    gone = await api.ask("POST", f"{path}/delete", {"ids": made})
    assert (gone.status, gone.document) == (200, {})
    assert (await api.ask("GET", path)).document == {"data": [], "total": 0}


async def test_network_storages_are_our_volumes(nats_server: NatsServer, tmp_path: Path) -> None:
    async with running_api(
        nats_server, tmp_path / "placed", novita_storage_path="/mnt/shared/novita"
    ) as api:
        body = {"clusterId": "as-sgp-2", "storageName": "models", "storageSize": 100}
        made = await api.ask("POST", f"{V1}/networkstorage/create", body)
        assert made.status == 200, made
        storage_id: str = made.document  # a bare JSON string, as there
        ours = (await api.ask("GET", f"/v1/volumes/{storage_id}")).document
        path = f"/mnt/shared/novita/{storage_id}"
        assert ours["source"] == {"type": "host_path", "path": path, "make": True}
        assert (ours["node_selector"], ours["size_gb"]) == ({"region": "as-sgp-2"}, 100)

        elsewhere = {"name": "other", "source": {"type": "nfs", "server": "nas", "path": "/x"}}
        other = (await api.ask("POST", "/v1/volumes", elsewhere)).document["id"]
        expected = {
            "storageId": storage_id,
            "storageName": "models",
            "storageSize": 100,
            "clusterId": "as-sgp-2",
            "clusterName": "as-sgp-2",
            "price": "0",
        }

        async def listed(query: str = "") -> tuple[list[dict[str, Any]], int]:
            answer = await api.ask("GET", f"{V1}/networkstorages/list{query}")
            assert answer.status == 200, answer
            return answer.document["data"], answer.document["total"]

        storages, total = await listed()
        assert (storages[0], total) == (expected, 2)
        assert (storages[1]["storageSize"], storages[1]["clusterId"]) == (0, "default")
        assert await listed("?pageNo=1&pageSize=1") == ([expected], 2)
        assert [s["storageId"] for s in (await listed("?pageNo=2&pageSize=1"))[0]] == [other]
        assert await listed("?pageNo=3&pageSize=1") == ([], 2)
        assert await listed("?storageName=odel") == ([expected], 1)
        assert await listed(f"?storageId={storage_id}") == ([expected], 1)

        larger = {"storageId": storage_id, "storageName": "weights", "storageSize": "200"}
        changed = await api.ask("POST", f"{V1}/networkstorage/update", larger)
        assert (changed.status, changed.document) == (200, {})
        for nobodys in ("vol-none", "no key: *"):
            missing = await api.ask(
                "POST", f"{V1}/networkstorage/update", {**larger, "storageId": nobodys}
            )
            assert missing.status == 404
        ours = (await api.ask("GET", f"/v1/volumes/{storage_id}")).document
        assert (ours["name"], ours["size_gb"]) == ("weights", 200)

        mounts = [{"type": "network", "id": storage_id, "mountPath": "/data"}]
        endpoint_id = await create(api, volumeMounts=mounts)
        gone = {"storageId": storage_id}
        used = await api.ask("POST", f"{V1}/networkstorage/delete", gone)
        assert (used.status, used.document["reason"]) == (409, "VOLUME_IN_USE")
        emptied = {"id": endpoint_id, "volumeMounts": []}
        assert (await api.ask("POST", f"{V1}/endpoint/update", emptied)).status == 200
        deleted = await api.ask("POST", f"{V1}/networkstorage/delete", gone)
        assert (deleted.status, deleted.document) == (200, {})
        assert (await api.ask("POST", f"{V1}/networkstorage/delete", gone)).status == 404


async def test_a_network_storage_without_a_place_is_refused(api: ApiServer) -> None:
    body = {"clusterId": "", "storageName": "models", "storageSize": 10}
    refused = await api.ask("POST", f"{V1}/networkstorage/create", body)
    assert (refused.status, refused.document["reason"]) == (400, "NO_NETWORK_STORAGE")
    assert "PENSTOCK_API_NOVITA_STORAGE_PATH" in refused.document["message"]
    for wrong in ({"storageName": ""}, {"storageSize": 0}, {"storageSize": "many"}):
        answer = await api.ask("POST", f"{V1}/networkstorage/create", body | wrong)
        (field,) = answer.document["metadata"]
        assert (answer.status, field) == (400, next(iter(wrong)))
