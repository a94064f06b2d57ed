"""The data directory of `penstock up`: keys, NATS's store and configuration, what runs now.

admin.key      API key with every right (mode 600)
secret.key     seals secrets in KV (mode 600); without it they are lost
nats.<user>.password
               password of each user of the embedded nats-server (mode 600): api, scheduler, router,
               node-agent; integration, integration-reader; operator
nats.conf      the server's configuration, written at each start (mode 600)
nats/          its store: endpoints, workers, events
node/          the node agent's: its id, the process runtime's workers
logs/          what each service wrote, as JSON lines; the last 16 to 32 MiB of each
ready.json     addresses and pids while it runs
up.lock        held by the one `penstock up` that uses the directory
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from penstock_cli.private_files import write_private
from penstock_common.entropy import random_secret
from penstock_common.nats.permissions import USERS, user_config
from penstock_common.sealing import new_key

_MONITOR_LINE: Final = re.compile(r'^http: "(.+)"$', re.MULTILINE)


class DataDirBusyError(Exception):
    """Another `penstock up` uses the directory."""


class DataDir:
    """A data directory; as a context manager, made and locked."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: IO[str] | None = None

    def __enter__(self) -> "DataDir":
        """Make and lock it.

        Raises:
            DataDirBusyError: it is in use; the message names the process.
            OSError: it cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in ("nats", "node", "logs"):
            (self.path / folder).mkdir(exist_ok=True)
        lock = (self.path / "up.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            lock.close()
            raise DataDirBusyError(
                f"{self.path} is in use by another `penstock up` (pid {pid}); "
                "stop it, or choose another --data"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        (self.path / "ready.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    @property
    def admin_key_file(self) -> Path:
        """Where the admin API key lies; made at first use."""
        return self._secret("admin.key", lambda: f"psk_{random_secret()}")

    @property
    def secret_key_file(self) -> Path:
        """Where the key that seals secrets lies; made at first use."""
        return self._secret("secret.key", new_key)

    def holds_other_secret_key(self, key: str) -> bool:
        """Whether the key that seals secrets lies here, and is another one than this."""
        path = self.path / "secret.key"
        return path.exists() and path.read_text().strip() != key

    @property
    def nats_password_files(self) -> Mapping[str, Path]:
        """NATS user → where its password lies; made at first use."""
        return {user: self._secret(nats_password_name(user), random_secret) for user in USERS}

    @property
    def nats_config(self) -> Path:
        """Where the embedded server's configuration lies."""
        return self.path / "nats.conf"

    @property
    def nats_store(self) -> Path:
        """Where the embedded server keeps its streams."""
        return self.path / "nats"

    def write_nats_config(self, host: str, port: int, monitor_port: int) -> Path:
        """Write the embedded server's configuration; gives its path.

        `sync_interval: always` makes an acknowledgement mean "on disk" (the server's own default
        syncs every two minutes). `max_file_store` stands for "what the disk has": the server's own
        default is three quarters of what is free when it starts, so that one which was started on
        a full disk would refuse every write, also when there is room again.
        """
        listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        config = (
            f'listen: "{listen}"\n'
            f'http: "127.0.0.1:{monitor_port}"\n'
            "server_name: penstock\n"
            "max_payload: 8MB\n"
            "jetstream {\n"
            f"  store_dir: {json.dumps(str(self.nats_store))}\n"
            "  sync_interval: always\n"
            "  max_file_store: 1TB\n"
            "  limits { default_max_consumers: -1 }\n"
            "}\n"
            "authorization { users: [\n"
            + "".join(f"  {user}\n" for user in self._users())
            + "] }\n"
        )
        write_private(self.nats_config, config)
        return self.nats_config

    def nats_monitor_url(self) -> str:
        """HTTP monitoring of the server, as its configuration has it.

        Raises:
            OSError: there is no configuration that can be read.
            ValueError: it names none.
        """
        found = _MONITOR_LINE.search(self.nats_config.read_text())
        if found is None:
            raise ValueError(f"{self.nats_config} has no `http` line")
        return f"http://{found[1]}"

    def _users(self) -> Iterator[str]:
        for user, file in self.nats_password_files.items():
            yield user_config(user, file.read_text().strip(), USERS[user])

    @property
    def workers(self) -> Path:
        """Where the process runtime keeps a folder for each of its workers."""
        return self.path / "node" / "workers"

    def log_path(self, name: str) -> Path:
        """Where the log of a child lies."""
        return self.path / "logs" / f"{name}.log"

    def write_ready(self, urls: Mapping[str, str], pids: Mapping[str, int]) -> None:
        """Say what runs: read by the CLI and by operators' scripts."""
        document = {**urls, "pid": os.getpid(), "children": dict(pids)}
        temporary = self.path / "ready.json.new"
        temporary.write_text(json.dumps(document, indent=2) + "\n")
        temporary.replace(self.path / "ready.json")

    def _secret(self, name: str, make: Callable[[], str]) -> Path:
        path = self.path / name
        if not path.exists():
            write_private(path, make() + "\n")
        return path


def nats_password_name(user: str) -> str:
    """Name of the file with the password of this NATS user."""
    return f"nats.{user}.password"
