"""Registry auths over HTTP, with a real nats-server behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.messages import RegistryAuthRecord
from penstock_common.nats.kv import Bucket
from tests.support.api_server import ApiServer, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

AUTH = {"name": "ours", "username": "robot", "password": "canary-3141"}
PATH = "/v1/registry-auths"


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def test_a_password_goes_in_sealed_and_never_comes_out(api: ApiServer) -> None:
    made = await api.ask("POST", PATH, AUTH)
    assert made.status == 201
    assert made.document.keys() == {"id", "name", "username", "created_at"}
    assert made.headers["Location"] == f"{PATH}/{made.document['id']}"
    assert (await api.ask("GET", PATH)).document == {
        "registry_auths": [made.document],
        "next_cursor": None,
    }
    assert (await api.ask("GET", made.headers["Location"])).document == made.document

    entry = await Bucket(api.bus, subjects.REGISTRY_AUTHS).get(made.document["id"])
    assert entry is not None
    assert AUTH["password"].encode() not in entry.value
    sealed = RegistryAuthRecord.decode(entry.value).sealed
    assert api.sealer.open(sealed) == {"password": AUTH["password"]}


async def test_an_endpoint_names_one_that_exists_and_keeps_it(api: ApiServer) -> None:
    auth_id = (await api.ask("POST", PATH, AUTH)).document["id"]
    image = {"image": "acme/echo", "registry_auth_id": auth_id}
    made = await api.create(image=image)
    assert made["image"]["registry_auth_id"] == auth_id

    kept = await api.ask("DELETE", f"{PATH}/{auth_id}")
    assert (kept.status, kept.document["reason"]) == (409, "registry_auth_in_use")
    path = f"/v1/endpoints/{made['id']}"
    wrong = await api.ask("PATCH", path, {"image": {"registry_auth_id": "ra-none"}})
    assert wrong.status == 422
    assert wrong.document["errors"][0]["pointer"] == "/image/registry_auth_id"

    changed = await api.ask("PATCH", path, {"image": {"registry_auth_id": None}})
    assert (changed.status, changed.document["revision"]) == (200, 2)
    assert (await api.ask("DELETE", f"{PATH}/{auth_id}")).status == 200
    gone = await api.ask("GET", f"{PATH}/{auth_id}")
    assert (gone.status, gone.document["reason"]) == (404, "registry_auth_not_found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"password": ["canary-3141"]}, "/password"),
        ({"password": "canary-3141" * 2000}, "/password"),
        ({"username": ""}, "/username"),
        ({"pasword": "canary-3141"}, "/pasword"),
    ],
)
async def test_what_is_wrong_is_named_without_the_password(
    api: ApiServer, change: dict[str, object], pointer: str
) -> None:
    answer = await api.ask("POST", PATH, AUTH | change)
    assert answer.status == 422
    assert [e["pointer"] for e in answer.document["errors"]] == [pointer]
    assert "canary-3141" not in str(answer.document)
