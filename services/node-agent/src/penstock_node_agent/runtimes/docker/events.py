"""The engine's event stream, in a thread of its own: which worker's container died, or lacked memory."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from docker import APIClient

from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation

if TYPE_CHECKING:
    from docker.types.daemon import CancellableStream

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_JOIN_S: Final = 2.0


class DeathWatch:
    """Calls back for each container of this node that dies, and once whenever it may have missed one.

    The stream is only for speed: what it loses while it is cut is found by listing.
    """

    def __init__(
        self,
        connect: Callable[[], APIClient],
        node_id: str,
        on_death: Callable[[str | None], object],
        on_oom: Callable[[str], object],
        on_break: Callable[[str], object],
    ) -> None:
        """Watch the containers labelled with `node_id`.

        Args:
            connect: makes a client; called in the thread, for every new stream.
            node_id: the node's id.
            on_death: called in the thread with a worker id; None = perhaps any.
            on_oom: called in the thread with the id of a worker of which the kernel killed a process
                for want of memory.
            on_break: called in the thread when the stream broke or none can be had, with why.
        """
        self._connect = connect
        self._on_death = on_death
        self._on_oom = on_oom
        self._on_break = on_break
        self._filters = {
            "type": "container",
            "event": ["die", "oom"],
            "label": [f"{containers.NODE_LABEL}={node_id}"],
        }
        self._stopping = threading.Event()
        self._stream: CancellableStream[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="docker-events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; blocks for a moment at most."""
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            try:
                stream.close()
            except (OSError, AttributeError):
                # It was closed by the engine in the same moment.
                logger.debug("event stream was closed", extra={"action": "event_stream_closed"})
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            problem = "its event stream ended"
            try:
                self._follow()
            except ENGINE_ERRORS as error:
                problem = explanation(error)
                logger.debug(
                    "event stream broke",
                    extra={"action": "event_stream_broke", "error": problem},
                )
            except Exception:
                # Whatever the SDK makes of a stream that breaks: without this thread, ends of
                # workers would be seen seconds late.
                logger.exception("event stream failed", extra={"action": "event_stream_failed"})
            if not self._stopping.is_set():
                self._on_break(problem)
            self._stopping.wait(_RETRY_S)

    def _follow(self) -> None:
        client = self._connect()
        try:
            self._stream = client.events(decode=True, filters=self._filters)
            if self._stopping.is_set():
                return
            self._on_death(None)
            for event in self._stream:
                attributes = event.get("Actor", {}).get("Attributes", {})
                worker_id = attributes.get(containers.WORKER_LABEL)
                if worker_id:
                    tell = self._on_oom if event.get("Action") == "oom" else self._on_death
                    tell(worker_id)
        finally:
            self._stream = None
            client.close()
