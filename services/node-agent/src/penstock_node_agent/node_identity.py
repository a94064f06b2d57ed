"""The data folder of an agent: one agent at a time, and the node's id that lasts."""

import fcntl
import os
import re
from pathlib import Path
from typing import Final

from penstock_common import entropy, ids
from penstock_common.lifecycle import MisconfiguredError

_ID_FILE: Final = "node.id"
_ENGINE_FILE: Final = "engine"
_LOCK_FILE: Final = "agent.lock"
_NODE_ID: Final = re.compile(r"node-[a-z0-9]([a-z0-9-]{0,56}[a-z0-9])?")
_SUFFIX_LENGTH: Final = 4


def check_node_id(node_id: str) -> str:
    """The id itself.

    Raises:
        ValueError: it does not begin with `node-`, or is no DNS label.
    """
    if not _NODE_ID.fullmatch(node_id):
        raise ValueError(
            f"'{node_id}' is no node id: 'node-' and then lower-case letters, digits and inner "
            "hyphens, at most 63 characters in all"
        )
    return node_id


def propose_node_id(hostname: str, suffix: str) -> str:
    """An id from the host's name; the suffix keeps hosts of the same name apart."""
    label = re.sub(r"[^a-z0-9]+", "-", hostname.split(".")[0].lower()).strip("-")[:40].strip("-")
    return check_node_id("-".join(part for part in ("node", label, suffix) if part))


def lasting_node_id(data_dir: Path, hostname: str, configured: str | None) -> str:
    """The node's id: as configured, else as kept in the data folder, else a new one, kept there.

    Raises:
        MisconfiguredError: the kept id is none.
    """
    file = data_dir / _ID_FILE
    if configured is None and file.exists():
        try:
            return check_node_id(file.read_text().strip())
        except ValueError as error:
            raise MisconfiguredError(f"{file}: {error}") from None
    suffix = entropy.random_id(ids.NODE)[-_SUFFIX_LENGTH:]
    node_id = configured or propose_node_id(hostname, suffix)
    file.write_text(node_id + "\n")
    return node_id


def note_engine(data_dir: Path, docker_host: str) -> None:
    """This node runs its workers on this engine."""
    (data_dir / _ENGINE_FILE).write_text(docker_host + "\n")


def ran_on_engine(data_dir: Path, docker_host: str) -> bool:
    """Whether this node ran its workers on this engine before."""
    file = data_dir / _ENGINE_FILE
    return file.exists() and file.read_text().strip() == docker_host


def lock_data_dir(data_dir: Path) -> int:
    """Make the folder this process's own until it ends; gives the lock's file descriptor.

    Raises:
        MisconfiguredError: another agent has it, or it cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise MisconfiguredError(f"data_dir {data_dir} cannot be written: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise MisconfiguredError(f"another node agent uses data_dir {data_dir}") from None
    return lock
