"""A Docker engine of its own, in a network namespace, with stand-ins for NVIDIA's parts.

The stand-ins (`nvidia_standin/`) pass for the hook that device requests need and for the runtime
`nvidia`; they give no device, and write down what they were given.
"""

import contextlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import DockerException

from tests.support.docker_engine import IMAGE, docker_host
from tests.support.requirements import require

_STANDINS = Path(__file__).with_name("nvidia_standin")
_READY_S = 60
_TOOLS = ("dockerd", "docker", "ip", "nsenter", "runc")


class GpuEngine:
    """A running engine and what its stand-ins wrote down."""

    def __init__(self, folder: Path) -> None:
        self.host = f"unix://{folder}/engine.sock"
        self.client: APIClient
        self._records = folder / "runtime" / "records"

    def given(self, kind: str, container_id: str) -> dict[str, str]:
        """Variables of the container that the stand-in `kind` (`hook`, `runtime`) was given."""
        path = self._records / f"{kind}-{container_id}.json"
        variables: list[str] = json.loads(path.read_text())["process"]["env"]
        return dict(item.split("=", 1) for item in variables)

    def was_given(self, kind: str, container_id: str) -> bool:
        return (self._records / f"{kind}-{container_id}.json").exists()


@contextlib.contextmanager
def gpu_engine(folder: Path) -> Iterator[GpuEngine]:
    """Start an engine with both stand-ins and the base image; everything is removed at the end."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    require(os.geteuid() == 0 and not missing, f"root and {' '.join(_TOOLS)}")
    source = docker_host()
    put_standins(folder)
    engine = GpuEngine(folder)
    netns = f"penstock-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        _run("ip", "netns", "add", netns)
        stack.callback(_run, "ip", "netns", "del", netns)
        _run("ip", "-n", netns, "link", "set", "lo", "up")
        process = stack.enter_context(dockerd(folder, netns))
        engine.client = wait_until_ready(engine.host, process)
        stack.callback(engine.client.close)
        pipe = f"docker -H {source} save {IMAGE} | docker -H {engine.host} load"
        subprocess.run(pipe, shell=True, check=True, stdout=subprocess.DEVNULL)
        yield engine


def put_standins(folder: Path) -> None:
    """Lay the stand-ins of NVIDIA's hook and runtime where `dockerd` looks for them."""
    for part in ("hook", "runtime"):
        shutil.copytree(_STANDINS / part, folder / part)
    (folder / "runtime" / "records").mkdir()


@contextlib.contextmanager
def dockerd(folder: Path, netns: str, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """An engine in this network namespace; `put_standins` comes before."""
    runtime = folder / "runtime" / "nvidia-container-runtime"
    command: list[Any] = [
        *("nsenter", f"--net=/var/run/netns/{netns}", "dockerd"),
        *("--host", f"unix://{folder}/engine.sock", "--add-runtime", f"nvidia={runtime}"),
        *("--data-root", folder / "data", "--exec-root", folder / "exec"),
        *("--pidfile", folder / "pid", "--config-file", folder / "none.json"),
        *options,
    ]
    (folder / "none.json").write_text("{}")
    env = {
        **os.environ,
        "PATH": f"{folder / 'hook'}:{os.environ['PATH']}",
        "PENSTOCK_STANDIN_RECORDS": str(folder / "runtime" / "records"),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # What the engine keeps mounted would hold the folder.
            for mount in Path("/proc/self/mounts").read_text().splitlines():
                if (path := mount.split()[1]).startswith(f"{folder}/"):
                    subprocess.run(["umount", "-l", path], check=False)
            shutil.rmtree(folder / "data", ignore_errors=True)


def wait_until_ready(host: str, process: "subprocess.Popen[bytes]") -> APIClient:
    path = Path(host.removeprefix("unix://"))
    for _ in range(_READY_S * 5):
        assert process.poll() is None, (path.parent / "log").read_text()[-3_000:]
        if path.exists():
            with contextlib.suppress(DockerException):
                return APIClient(base_url=host, version="auto", timeout=60)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    raise AssertionError((path.parent / "log").read_text()[-3_000:])


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
