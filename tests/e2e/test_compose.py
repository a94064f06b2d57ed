"""One machine by Docker Compose: built, started, used and removed as docs/operations.md says."""

import asyncio
import json
import shlex

import aiohttp
import pytest

from tests.support.compose import build_images, docker, project
from tests.support.docker_engine import IMAGE
from tests.support.installation import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
#: Tells a secret, which only an agent with the api's key can have opened.
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["TOKEN"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
ENDPOINT = {
    "name": "tiny",
    "app_name": "tiny",
    "image": {"image": IMAGE, "http_port": 8000, "command": shlex.join(["python3", "-c", SERVER])},
    "gpu": {"count": 0},
    "workers": {"min": 0, "max": 1, "idle_timeout_s": 3600},
    "secrets": {"TOKEN": "canary-2468"},
}
#: The same with a port at which nothing listens.
ELSEWHERE = ENDPOINT | {
    "name": "elsewhere",
    "app_name": "elsewhere",
    "image": {"image": IMAGE, "http_port": 9000, "command": shlex.join(["python3", "-c", SERVER])},
    "workers": {"min": 1, "max": 1},
}
SERVICES = ("nats", "api", "scheduler", "router", "node-agent")


async def test_one_machine_by_compose_serves_a_request_and_leaves_nothing() -> None:
    build_images()  # before ports are chosen, since it takes so long
    with project() as penstock:
        penstock.compose("up", "-d")

        async def healthy() -> bool:
            # One that is slow on a busy machine may be unhealthy for a while.
            health = await asyncio.to_thread(penstock.health)
            return all(health.get(service) == "healthy" for service in SERVICES)

        try:
            await eventually(healthy, "every part is healthy", within_s=180)
        except AssertionError:
            print(penstock.health(), penstock.compose("logs", "--tail", "50"))
            raise
        key = penstock.compose("exec", "-T", "api", "cat", "/var/lib/penstock/admin.key").strip()
        users = {s: penstock.compose("exec", "-T", s, "id", "-u").strip() for s in SERVICES}
        assert users.pop("node-agent") == "0"
        assert "0" not in users.values()
        # Who serves strangers cannot read what opens secrets.
        keys = "test ! -r /var/lib/penstock/secret.key && test ! -r /var/lib/penstock/admin.key"
        penstock.compose("exec", "-T", "router", "sh", "-c", keys)

        headers = {"Authorization": f"Bearer {key}"}
        timeout = aiohttp.ClientTimeout(total=180)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            async with session.post(f"{penstock.url}/v1/endpoints", json=ENDPOINT) as answer:
                text = await answer.text()
                assert answer.status == 201, text
                endpoint = json.loads(text)
            assert endpoint["url"] == f"{penstock.router_url}/tiny"
            async with session.get(f"{endpoint['url']}/") as answer:
                assert (answer.status, await answer.text()) == (200, "canary-2468")
            async with session.post(f"{penstock.url}/v1/endpoints", json=ELSEWHERE) as answer:
                assert answer.status == 201, await answer.text()

            async def told() -> bool:
                async with session.get(f"{penstock.url}/v1/endpoints/elsewhere") as answer:
                    message = (await answer.json())["message"] or ""
                return "the worker listens on port 8000; set image.http_port to 8000" in message

            await eventually(told, "the agent sees where the worker listens", within_s=90)
            await session.delete(f"{penstock.url}/v1/endpoints/elsewhere")
        label = f"label=penstock.endpoint={endpoint['id']}"
        assert docker("ps", "-q", "--filter", label)
        listed = json.loads(penstock.compose("run", "--rm", "cli", "worker", "list", "--json"))
        states = {
            w["id"]: w["state"] for w in listed["workers"] if w["endpoint_id"] == endpoint["id"]
        }
        assert list(states.values()) == ["running"]

        penstock.compose("down", "-v")
        assert set(penstock.left_behind().values()) == {""}
        assert docker("ps", "-aq", "--filter", label) == ""
