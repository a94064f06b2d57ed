"""The compose files, run as a user runs them, under a project name and on ports of a test's own."""

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from penstock_common.clock import SystemClock
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.ports import free_port
from tests.support.requirements import require

CLOCK = SystemClock()
ROOT = Path(__file__).parents[2]
#: Tag of the images that tests build; it stays, so that the next run builds only what changed.
TAG = "test"
PARTS = ("api", "scheduler", "router", "node-agent", "cli")


def compose_command() -> list[str]:
    """Compose, as the plugin or as the older program; skips (fails in CI) where there is none."""
    plugin = ["docker", "compose"]
    if shutil.which("docker") and _run([*plugin, "version"], {}).returncode == 0:
        return plugin
    require(shutil.which("docker-compose") is not None, "docker compose, or docker-compose")
    return ["docker-compose"]


def _run(command: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        # A plain engine lacks BuildKit.
        env={**os.environ, "DOCKER_BUILDKIT": "0", **env},
    )


class Project:
    """One project of the root docker-compose.yml."""

    def __init__(self) -> None:
        self.name = f"penstock-{uuid.uuid4().hex[:8]}"
        self.ports = {
            name: free_port() for name in ("API", "ROUTER", "NATS", "NATS_MONITOR")
        }  # fmt: skip
        self.url = f"http://127.0.0.1:{self.ports['API']}"
        self.router_url = f"http://127.0.0.1:{self.ports['ROUTER']}"
        self._env = {
            **{f"PENSTOCK_{name}_PORT": str(port) for name, port in self.ports.items()},
            "PENSTOCK_ROUTER_URL": self.router_url,
            "PENSTOCK_GPUS": "none",
            "PENSTOCK_VERSION": TAG,
            "DOCKER_SOCKET": docker_host().removeprefix("unix://"),
        }
        self._command = [*compose_command(), "-p", self.name]

    def compose(self, *words: str) -> str:
        """What a compose command that must succeed prints."""
        done = _run([*self._command, *words], self._env)
        if done.returncode != 0:
            # Compose names the container that failed by its id, or one that waited for it.
            logs = _run([*self._command, "logs", "--no-color", "--tail", "30"], self._env)
            raise AssertionError(
                f"{' '.join(words)}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
                f"\n{logs.stdout[-6000:]} {logs.stderr[-1000:]}"
            )
        return done.stdout

    def health(self) -> dict[str, str]:
        """Service → health, or state where it has none."""
        shown = docker(
            *("ps", "-a", "--filter", f"label=com.docker.compose.project={self.name}"),
            *("--format", '{{.Label "com.docker.compose.service"}} {{.Status}}'),
        )
        found = {}
        for line in shown.splitlines():
            service, status = line.split(" ", 1)
            words = ("healthy", "unhealthy", "starting", "Exited (0)")
            found[service] = next((w for w in words if f"({w})" in status or w in status), status)
        return found

    def left_behind(self) -> dict[str, str]:
        """What the engine still has of this project: containers, volumes, networks."""
        label = f"label=com.docker.compose.project={self.name}"
        return {
            "containers": docker("ps", "-aq", "--filter", label),
            "volumes": docker("volume", "ls", "-q", "--filter", label),
            "networks": docker("network", "ls", "-q", "--filter", label),
        }


def docker(*words: str) -> str:
    """What a docker command that must succeed prints."""
    done = _run(["docker", "-H", docker_host(), *words], {})
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}"
    return done.stdout.strip()


def build_images() -> None:
    """Build the images of every part as `make images OFFLINE=1` does; the build has no network."""
    began = CLOCK.monotonic()
    fetched = _run([sys.executable, "deploy/wheels.py", IMAGE], {})
    assert fetched.returncode == 0, fetched.stderr[-3000:]
    for part in PARTS:
        docker(
            *("build", "--quiet", "--network", "none", "-f", "deploy/Dockerfile"),
            *("--build-arg", f"PACKAGE={part}", "-t", f"penstock/{part}:{TAG}", "."),
        )
    print(f"images built in {CLOCK.monotonic() - began:.0f} s")


@contextlib.contextmanager
def project() -> Iterator[Project]:
    """A project that is not up yet; it and all that it had is gone afterwards."""
    made = Project()
    try:
        yield made
    finally:
        made.compose("down", "-v")
