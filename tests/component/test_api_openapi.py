"""The api does what its own /openapi.json says, whatever is sent to it."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.api_server import ADMIN_KEY, running_api
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]

#: no 500, no undeclared status or content type, no answer against its schema, no key ignored
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


# Its work is bounded by count, some ten thousand requests; the rest is how fast the machine is.
@pytest.mark.timeout(900)
async def test_schemathesis_finds_no_breach(nats_server: NatsServer, tmp_path: Path) -> None:
    async with running_api(nats_server, tmp_path / "api") as api:
        # fmt: off
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/openapi.json",
            "--header", f"Authorization: Bearer {ADMIN_KEY}",
            "--checks", ",".join(CHECKS), "--max-examples", "8", "--seed", "1",
            "--request-timeout", "60",  # of one that hangs; by default 10 s, which a stall may take
            # Streams that do not end by themselves are for test_api_logs.py and test_api_events.py.
            "--header", "Accept: application/json",
            "--exclude-path-regex", "/logs$",
            "--phases", "examples,coverage,fuzzing", "--warnings", "off", "--no-color",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
        )
        # fmt: on
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_the_pages_of_the_api_open_without_a_key(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running_api(nats_server, tmp_path / "api") as api:
        told = await api.ask("GET", "/openapi.json", key=None)
        assert told.status == 200
        assert told.document["openapi"] == "3.1.0"
        over_nats = await api.ask("GET", "/asyncapi.json", key=None)
        assert over_nats.status == 200
        assert over_nats.document["asyncapi"] == "3.0.0"
        for path in ("/docs", "/docs/asyncapi"):
            async with api.session.get(api.url + path) as page:
                assert page.status == 200
                assert page.content_type == "text/html"
                assert "default-src 'none'" in page.headers["Content-Security-Policy"]
