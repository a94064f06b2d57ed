"""A Docker engine of a test's own, which the test may stop, kill, freeze and fill.

Its data root, socket and process ids lie in one folder. It lives in a network namespace of its own:
an engine that starts outside one changes the machine's bridges and rules, also those of the
machine's own engine. Its workers' ports are published on `address`, which a cable joins to the
machine's namespace.
"""

import contextlib
import ipaddress
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from docker import APIClient
from docker.errors import DockerException

from penstock_common.clock import SystemClock
from tests.support.docker_engine import IMAGE, docker_host
from tests.support.requirements import require

CLOCK = SystemClock()
_READY_S = 60
_END_S = 60
_DISK_BYTES = 600 * 2**20
_TOOLS = ("dockerd", "docker", "docker-proxy", "ip", "mount", "nsenter", "runc")


class OwnEngine:
    """An engine, running or not."""

    def __init__(self, folder: Path, netns: str, address: str) -> None:
        """An engine that does not run yet.

        Args:
            folder: short enough for the path of a socket in it.
            netns: name of the network namespace that it lives in.
            address: on which ports can be published, reached from here.
        """
        self.folder = folder
        self.address = address
        self._netns = netns
        self.host = f"unix://{folder}/engine.sock"
        #: where images and containers lie: a small disk of its own, in memory
        self.data_root = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "none.json").write_text("{}")

    def client(self) -> APIClient:
        """A client of it; the caller closes it."""
        return APIClient(base_url=self.host, version="auto", timeout=60)

    def begin(self, options: Sequence[str] = ()) -> None:
        """Start it, and do not wait."""
        command: list[str] = [
            *("nsenter", f"--net=/var/run/netns/{self._netns}", "dockerd", "--host", self.host),
            *("--config-file", f"{self.folder}/none.json"),
            *("--data-root", str(self.data_root), "--exec-root", f"{self.folder}/exec"),
            *("--pidfile", f"{self.folder}/pid", "--iptables=false", "--bridge=none"),
            *("--ip-forward=false", "--ip-masq=false"),
            *("--shutdown-timeout", "3", *options),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def start(self, options: Sequence[str] = ()) -> None:
        """Start it and wait until it answers."""
        self.begin(options)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        process = self._process
        assert process is not None
        for _ in range(_READY_S * 20):
            assert process.poll() is None, self.log()[-3_000:]
            if (self.folder / "engine.sock").exists():
                with contextlib.suppress(DockerException):
                    self.client().close()
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        raise AssertionError(self.log()[-3_000:])

    def stop(self) -> None:
        """As the machine's service manager does: SIGTERM, until it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it says and ends nothing."""
        self._end(signal.SIGKILL)
        # Its containerd dies with it, and may stay as a zombie where nobody reaps; the next engine
        # would take one that is named in these files for alive.
        (self.folder / "pid").unlink(missing_ok=True)
        noted = self.folder / "exec/containerd/containerd.pid"
        deadline = CLOCK.monotonic() + _END_S
        while _lives(int(noted.read_text())):
            assert CLOCK.monotonic() < deadline, "containerd outlives its engine"
            time.sleep(0.01)
        noted.unlink()

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def hide(self) -> None:
        """Its socket is where nobody looks."""
        (self.folder / "engine.sock").rename(self.folder / "hidden.sock")

    def show(self) -> None:
        """Its socket is back."""
        (self.folder / "hidden.sock").rename(self.folder / "engine.sock")

    def fill(self) -> None:
        """Leave nothing of its disk."""
        with contextlib.suppress(OSError), (self.data_root / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(2**20))
                filler.flush()

    def make_room(self) -> None:
        """Take away what filled its disk."""
        (self.data_root / "filler").unlink(missing_ok=True)

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def load_image(self) -> None:
        """Copy the base image from the machine's engine."""
        pipe = f"docker -H {docker_host()} save {IMAGE} | docker -H {self.host} load"
        subprocess.run(pipe, shell=True, check=True, stdout=subprocess.DEVNULL)

    def clear(self) -> None:
        """Remove every container and volume."""
        client = self.client()
        try:
            for item in client.containers(all=True):
                client.remove_container(item["Id"], force=True, v=True)
            for volume in client.volumes()["Volumes"] or ():
                client.remove_volume(volume["Name"], force=True)
        finally:
            client.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.kill(process.pid, signal.SIGCONT)
        process.send_signal(number)
        process.wait(_END_S)

    def close(self) -> None:
        """End it and all that it left: shims, networks, mounts, folders."""
        if self._process is None:
            self.start()  # only an engine cleans up after one that was killed
        self.clear()
        client = self.client()
        try:
            for network in client.networks(filters={"type": "custom"}):
                client.remove_network(network["Id"])
        finally:
            client.close()
        self.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (path := line.split()[1]).startswith(f"{self.folder}/"):
                _run("umount", "-l", path)
        shutil.rmtree(self.folder)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def own_engine(folder: Path) -> Iterator[OwnEngine]:
    """A running engine that has the base image; nothing of it is left at the end."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    require(os.geteuid() == 0 and not missing, f"root and {' '.join(_TOOLS)}")
    docker_host()
    with _network_namespace() as (netns, address):
        engine = OwnEngine(folder, netns, address)
        engine.data_root.mkdir()
        size = f"size={_DISK_BYTES}"
        _run("mount", "-t", "tmpfs", "-o", size, "penstock-test", str(engine.data_root))
        try:
            engine.start()
            engine.load_image()
            yield engine
        finally:
            engine.close()


@contextlib.contextmanager
def _network_namespace() -> Iterator[tuple[str, str]]:
    """A namespace's name, and its address as seen from here; of 198.18.0.0/15, for tests alone.

    Of its lower half: `hosts.py` has the other.
    """
    token = uuid.uuid4()
    netns, cable = f"penstock-{token.hex[:8]}", f"ps{token.hex[:8]}"
    ours = ipaddress.IPv4Address("198.18.0.0") + token.int % 2**14 * 4 + 1
    theirs = ours + 1
    _run("ip", "netns", "add", netns)
    try:
        _run("ip", "-n", netns, "link", "set", "lo", "up")
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", netns)
        _run("ip", "addr", "add", f"{ours}/30", "dev", cable)
        _run("ip", "link", "set", cable, "up")
        _run("ip", "-n", netns, "addr", "add", f"{theirs}/30", "dev", "eth0")
        _run("ip", "-n", netns, "link", "set", "eth0", "up")
        yield netns, str(theirs)
    finally:
        _run("ip", "netns", "del", netns)  # the cable goes with it


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
