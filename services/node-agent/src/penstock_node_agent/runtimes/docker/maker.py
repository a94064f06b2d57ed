"""Makes workers' containers and starts them, with all that the engine at hand can do.

What an engine can do is found out when it is first needed, and again once it was away. Every
method blocks; calls about one worker must not overlap, calls about several may.
"""

import logging
import threading
from dataclasses import replace
from typing import Final

from docker import APIClient

from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker import containers, volumes
from penstock_node_agent.runtimes.docker.containers import DockerSettings, EngineAbilities
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation, is_status
from penstock_node_agent.runtimes.docker.gpus import choose_way, driver_gpus
from penstock_node_agent.runtimes.docker.network import ensure_network, lacks_network
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder

logger = logging.getLogger(__name__)

_START_TRIES: Final = 3


class ContainerMaker:
    """Creates and starts containers on one engine."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._abilities = EngineAbilities()
        self._gpu_way_known = False
        self._network_made = False
        #: one thread at a time finds out or makes what all workers share
        self._shared = threading.Lock()

    def forget_engine(self) -> None:
        """The engine was away: find out again what it can do."""
        self._abilities = EngineAbilities()
        self._gpu_way_known = False
        self._network_made = False

    def try_create(self, client: APIClient, order: StartOrder) -> bool:
        """Create the container and its volumes; False when the image is not on the node.

        Raises:
            StartFailedError: an earlier start's container has ended, or this node cannot mount a
            network volume.
            DockerException, RequestException: the engine refused or did not answer.
        """
        name = containers.container_name(order.worker_id)
        self._ensure_network(client)
        if driver_gpus(order.gpus):
            self._find_gpu_way(client)
        volumes.make_local_volumes(client, order, self._settings.node_id)
        abilities = self._abilities
        options = containers.host_options(order, self._settings, abilities)
        options["mounts"] = volumes.network_mounts(client, order, self._settings.volumes)
        try:
            client.create_container(
                image=order.image,
                name=name,
                command=list(order.command) or None,
                entrypoint=list(order.entrypoint) or None,
                environment=containers.environment(order, abilities.gpu_way),
                labels=containers.container_labels(order, self._settings.node_id, abilities),
                ports=[order.http_port],
                host_config=client.create_host_config(**options),
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404) and "no such image" in explanation(error).lower():
                return False
            if abilities.disk_quota and "storage-opt" in explanation(error).lower():
                logger.info(
                    "engine cannot bound a container's disk; it is measured",
                    extra={"action": "disk_quota_refused", "error": explanation(error)},
                )
                self._abilities = replace(self._abilities, disk_quota=False)
                return self.try_create(client, order)
            if not is_status(error, 409) or "already in use" not in explanation(error):
                raise
            # An earlier start came so far. Starting an ended container would run it again.
            if containers.read_exit(client.inspect_container(name)) is not None:
                raise StartFailedError(
                    WorkerReason.EXITED, "it was started before and has ended"
                ) from error
        return True

    def start(self, client: APIClient, order: StartOrder) -> int:
        """Start the created container; gives the host port on which it is reached.

        Raises:
            StartFailedError: it has no port, or its image is gone.
            DockerException, RequestException: the engine refused or did not answer.
        """
        name = containers.container_name(order.worker_id)
        for attempt in range(_START_TRIES):
            try:
                client.start(name)
                break
            except ENGINE_ERRORS as error:
                volumes.raise_if_hung(error, order)
                if attempt == _START_TRIES - 1 or not self._mend(client, order, explanation(error)):
                    raise
        inspected = client.inspect_container(name)
        port = containers.read_port(inspected, order.http_port)
        if not inspected["State"].get("Running"):
            # Ended at once: whoever waits for it learns how.
            return port or 0
        if port is None:
            raise StartFailedError(
                WorkerReason.ENGINE_ERROR, f"the engine published no port for {order.http_port}"
            )
        return port

    def _mend(self, client: APIClient, order: StartOrder, text: str) -> bool:
        """Whether another try may help, after what the engine said was seen to."""
        if "setting rlimit" in text:
            # An engine without CAP_SYS_RESOURCE cannot give more than it has itself. Starts of
            # other workers may find out in the same moment: each makes its own container again.
            logger.warning(
                "engine cannot raise ulimits; workers get its own",
                extra={"action": "ulimits_refused", "error": text},
            )
            self._abilities = replace(self._abilities, raise_limits=False)
            self._make_again(client, order)
            return True
        if lacks_network(text):
            self._network_made = False  # somebody removed it, or made another
            self._ensure_network(client)
            return True
        if "could not select device driver" in text:
            self._gpu_way_known = False  # NVIDIA's toolkit may be installed meanwhile
        return "address already in use" in text or "already allocated" in text

    def _make_again(self, client: APIClient, order: StartOrder) -> None:
        client.remove_container(containers.container_name(order.worker_id), v=True)
        if not self.try_create(client, order):
            raise StartFailedError(WorkerReason.IMAGE_NOT_FOUND, f"{order.image} is gone")

    def _ensure_network(self, client: APIClient) -> None:
        with self._shared:
            if self._network_made:
                return
            ensure_network(client)
            self._network_made = True

    def _find_gpu_way(self, client: APIClient) -> None:
        with self._shared:
            if self._gpu_way_known:
                return
            way = self._settings.gpu_way or choose_way(client.info())
            self._abilities = replace(self._abilities, gpu_way=way)
            self._gpu_way_known = True
        logger.info("engine gives GPUs", extra={"action": "gpu_way_chosen", "gpu_way": way})
