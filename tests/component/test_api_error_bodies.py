"""Every error that docs/http-api.md shows, provoked at a real api process, and shown with its body.

The test plays the requests of the page and compares the answers with the page's: status, the headers
that the page names, and the whole body.
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from penstock_api.settings import ApiSettings
from tests.support.api_process import api_process
from tests.support.api_server import ADMIN_KEY, CLOCK, eventually
from tests.support.http_examples import Example, Part, examples_in
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs/http-api.md"
EXAMPLES = examples_in(PAGE)
#: What an api answers that is well and has one endpoint, `echo`.
USUAL = [example for example in EXAMPLES if example.status not in {429, 503}]
BUSY = [example for example in EXAMPLES if example.status == 429]
AWAY = [example for example in EXAMPLES if example.status == 503]

_SIZE = re.compile(r"<([\d,]+) bytes of JSON>")


async def ask(
    session: aiohttp.ClientSession, example: Example, keys: Mapping[str, str]
) -> tuple[int, Mapping[str, str], object]:
    """Status, headers and JSON of the answer to an example's request."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", **example.request.headers}
    for told, key in keys.items():
        headers["Authorization"] = headers["Authorization"].replace(told, key)
    body = example.request.body
    if size := _SIZE.fullmatch(body):
        body = f'"{"x" * (int(size[1].replace(",", "")) - 2)}"'
    async with session.request(
        example.method,
        example.path,
        headers=headers,
        data=io.BytesIO(body.encode()) if body else None,
        skip_auto_headers=["Content-Type"],
    ) as answer:
        return answer.status, answer.headers.copy(), await answer.json(content_type=None)


def check(answer: tuple[int, Mapping[str, str], object], told: Part, status: int) -> None:
    """The answer is what the page tells."""
    assert (answer[0], answer[2]) == (status, json.loads(told.body))
    assert answer[1]["Content-Type"] == "application/problem+json; charset=utf-8"
    assert {name: answer[1].get(name) for name in told.headers} == told.headers


def test_the_page_shows_every_kind_of_refusal() -> None:
    shown = {example.status for example in EXAMPLES}
    assert shown == {400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 503}
    for example in EXAMPLES:
        document = json.loads(example.answer.body)
        phrase = f"HTTP/1.1 {document['status']} {document['title']}"
        assert example.answer.first_line == phrase


async def test_what_the_page_shows_is_what_comes(nats_server: NatsServer, tmp_path: Path) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with api_process(nats_server, tmp_path) as api:
        session = api.session
        document = {"app_name": "echo", "image": {"image": "acme/echo"}}
        async with session.post("/v1/endpoints", json=document, headers=admin) as made:
            assert made.status == 201
        spec = {"name": "reader", "scope": "read"}
        async with session.post("/v1/api-keys", json=spec, headers=admin) as made:
            keys = {"<a key of scope read>": (await made.json())["key"]}
        for example in USUAL:
            check(await ask(session, example, keys), example.answer, example.status)

        nats_server.kill()

        async def is_away() -> bool:
            async with session.get("/readyz") as answer:
                return answer.status == 503

        await eventually(is_away)
        for example in AWAY:
            check(await ask(session, example, {}), example.answer, example.status)


async def test_who_asks_too_often_is_told_when_to_come_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    # So slow that the second request comes too early on any machine.
    limits = {"PENSTOCK_API_RATE_LIMIT_PER_S": "0.01", "PENSTOCK_API_RATE_LIMIT_BURST": "1"}
    (example,) = BUSY
    async with api_process(nats_server, tmp_path, **limits) as api:
        began = CLOCK.monotonic()
        answers = [await ask(api.session, example, {}) for _ in range(2)]
        took_s = CLOCK.monotonic() - began
    (allowed, refused) = answers
    assert allowed[0] == 200
    usual = f"{ApiSettings().rate_limit_per_s:g} requests"
    assert usual in example.answer.body
    told = Part("", {}, example.answer.body.replace(usual, "0.01 requests"))
    check(refused, told, 429)
    assert 100 - took_s <= int(refused[1]["Retry-After"]) <= 100
    assert example.answer.headers == {"Retry-After": "1"}
