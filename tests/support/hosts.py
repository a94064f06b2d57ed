"""Several hosts on one machine: network namespaces on one bridge, each with an engine and an agent.

What is real: the engines, the agents, the network between them and the control plane, which stays in
the machine's own namespace. What stands in: GPUs (an operator's list), and NVIDIA's runtime, which
here is each engine's default, so that it writes down every container that is ever created.
"""

import asyncio
import contextlib
import ipaddress
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient
from requests.exceptions import RequestException

from penstock_common.clock import SystemClock
from penstock_common.health import HEALTH_VARIABLE, read_problem
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.gpu_engine import GpuEngine, dockerd, put_standins, wait_until_ready
from tests.support.requirements import require

_TOOLS = ("dockerd", "docker", "ip", "nsenter", "runc")
#: Longest pause between two events that a test may make.
_QUIET_S = 600
_MANAGED = {"label": ["penstock.managed=1"]}


@dataclass(slots=True)
class Life:
    """One container, from the engine's own events; nanoseconds of the engine's clock."""

    started_ns: int | None = None
    ended_ns: int | None = None


class Host:
    """A machine with GPUs: an engine, and an agent that tests start and kill."""

    def __init__(self, number: int, netns: str, address: str, folder: Path) -> None:
        self.name = f"host-{number}"
        self.address = address
        self.folder = folder
        self.engine = GpuEngine(folder)
        self.lives: dict[str, Life] = {}
        self._netns = netns
        self._health = folder / "agent.health"
        self._agent: asyncio.subprocess.Process | None = None

    # The agent.

    async def start_agent(self, settings: Mapping[str, str]) -> None:
        """Start the node agent in this host's namespace, as a unit file would."""
        own = {
            "NODE_ID": f"node-{self.name}",
            "NODE_ADDRESS": self.address,
            "RUNTIME": "docker",
            "DOCKER_HOST": self.engine.host,
            "DATA_DIR": str(self.folder / "node"),
            **settings,
        }
        with (self.folder / "agent.log").open("ab") as log:
            self._agent = await asyncio.create_subprocess_exec(
                *("nsenter", f"--net=/var/run/netns/{self._netns}"),
                *(sys.executable, "-m", "penstock_node_agent"),
                env={
                    **os.environ,
                    **{f"PENSTOCK_NODE_AGENT_{k}": v for k, v in own.items()},
                    HEALTH_VARIABLE: str(self._health),
                },
                stdout=log,
                stderr=log,
            )

    def agent_serves(self) -> bool:
        """Whether the agent says that it is well."""
        return read_problem(self._health, SystemClock().monotonic()) is None

    async def stop_agent(self, number: signal.Signals) -> int:
        """Send the agent this signal and wait for its end; gives its exit code."""
        assert self._agent is not None
        if self._agent.returncode is None:
            self._agent.send_signal(number)
        async with asyncio.timeout(60):
            code = await self._agent.wait()
        self._health.unlink(missing_ok=True)
        return code

    # The engine.

    def containers(self) -> list[str]:
        """Ids of the workers' containers, ended ones included."""
        found: list[dict[str, Any]] = self.engine.client.containers(all=True, filters=_MANAGED)
        return [item["Id"] for item in found]

    def gpus(self, container_id: str) -> list[str]:
        """The GPUs that a container was created with, as the runtime wrote down."""
        shown = self.engine.given("runtime", container_id)["CUDA_VISIBLE_DEVICES"]
        return shown.split(",") if shown else []

    def leftovers(self) -> dict[str, list[str]]:
        """What workers left in the engine, but for the bridge that they share."""
        client = self.engine.client
        networks = {network["Name"] for network in client.networks()}
        return {
            "containers": self.containers(),
            "volumes": [volume["Name"] for volume in client.volumes()["Volumes"] or ()],
            "networks": sorted(networks - {"bridge", "host", "none", "penstock"}),
        }

    def note_lives(self, events: Iterable[Mapping[str, Any]], ended: threading.Event) -> None:
        """Write down when workers' containers start and end, until the stream is closed."""
        try:
            for event in events:
                life = self.lives.setdefault(event["id"], Life())
                if event["Action"] == "start":
                    life.started_ns = event["timeNano"]
                elif event["Action"] == "die":
                    life.ended_ns = event["timeNano"]
        except (OSError, RequestException, ValueError):
            if not ended.is_set():  # closed by the test: a read breaks off as it can
                raise


@contextlib.contextmanager
def hosts(count: int) -> Iterator[tuple[str, list[Host]]]:
    """So many hosts with the base image, and the address of this machine on their bridge.

    All is removed at the end: agents, engines with their mounts, namespaces, the bridge.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    require(os.geteuid() == 0 and not missing, f"root and {' '.join(_TOOLS)}")
    source = docker_host()
    mark = uuid.uuid4().hex[:6]
    network = _free_network()
    here, *others = (str(address) for address in network.hosts())
    bridge = f"psb-{mark}"
    with contextlib.ExitStack() as stack:
        # Short, since sockets of an engine lie deep below it; a path holds 108 characters.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-hosts-")))
        image = folder / "image.tar"
        subprocess.run(["docker", "-H", source, "save", "-o", image, IMAGE], check=True)
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{here}/{network.prefixlen}", "dev", bridge)
        _ip("link", "set", bridge, "up")
        made = []
        for number in range(1, count + 1):
            host = Host(number, f"psn-{mark}-{number}", others[number], folder / str(number))
            _join(stack, host, network, bridge, f"ps{mark}{number}")
            made.append(host)
        starting = [(host, stack.enter_context(_engine(host))) for host in made]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda pair: _prepare(pair[0], pair[1], image), starting))
        for host in made:
            stack.callback(host.engine.client.close)
            stack.enter_context(_lives_noted(host))
        try:
            yield here, made
        finally:
            for host in made:
                _kill(host._agent)


def _free_network() -> ipaddress.IPv4Network:
    """One of the upper half of 198.18.0.0/15, which is for tests alone; own engines have the other.

    Not one of a run beside this one, or of one that was cut off.
    """
    shown = subprocess.run(["ip", "-o", "addr"], check=True, capture_output=True, text=True)
    taken = {
        ipaddress.ip_address(word.partition("/")[0])
        for word in re.findall(r"\binet (\S+)", shown.stdout)
    }
    networks = list(ipaddress.IPv4Network("198.19.0.0/16").subnets(new_prefix=26))
    random.SystemRandom().shuffle(networks)
    return next(n for n in networks if not any(address in n for address in taken))


def _join(
    stack: contextlib.ExitStack,
    host: Host,
    network: ipaddress.IPv4Network,
    bridge: str,
    link: str,
) -> None:
    """Make the host's namespace, with one link to the bridge."""
    netns = host._netns
    host.folder.mkdir()
    _ip("netns", "add", netns)
    stack.callback(_ip, "netns", "del", netns)
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", netns)
    _ip("link", "set", link, "master", bridge, "up")
    _ip("-n", netns, "addr", "add", f"{host.address}/{network.prefixlen}", "dev", "eth0")
    _ip("-n", netns, "link", "set", "lo", "up")
    _ip("-n", netns, "link", "set", "eth0", "up")


@contextlib.contextmanager
def _engine(host: Host) -> Iterator["subprocess.Popen[bytes]"]:
    put_standins(host.folder)
    with dockerd(host.folder, host._netns, "--default-runtime", "nvidia") as process:
        yield process


def _prepare(host: Host, process: "subprocess.Popen[bytes]", image: Path) -> None:
    host.engine.client = wait_until_ready(host.engine.host, process)
    subprocess.run(
        ["docker", "-H", host.engine.host, "load", "-q", "-i", image],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def _lives_noted(host: Host) -> Iterator[None]:
    """The engine's events in a thread, which ends with its connection."""
    client = APIClient(base_url=host.engine.host, version="auto", timeout=_QUIET_S)
    ended = threading.Event()
    events = client.events(decode=True, filters={**_MANAGED, "type": ["container"]})
    thread = threading.Thread(target=host.note_lives, args=(events, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        events.close()
        thread.join(30)
        client.close()


def _kill(process: asyncio.subprocess.Process | None) -> None:
    if process is not None and process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
