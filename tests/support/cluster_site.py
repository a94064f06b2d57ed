"""The services of an installation over a NATS cluster, as processes, set up as the page says."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.installation import eventually
from tests.support.nats_cluster import NatsCluster


class ClusterSite:
    """An api, a scheduler, a router and a node with the process runtime."""

    def __init__(self, cluster: NatsCluster, folder: Path) -> None:
        folder.mkdir()
        self._cluster = cluster
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.urls: dict[str, str] = {}
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {cluster.admin_key_file.read_text().strip()}"},
            timeout=aiohttp.ClientTimeout(total=90),
            connector=aiohttp.TCPConnector(limit=0),
        )

    async def start(self) -> None:
        """Start all services, and wait until each says that it is ready."""
        cluster = self._cluster
        api = {
            "PORT": "0",
            "ADMIN_KEY_FILE": str(cluster.admin_key_file),
            "SECRET_KEY_FILE": str(cluster.secret_key_file),
            "NODE_NATS_URL": cluster.url,
            "NODE_NATS_PASSWORD_FILE": str(cluster.passwords["node-agent"]),
        }
        # It makes the streams for all.
        await self._start("api", api)
        await self._start("scheduler", {})
        await self._start("router", {"PORT": "0", "ROUTER_ID": "rt-1"})
        async with self.session.post(f"{self.urls['api']}/v1/join-tokens", json={}) as answer:
            token: str = (await answer.json())["token"]
        node = {
            "RUNTIME": "process",
            "GPUS": "none",
            "DATA_DIR": str(self._folder / "node"),
            "JOIN_API_URL": self.urls["api"],
            "JOIN_TOKEN": token,
        }
        # Of NATS a host that joins knows what it is told, the CA included.
        await self._start("node-agent", node, knows_nats=False)

    async def _start(
        self, service: str, settings: Mapping[str, str], *, knows_nats: bool = True
    ) -> None:
        prefix = f"PENSTOCK_{service.upper().replace('-', '_')}_"
        env = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
        env |= self._cluster.variables(service) if knows_nats else {}
        env |= {prefix + name: value for name, value in settings.items()}
        with self._log(service).open("wb") as log:
            self._processes[service] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"penstock_{service.replace('-', '_')}"),
                env=env,
                stdout=log,
                stderr=log,
            )
        await eventually(lambda: self._is_ready(service), f"{service} ready", within_s=120)

    async def _is_ready(self, service: str) -> bool:
        assert self._processes[service].returncode is None, self._log(service).read_text()
        for line in self.lines(service):
            if line.get("action") == "service_ready":
                self.urls[service] = line.get("url", "")
                return True
        return False

    def _log(self, service: str) -> Path:
        return self._folder / f"{service}.log"

    def lines(self, service: str) -> list[dict[str, Any]]:
        """What a service has written to its log so far."""
        text = self._log(service).read_text(errors="replace")
        whole = text.rpartition("\n")[0]  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def said(self, action: str) -> list[dict[str, Any]]:
        """Lines of all logs that tell of this."""
        return [line for s in self._processes for line in self.lines(s) if line["action"] == action]

    async def deploy(self, app: str, command: str, **changes: Any) -> None:
        """Make an endpoint without GPU that runs a command."""
        document = {
            "app_name": app,
            "image": {"command": command},
            "gpu": {"count": 0},
            **changes,
        }
        url = f"{self.urls['api']}/v1/endpoints"
        async with self.session.post(url, json=document) as answer:
            assert answer.status == 201, await answer.text()

    async def workers(self, app: str) -> list[dict[str, Any]]:
        """The endpoint's workers, as the api shows them."""
        async with self.session.get(f"{self.urls['api']}/v1/endpoints/{app}/workers") as answer:
            assert answer.status == 200, await answer.text()
            found: list[dict[str, Any]] = (await answer.json())["workers"]
            return found

    async def get(self, app: str, path: str) -> tuple[int, Any]:
        """Status and JSON of a request to an endpoint."""
        async with self.session.get(f"{self.urls['router']}/{app}{path}") as answer:
            return answer.status, await answer.json(content_type=None)

    async def stop(self) -> None:
        """End the services, workers included; each must end without an error."""
        await self.session.close()
        for service in reversed(self._processes):
            if self._processes[service].returncode is None:
                self._processes[service].send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                async with asyncio.timeout(60):
                    await process.wait()
            except TimeoutError:
                process.kill()
                raise


@asynccontextmanager
async def running_site(cluster: NatsCluster, folder: Path) -> AsyncIterator[ClusterSite]:
    """The services within the block."""
    site = ClusterSite(cluster, folder)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
