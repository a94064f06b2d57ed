"""Lists that may grow: pages and filters of each, and names of every kind in them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from penstock_common import subjects
from penstock_common.specs import RESERVED_APP_NAMES
from tests.fakes.scheduler_records import make_node
from tests.support.api_server import ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]

SOURCE = {"type": "host_path", "path": "/mnt/models"}
#: List → member, documents to make three of them, a filter, and which of the three it leaves.
LISTS: dict[str, tuple[str, list[dict[str, Any]], str, list[int]]] = {
    "/v1/volumes": (
        "volumes",
        [{"name": name, "source": SOURCE} for name in ("one", "two", "Tower")],
        "q=TO",
        [2],
    ),
    "/v1/prewarms": (
        "prewarms",
        [{"image": f"acme/{name}"} for name in ("one", "two", "three")],
        "state=pending",
        [0, 1, 2],
    ),
    "/v1/registry-auths": (
        "registry_auths",
        [{"name": n, "username": "u", "password": "p"} for n in ("one", "two", "three")],
        "",
        [0, 1, 2],
    ),
    "/v1/api-keys": (
        "api_keys",
        [{"name": n, "scope": s} for n, s in [("a", "read"), ("b", "deploy"), ("c", "read")]],
        "scope=deploy",
        [1],
    ),
    "/v1/webhooks": (
        "webhooks",
        [{"url": f"https://{n}.example/", "enabled": False} for n in ("one", "two", "three")],
        "",
        [0, 1, 2],
    ),
    "/v1/endpoints": (
        "endpoints",
        [{"app_name": n, "image": {"image": "acme/echo"}} for n in ("one", "two", "three")],
        "q=t&state=deploying",
        [1, 2],
    ),
}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def pages(api: ApiServer, path: str, member: str, query: str = "") -> list[list[str]]:
    """Ids, page by page of two."""
    found: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await api.ask("GET", f"{path}?limit=2&{query}{cursor and f'&cursor={cursor}'}")
        assert answer.status == 200, answer
        found.append([item["id"] for item in answer.document[member]])
        cursor = answer.document["next_cursor"]
    return found


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_comes_in_pages_and_filtered(api: ApiServer, path: str) -> None:
    member, documents, query, left = LISTS[path]
    made = []
    for document in documents:
        answer = await api.ask("POST", path, document)
        assert answer.status == 201, answer
        made.append(answer.document["id"])
    if path == "/v1/api-keys":  # the administrator's is there as well, and the oldest
        made.insert(0, "key-admin")
        left = [place + 1 for place in left]
    assert await pages(api, path, member) == [made[:2], made[2:]]
    whole = [made[place] for place in left]
    assert await pages(api, path, member, query) == (
        [whole[:2], whole[2:]] if whole[2:] else [whole]
    )
    for wrong in ("limit=0", "limit=1001", "cursor=x"):
        refused = await api.ask("GET", f"{path}?{wrong}")
        assert (refused.status, refused.document["reason"]) == (400, "malformed_page")


async def test_nodes_come_in_pages_and_filtered(api: ApiServer) -> None:
    for name in ("node-c", "node-a", "node-b"):
        node = make_node(name).model_copy(update={"restarting": name == "node-b"})
        await api.put(subjects.NODES, name, node)

    async def all_are_shown() -> bool:
        return len((await api.ask("GET", "/v1/nodes")).document["nodes"]) == 3

    await eventually(all_are_shown)
    assert await pages(api, "/v1/nodes", "nodes") == [["node-a", "node-b"], ["node-c"]]
    assert await pages(api, "/v1/nodes", "nodes", "state=ready") == [["node-a", "node-c"]]
    assert (await api.ask("GET", "/v1/nodes?state=asleep")).status == 400


async def test_no_endpoint_takes_a_reserved_name(api: ApiServer) -> None:
    assert {"v1", "docs", "healthz", "metrics"} <= RESERVED_APP_NAMES
    for app_name in sorted(RESERVED_APP_NAMES):
        document = {"app_name": app_name, "image": {"image": "acme/echo"}}
        refused = await api.ask("POST", "/v1/endpoints", document)
        (error,) = refused.document["errors"]
        assert (refused.status, error["pointer"]) == (422, "/app_name")
        assert error["message"] == f"'{app_name}' is a reserved word; choose another name"


@pytest.mark.parametrize("letter", ["名", "é", "🐙", "\N{RIGHT-TO-LEFT MARK}"])
async def test_a_name_of_220_characters_of_any_script_is_kept(api: ApiServer, letter: str) -> None:
    document = {"name": letter * 220, "app_name": "echo", "image": {"image": "acme/echo"}}
    made = await api.ask("POST", "/v1/endpoints", document)
    assert (made.status, made.document["name"]) == (201, letter * 220)
    found = await api.ask("GET", f"/v1/endpoints?q={quote(letter * 220)}")
    assert [endpoint["id"] for endpoint in found.document["endpoints"]] == [made.document["id"]]
    longer = await api.ask("PATCH", "/v1/endpoints/echo", {"name": letter * 221})
    assert (longer.status, longer.document["errors"][0]["pointer"]) == (422, "/name")
    assert (await api.show("echo"))["name"] == letter * 220
