"""Scripts written for RunPod's REST API, against the running api."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

BASE = "/runpod/v1"
TEMPLATE: dict[str, Any] = {"name": "echo", "imageName": "acme/echo:1", "ports": ["8000/http"]}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def template(api: ApiServer, **changes: Any) -> str:
    made = await api.ask("POST", f"{BASE}/templates", TEMPLATE | changes)
    assert made.status == 200, made
    found: str = made.document["id"]
    return found


async def test_the_life_of_an_endpoint(api: ApiServer) -> None:
    template_id = await template(api)
    body = {"templateId": template_id, "name": "e", "gpuTypeIds": ["NVIDIA GeForce RTX 4090"]}
    made = await api.ask("POST", f"{BASE}/endpoints", body)
    assert made.status == 200, made
    assert made.document["templateId"] == template_id
    assert (made.document["workersMax"], made.document["version"]) == (3, 0)
    endpoint_id = made.document["id"]
    path = f"{BASE}/endpoints/{endpoint_id}"
    assert (await api.ask("GET", path)).document == made.document
    assert (await api.ask("GET", f"{BASE}/endpoints")).document == [made.document]
    ours = await api.show(endpoint_id)
    assert (ours["public"], ours["image"]["http_port"]) == (False, 8000)
    assert ours["gpu"]["products"] == ["rtx-4090-24gb"]

    whole = await api.ask("GET", f"{path}?includeTemplate=true&includeWorkers=true")
    assert whole.document["template"]["imageName"] == "acme/echo:1"
    assert whole.document["workers"] == []

    patched = await api.ask("PATCH", path, {"workersMin": 1, "scalerType": "REQUEST_COUNT"})
    assert patched.status == 200, patched
    assert (patched.document["workersMin"], patched.document["scalerType"]) == (1, "REQUEST_COUNT")
    paused = await api.ask("POST", f"{path}/update", {"workersMax": 0})
    assert (paused.document["workersMax"], paused.document["workersMin"]) == (0, 0)
    assert (await api.show(endpoint_id))["state"] == "paused"
    resumed = await api.ask("PATCH", path, {"workersMax": 2})
    assert (resumed.document["workersMax"], resumed.document["workersMin"]) == (2, 1)
    assert (await api.show(endpoint_id))["state"] == "deploying"

    kept = await api.ask("DELETE", f"{BASE}/templates/{template_id}")
    assert kept.status == 409
    gone = await api.ask("DELETE", path)
    assert (gone.status, gone.document) == (204, None)
    assert (await api.show(endpoint_id))["state"] == "deleting"
    gone = await api.ask("DELETE", f"{BASE}/templates/{template_id}")
    assert (gone.status, gone.document) == (204, None)
    assert (await api.ask("GET", f"{BASE}/templates")).document == []


async def test_a_changed_template_rolls_its_endpoints(api: ApiServer) -> None:
    template_id, other_id = await template(api), await template(api, name="other")
    made = [
        (await api.ask("POST", f"{BASE}/endpoints", {"templateId": one, "name": "e"})).document[
            "id"
        ]
        for one in (template_id, template_id, other_id)
    ]
    changed = await api.ask(
        "PATCH", f"{BASE}/templates/{template_id}", {"imageName": "acme/echo:2"}
    )
    assert changed.status == 200, changed
    images = [(await api.show(endpoint_id))["image"]["image"] for endpoint_id in made]
    assert images == ["acme/echo:2", "acme/echo:2", "acme/echo:1"]
    assert (await api.ask("GET", f"{BASE}/endpoints/{made[0]}")).document["version"] == 1
    shown = await api.ask("GET", f"{BASE}/templates/{template_id}")
    assert (shown.document, shown.document["imageName"]) == (changed.document, "acme/echo:2")


async def test_a_template_keeps_its_registry_auth(api: ApiServer) -> None:
    auth = {"name": "ours", "username": "robot", "password": "canary-3141"}
    auth_id = (await api.ask("POST", "/v1/registry-auths", auth)).document["id"]
    template_id = await template(api, containerRegistryAuthId=auth_id)
    kept = await api.ask("DELETE", f"/v1/registry-auths/{auth_id}")
    assert (kept.status, kept.document["reason"]) == (409, "registry_auth_in_use")
    path = f"{BASE}/templates/{template_id}/update"
    cleared = await api.ask("POST", path, {"containerRegistryAuthId": ""})
    assert (cleared.status, cleared.document["containerRegistryAuthId"]) == (200, "")
    assert (await api.ask("DELETE", f"/v1/registry-auths/{auth_id}")).status == 200


async def test_errors_have_their_form(api: ApiServer) -> None:
    template_id = await template(api)
    wrong = {"templateId": template_id, "workersMin": 9, "workersMax": 1}
    refused = await api.ask("POST", f"{BASE}/endpoints", wrong)
    assert refused.status == 400
    assert refused.document.keys() == {"error", "status"}
    assert "workersMin min 9 is above max 1" in refused.document["error"]
    unknown = await api.ask("POST", f"{BASE}/endpoints", {"templateId": "tpl-none"})
    assert unknown.document == {"error": "there is no template 'tpl-none'", "status": 404}
    for name, value, field in [
        ("containerRegistryAuthId", "ra-none", "containerRegistryAuthId"),
        ("env", {"PENSTOCK_X": "1"}, "env"),
        ("volumeMountPath", "relative", "volumeMountPath"),
    ]:
        body = TEMPLATE | {name: value, "volumeInGb": 1}
        refused = await api.ask("POST", f"{BASE}/templates", body)
        assert refused.status == 400, name
        assert field in refused.document["error"], refused
    assert (await api.ask("GET", f"{BASE}/endpoints", key=None)).document["status"] == 401
    assert (await api.ask("GET", f"{BASE}/pods")).document["status"] == 404
    asked = await api.ask("GET", f"{BASE}/endpoints?includeWorkers=yes")
    assert (asked.status, asked.document["status"]) == (400, 400)
