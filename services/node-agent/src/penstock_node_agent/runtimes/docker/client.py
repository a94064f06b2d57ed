"""Clients of a Docker engine."""

import asyncio
import socket
from typing import Final

from docker import APIClient
from docker.errors import DockerException

from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation

_UNIX: Final = "unix://"
#: Longest wait for an engine when the agent looks whether there is one.
_LOOK_S: Final = 5.0


def connect(docker_host: str, timeout_s: float) -> APIClient:
    """A client that speaks the engine's own API version. Blocks.

    Args:
        docker_host: `unix:///path` or `tcp://host:port`.
        timeout_s: longest wait for one answer.

    Raises:
        DockerException: no engine answers.
    """
    knock(docker_host)
    return APIClient(base_url=docker_host, version="auto", timeout=max(1, round(timeout_s)))


def knock(docker_host: str) -> None:
    """Find out whether a local engine takes connections; nothing for another one.

    The SDK leaks a socket for each refused connection, and buries the reason.

    Raises:
        DockerException: nobody listens.
    """
    if not docker_host.startswith(_UNIX):
        return
    path = docker_host.removeprefix(_UNIX)
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError as error:
            raise DockerException(f"{path}: {error.strerror or error}") from None


async def engine_problem(docker_host: str) -> str | None:
    """Why no engine can be used at this address; None when one answers within a few seconds."""

    def look() -> None:
        connect(docker_host, _LOOK_S).close()

    try:
        await asyncio.to_thread(look)
    except ENGINE_ERRORS as error:
        return explanation(error)
    return None
