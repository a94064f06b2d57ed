"""The api as an HTTP server: keys, refusals, limits, and NATS that goes away."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock_api.app import serve
from penstock_api.auth import hash_key
from penstock_common import subjects
from penstock_common.lifecycle import MisconfiguredError
from penstock_common.messages import ApiKeyRecord
from tests.support.api_server import ADMIN_KEY, CLOCK, ApiServer, eventually, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats]
DOCUMENT = {"app_name": "echo", "image": {"image": "acme/echo"}}


@pytest.fixture
async def api(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with running_api(nats_server, tmp_path / "api") as server:
        yield server


async def test_a_key_does_what_its_scope_grants(api: ApiServer) -> None:
    for scope in ("read", "invoke"):
        record = ApiKeyRecord(
            key_id=f"key-{scope}",
            sha256=hash_key(f"secret-{scope}"),
            scope=scope,
            created_at=CLOCK.utc(),
        )
        await api.put(subjects.API_KEYS, record.key_id, record)

    async def can_read() -> bool:
        return (await api.ask("GET", "/v1/nodes", key="secret-read")).status == 200

    await eventually(can_read)
    asks = [("GET", "/v1/endpoints", None), ("POST", "/v1/endpoints", DOCUMENT)]
    statuses = {
        key: [(await api.ask(m, path, body, key=key)).status for m, path, body in asks]
        for key in (None, "wrong", "secret-invoke", "secret-read", ADMIN_KEY)
    }
    assert statuses == {
        None: [401, 401],
        "wrong": [401, 401],
        "secret-invoke": [403, 403],
        "secret-read": [200, 403],
        ADMIN_KEY: [200, 201],
    }
    refused = await api.ask("GET", "/v1/endpoints", key=None)
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert refused.document["reason"] == "unauthorized"


async def test_a_new_admin_key_in_the_file_takes_the_old_ones_place(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api") as first:
        await first.create()
    (tmp_path / "api" / "admin.key").write_text("another-key-of-the-tests-9876543210\n")
    server = ApiServer(nats_server, tmp_path / "api")
    await server.start()
    try:
        assert (await server.ask("GET", "/v1/endpoints", key=ADMIN_KEY)).status == 401
        new = "another-key-of-the-tests-9876543210"
        listed = (await server.ask("GET", "/v1/endpoints", key=new)).document["endpoints"]
        assert [endpoint["app_name"] for endpoint in listed] == ["echo"]
    finally:
        await server.stop()


async def test_what_the_api_does_not_take_is_refused_with_a_problem(api: ApiServer) -> None:
    async def refusal(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str]:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await api.ask(method, path, headers=headers, data=io.BytesIO(body))
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert answer.document["status"] == answer.status
        return answer.status, answer.document["reason"]

    typed = {"Content_Type": "application/json"}
    url = "/v1/endpoints"
    assert await refusal("POST", url, b"{", **typed) == (400, "malformed_json")
    assert await refusal("POST", url, b"[" * 100_000, **typed) == (400, "malformed_json")
    assert await refusal("POST", url, b"{}", Content_Type="text/plain") == (
        415,
        "unsupported_media_type",
    )
    merge = "application/merge-patch+json"
    assert (await refusal("POST", url, b"{}", Content_Type=merge))[0] == 415
    assert (await refusal("POST", url, b"{}", Content_Type="application/json; charset=latin1"))[
        0
    ] == 415
    assert await refusal("POST", url, b"{}", Content_Encoding="gzip", **typed) == (
        415,
        "unsupported_encoding",
    )
    assert await refusal("POST", url, b" " * (1 << 20) + b"{}", **typed) == (413, "body_too_large")
    large = json.dumps(DOCUMENT | {"env": {"A": "x" * 200_000}}).encode()
    assert await refusal("POST", url, large, **typed) == (413, "document_too_large")
    assert await refusal("GET", "/v1/nowhere") == (404, "no_such_route")
    assert await refusal("GET", "/v1/endpoints/") == (404, "no_such_route")
    assert await refusal("GET", "/v1/endpoints/nobody") == (404, "endpoint_not_found")
    assert await refusal("PATCH", "/v1/endpoints/nobody") == (404, "endpoint_not_found")
    assert await refusal("GET", "/v1/endpoints/nobody/workers") == (404, "endpoint_not_found")
    assert await refusal("GET", "/v1/endpoints/%ff%2f..%00") == (404, "endpoint_not_found")
    assert await refusal("PUT", url) == (405, "method_not_allowed")
    answer = await api.ask("DELETE", url)
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_head_answers_as_get_without_a_body(api: ApiServer) -> None:
    head, get = await api.ask("HEAD", "/v1/nodes"), await api.ask("GET", "/v1/nodes")
    assert (head.status, head.document) == (200, None)
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_a_chunked_body_beyond_the_limit_is_refused(api: ApiServer) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    headers = {"Content-Type": "application/json"}
    answer = await api.ask("POST", "/v1/endpoints", headers=headers, data=chunks())
    assert (answer.status, answer.document["reason"]) == (413, "body_too_large")


async def raw(api: ApiServer, head: bytes) -> bytes:
    """Everything that the api answers to these bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.settings.port)
    writer.write(head)
    await writer.drain()
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_client_that_does_not_go_on_with_its_head_is_cut_off(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api", head_timeout_s=0.5) as api:
        assert await raw(api, b"") == b""
        assert await raw(api, b"GET /healthz HTT") == b""


async def test_a_client_that_does_not_go_on_with_its_body_is_told(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    slow = (
        b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + ADMIN_KEY.encode() + b"\r\nContent-Length: 9\r\n\r\n{"
    )
    async with running_api(nats_server, tmp_path / "api", body_timeout_s=0.5) as api:
        assert b" 408 " in (await raw(api, slow)).split(b"\r\n", 1)[0]


async def test_reads_go_on_without_nats_and_writes_say_so(
    api: ApiServer, nats_server: NatsServer
) -> None:
    made = await api.create()
    nats_server.kill()

    async def not_ready() -> str:
        answer = await api.ask("GET", "/readyz", key=None)
        return "" if answer.status == 200 else answer.document["detail"]

    assert "nats" in await eventually(not_ready)
    assert (await api.ask("GET", "/healthz", key=None)).status == 200
    assert await api.show("echo") == made
    for method, path, body in (
        ("POST", "/v1/endpoints", DOCUMENT | {"app_name": "other"}),
        ("PATCH", "/v1/endpoints/echo", {"public": True}),
        ("DELETE", "/v1/endpoints/echo", None),
    ):
        refused = await api.ask(method, path, body)
        # None waited for NATS: it would tell of a timeout.
        assert (refused.status, refused.document["reason"]) == (503, "nats_disconnected")
        assert refused.headers["Retry-After"] == "1"

    nats_server.start()

    async def ready() -> bool:
        return (await api.ask("GET", "/readyz", key=None)).status == 200

    await eventually(ready)
    assert (await api.ask("PATCH", "/v1/endpoints/echo", {"public": True})).status == 200
    assert (await api.show("echo"))["public"] is True


async def test_a_frozen_nats_bounds_the_wait_of_a_write(
    api: ApiServer, nats_server: NatsServer
) -> None:
    await api.create()
    nats_server.freeze()
    try:
        answers = await asyncio.gather(
            *(api.ask("PATCH", "/v1/endpoints/echo", {"public": True}) for _ in range(5)),
            api.ask("GET", "/v1/endpoints/echo"),
        )
        assert [answer.status for answer in answers] == [503] * 5 + [200]
    finally:
        nats_server.thaw()


async def test_wrong_settings_end_the_start_with_the_reason(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    server = ApiServer(nats_server, tmp_path / "api")
    (tmp_path / "api" / "secret.key").write_text("no key")
    with pytest.raises(MisconfiguredError, match=r"secret\.key"):
        async with asyncio.timeout(60):
            await serve(server.settings, server.stopping)
    (tmp_path / "api" / "admin.key").write_text("short")
    with pytest.raises(MisconfiguredError, match=r"admin\.key"):
        async with asyncio.timeout(60):
            await serve(server.settings, server.stopping)


async def test_who_asks_too_often_is_told_when_to_come_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    # So slow that the fourth request comes too early on any machine.
    limits = {"rate_limit_per_s": 0.01, "rate_limit_burst": 3}
    async with running_api(nats_server, tmp_path / "limited", **limits) as server:
        began = CLOCK.monotonic()
        answers = [await server.ask("GET", "/v1/endpoints") for _ in range(4)]
        took_s = CLOCK.monotonic() - began
        assert [a.status for a in answers] == [200, 200, 200, 429]
        assert answers[3].document["reason"] == "too_many_requests"
        assert 100 - took_s <= int(answers[3].headers["Retry-After"]) <= 100
        guesses = [await server.ask("GET", "/v1/endpoints", key=f"guess-{n}") for n in range(4)]
        assert [a.status for a in guesses] == [401, 401, 401, 429]
        assert (await server.ask("GET", "/healthz", key=None)).status == 200
