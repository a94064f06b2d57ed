"""A real nats-server of a test's own: random port, own store, and ways to hurt it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from penstock_common.clock import SystemClock
from tests.support.ports import free_port

CLOCK = SystemClock()
#: A server that starts is given so long: a busy disk may hold it up.
_START_S = 60.0


def nats_server_binary() -> str:
    """Path of the nats-server that the lock file brings."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise RuntimeError("nats-server is missing: run `make setup`")
    return found


class NatsServer:
    """One server; `kill` and `start` keep port and store."""

    def __init__(self, folder: Path, *, max_payload: int = 1_048_576, sync: bool = False) -> None:
        """A server that does not run yet.

        Args:
            folder: of its own.
            max_payload: bytes of the largest message.
            sync: have on disk what it acknowledges. Else the kernel has it, which is as much as a test
                can tell, since it kills the server and not the machine; and no disk that others keep
                busy for seconds makes a write fail that the product waits 2 s for.
        """
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._configured = False
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "nats.conf"
        self._rest = (
            f"max_payload: {max_payload}\n"
            f'jetstream {{ store_dir: "{folder / "store"}"'
            + (", sync_interval: always" if sync else "")
            + " }\n"
        )
        self._take_ports()

    @classmethod
    def configured(
        cls, config: Path, port: int, monitor_port: int, *, folder: Path | None = None
    ) -> "NatsServer":
        """A server with a configuration that is there, which listens on these ports."""
        server = cls(folder or config.parent / "server")
        server._config, server._configured = config, True
        server.port, server.monitor_port = port, monitor_port
        server.url = f"nats://127.0.0.1:{port}"
        server.monitor_url = f"http://127.0.0.1:{monitor_port}"
        return server

    def _take_ports(self) -> None:
        self.port = free_port()
        self.monitor_port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.monitor_url = f"http://127.0.0.1:{self.monitor_port}"
        self._config.write_text(
            f"listen: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor_port}\n{self._rest}"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        first = self._process is None
        for _ in range(4):
            if self._try_start():
                return
            if self._configured or not first or b"address already in use" not in self._log():
                break
            self._take_ports()  # somebody else took one since it was found free
        raise RuntimeError(self._log().decode())

    def _log(self) -> bytes:
        return (self.folder / "server.log").read_bytes()

    def _try_start(self) -> bool:
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [nats_server_binary(), "-c", str(self._config)], stdout=log, stderr=log
        )
        log.close()
        deadline = CLOCK.monotonic() + _START_S
        while CLOCK.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1),
            ):
                if self._process.poll() is None:
                    return True
            if self._process.poll() is not None:
                return False
            time.sleep(0.01)
        self.kill()
        return False

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop its threads; its connections stay open and silent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # the signal takes its time on a busy machine

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, frozen or not, and leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
