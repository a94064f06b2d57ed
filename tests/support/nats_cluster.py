"""Three real nats-servers on loopback, as docs/operations.md has them: with TLS, users and routes."""

import asyncio
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from penstock_cli.local.data_dir import DataDir
from penstock_common.nats.connection import Bus
from penstock_common.nats.permissions import OPERATOR
from penstock_common.settings import NatsSettings
from tests.support.installation import CLOCK, eventually
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.support.requirements import require

PAGE: Final = Path(__file__).parents[2] / "docs/operations.md"
NAMES: Final = ("nats-1", "nats-2", "nats-3")


@dataclass(frozen=True)
class Example:
    """What the page tells an operator to type and to write: the blocks of its section."""

    certificates: str
    users: str
    server: str
    service: str

    @classmethod
    def read(cls) -> "Example":
        section = PAGE.read_text().partition("\n## NATS as a cluster\n")[2].partition("\n## ")[0]
        return cls(*re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def _sh(script: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}"


def write_certificates(folder: Path, names: Iterable[str]) -> None:
    """Make a CA and certificates of it for 127.0.0.1 by the page's commands."""
    require(shutil.which("openssl") is not None, "the program openssl")
    commands = Example.read().certificates
    ca, server = re.findall(r"^openssl.*?[^\\]\n", commands, re.MULTILINE | re.DOTALL)
    _sh(ca, folder)
    for name in names:
        _sh(server.replace("nats-1", name).replace("10.0.0.1", "127.0.0.1"), folder)


class NatsCluster:
    """Servers that run, each with a configuration, a certificate and a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.example = Example.read()
        self.etc = folder / "etc"
        self.etc.mkdir(parents=True)
        with DataDir(self.etc / "keys") as keys:
            keys.write_nats_config("127.0.0.1", 1, 1)
            self.passwords: Mapping[str, Path] = keys.nats_password_files
            self.secret_key_file, self.admin_key_file = keys.secret_key_file, keys.admin_key_file
        _sh(self.example.users, self.etc)
        write_certificates(self.etc, NAMES)
        self.servers: dict[str, NatsServer] = {}

    def start(self) -> None:
        """Start all three; wait until they agree on a leader of the whole and follow it."""
        for _ in range(4):
            self._configure()
            try:
                for server in self.servers.values():
                    server.start()
            except RuntimeError as error:
                self.stop()
                if "address already in use" not in str(error):
                    raise
            else:
                return
        raise RuntimeError("no three times three free ports")

    def _configure(self) -> None:
        routes = [free_port() for _ in NAMES]
        for i, name in enumerate(NAMES):
            port, monitor_port = free_port(), free_port()
            own, comma, others = self.example.server.partition("  routes:")
            assert comma
            own = (
                own.replace("10.0.0.1:4222", f"127.0.0.1:{port}")
                .replace("10.0.0.1:6222", f"127.0.0.1:{routes[i]}")
                .replace("127.0.0.1:8222", f"127.0.0.1:{monitor_port}")
                .replace("nats-1", name)
                .replace("/etc/nats", str(self.etc))
                .replace("/var/lib/nats", str(self.folder / "stores"))
            )
            for j, route in enumerate(routes, 1):
                others = others.replace(f"10.0.0.{j}:6222", f"127.0.0.1:{route}")
            config = self.etc / f"{name}.conf"
            config.write_text(own + comma + others)
            assert "10.0.0." not in config.read_text()
            self.servers[name] = NatsServer.configured(
                config, port, monitor_port, folder=self.folder / name
            )

    async def agree(self) -> None:
        """Wait until a leader of the whole is known to all that run, and they are up to date."""

        async def healthy() -> bool:
            running = [server for server in self.servers.values() if server.runs]
            answers = await asyncio.to_thread(
                lambda: [_monitor(server, "/healthz") for server in running]
            )
            return all(answer.get("status") == "ok" for answer in answers)

        await eventually(healthy, "all servers of the cluster healthy", within_s=120)

    async def leader(self) -> str:
        """The server that leads the whole: it places streams and consumers."""
        running = next(server for server in self.servers.values() if server.runs)

        async def told() -> str:
            found = await asyncio.to_thread(_monitor, running, "/jsz")
            leader: str = found.get("meta_cluster", {}).get("leader", "")
            return leader

        return await eventually(told, "a leader of the cluster", within_s=60)

    @property
    def url(self) -> str:
        """`nats_url` of a service."""
        return ",".join(f"tls://127.0.0.1:{server.port}" for server in self.servers.values())

    def variables(self, service: str) -> dict[str, str]:
        """The environment of a service, as the page has the scheduler's."""
        text = self.example.service.replace("SCHEDULER", service.upper().replace("-", "_"))
        text = text.replace("/etc/nats/nats.scheduler", f"{self.etc}/keys/nats.{service}")
        text = text.replace("=scheduler", f"={service}").replace("/etc/nats", str(self.etc))
        for i, server in enumerate(self.servers.values(), 1):
            text = text.replace(f"10.0.0.{i}:4222", f"127.0.0.1:{server.port}")
        assert "10.0.0." not in text
        return dict(line.split("=", 1) for line in text.splitlines())

    def settings(self, user: str, server: str | None = None, **changes: Any) -> NatsSettings:
        """A connection's, to all servers or to one of them."""
        prefix = f"PENSTOCK_{user.upper().replace('-', '_')}_"
        values: dict[str, Any] = {
            name.removeprefix(prefix).lower(): value for name, value in self.variables(user).items()
        }
        if server is not None:
            values["nats_url"] = f"tls://127.0.0.1:{self.servers[server].port}"
        return NatsSettings(**values | changes)

    @asynccontextmanager
    async def connected(
        self, user: str = OPERATOR, server: str | None = None
    ) -> AsyncIterator[Bus]:
        """A bus that is closed afterwards."""
        bus = await Bus.connect(self.settings(user, server), name=f"test-{user}", clock=CLOCK)
        try:
            yield bus
        finally:
            await bus.close()

    def stop(self) -> None:
        """End all of them, at once: one that ends in good order first hands over what it leads."""
        for server in self.servers.values():
            server.kill()


def _monitor(server: NatsServer, path: str) -> Mapping[str, Any]:
    try:
        with urllib.request.urlopen(server.monitor_url + path, timeout=2) as answer:
            found: Mapping[str, Any] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, ValueError):
        return {}


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[NatsCluster]:
    """A cluster within the block."""
    cluster = await asyncio.to_thread(NatsCluster, folder)
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.agree()
        yield cluster
    finally:
        cluster.stop()
