"""The network that all workers of an engine share: there is exactly one.

An engine knows its networks by their ids; that a name is taken it checks before it makes one. Two
agents that start at once both get one, and then no container finds its network by the name any
more. So whoever has made one, or meets several, removes all but one.
"""

import logging
import re
from typing import Final

from docker import APIClient

from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation, is_status

logger = logging.getLogger(__name__)

_GONE: Final = re.compile(r"network \S+ not found")
_SEVERAL: Final = "is ambiguous"


def lacks_network(text: str) -> bool:
    """Whether the engine says with this text that there is no such network, or more than one."""
    return _GONE.search(text) is not None or _SEVERAL in text


def ensure_network(client: APIClient) -> None:
    """Have it, once. Blocks.

    Raises:
        DockerException, RequestException: the engine refused or did not answer.
    """
    try:
        client.inspect_network(containers.NETWORK)
    except ENGINE_ERRORS as error:
        if is_status(error, 404):
            _make(client)
        elif _SEVERAL not in explanation(error):
            raise
        _leave_one(client)


def _make(client: APIClient) -> None:
    try:
        client.create_network(
            containers.NETWORK,
            driver="bridge",
            options=containers.NETWORK_OPTIONS,
            check_duplicate=True,
            labels={containers.MANAGED_LABEL: "1"},
        )
    except ENGINE_ERRORS as error:
        if not is_status(error, 409):  # another agent was faster
            raise


def _leave_one(client: APIClient) -> None:
    """Remove the youngest until one is left; all agents that do so at once choose the same."""
    listed = client.networks(names=[containers.NETWORK])
    same = [network for network in listed if network["Name"] == containers.NETWORK]
    left = len(same)
    for network in sorted(same, key=lambda n: (n["Created"], n["Id"]), reverse=True):
        if left == 1:
            return
        if containers.MANAGED_LABEL not in (network["Labels"] or {}):
            continue  # an operator's
        try:
            client.remove_network(network["Id"])
        except ENGINE_ERRORS as error:
            if is_status(error, 403):  # it has a worker; then no other has
                continue
            if not is_status(error, 404):  # another agent was faster
                raise
        left -= 1
        logger.info(
            "the workers' network was there twice, one removed",
            extra={"action": "network_removed", "network_id": network["Id"]},
        )
