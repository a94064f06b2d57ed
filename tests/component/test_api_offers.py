"""GET /v1/products and /v1/limits, and their commands."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_common import subjects
from tests.component.test_api_workers import assign
from tests.component.test_cli_commands import Penstock
from tests.fakes.scheduler_records import make_node
from tests.support.api_server import ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    prices = "rtx-4090-24gb=0.35"
    async with running_api(nats_server, tmp_path / "api", gpu_prices=prices) as server:
        node = make_node("node-a", n_gpus=3, product="rtx-4090-24gb")
        await server.put(subjects.NODES, "node-a", node)

        async def is_shown() -> bool:
            return bool((await server.ask("GET", "/v1/nodes")).document["nodes"])

        await eventually(is_shown)
        yield server


async def test_products_are_listed_with_their_price(api: ApiServer, tmp_path: Path) -> None:
    (product,) = (await api.ask("GET", "/v1/products")).document["products"]
    assert (product["id"], product["gpus_free"], product["price_per_hour"]) == (
        "rtx-4090-24gb",
        3,
        0.35,
    )
    penstock = Penstock(api, tmp_path)
    listed = await penstock("product", "list")
    words = listed.out.splitlines()[1].split()
    assert (words[0], words[3:5], words[-2:]) == ("rtx-4090-24gb", ["3", "3"], ["node-a", "3/3"])
    shown = json.loads((await penstock("product", "list", "--json")).out)
    assert shown == {"products": [product]}


async def test_limits_tell_the_caller_s_quota_and_its_use(api: ApiServer, tmp_path: Path) -> None:
    spec = {"name": "team", "scope": "deploy", "max_workers": 2}
    made = (await api.ask("POST", "/v1/api-keys", spec)).document
    document = {"app_name": "echo", "image": {"image": "acme/echo"}}
    created = await api.ask("POST", "/v1/endpoints", document, key=made["key"])
    await assign(api, 1, created.document["id"], owner=made["id"])
    limits = (await api.ask("GET", "/v1/limits", key=made["key"])).document
    assert limits["quota"] == {
        "api_key": made["id"],
        "scope": "deploy",
        "max_workers": 2,
        "max_gpus": None,
        "workers": 1,
        "gpus": 0,
        "endpoints": 1,
    }
    assert limits["requests"]["rate_per_s"] == api.settings.rate_limit_per_s
    assert limits["fields"]["workers.max"]["maximum"] == 10_000
    penstock = Penstock(api, tmp_path)
    told = (await penstock("limits", PENSTOCK_API_KEY=made["key"])).out
    assert "1 of 2" in told
    assert "1 to 10000 (whole)" in told
    shown = json.loads((await penstock("limits", "--json", PENSTOCK_API_KEY=made["key"])).out)
    assert shown == limits
