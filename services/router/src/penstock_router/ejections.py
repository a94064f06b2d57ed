"""Workers that run, as their node agent says, but do not take connections.

A worker at which a connection failed gets no request until its status record changes or a probe of
ours passes; without that, every request would try it again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from penstock_router.background import Background
from penstock_router.catalogue import WorkerView

logger = logging.getLogger(__name__)

#: Pause between probes: from the first to the longest.
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0

#: Whether this worker answers its health check; bounded by the health check's timeout.
Probe = Callable[[WorkerView], Awaitable[bool]]


class Ejections:
    """Which workers are ejected, and the probes that bring them back."""

    def __init__(
        self,
        probe: Probe,
        background: Background,
        *,
        find: Callable[[str, str], WorkerView | None],
        on_readmit: Callable[[str], None],
    ) -> None:
        """Nobody is ejected.

        Args:
            probe: asks a worker.
            background: runs the probes.
            find: the worker (endpoint, worker) as it is now, if this router drives it.
            on_readmit: told the endpoint of a worker that is back.
        """
        self._probe = probe
        self._background = background
        self._find = find
        self._on_readmit = on_readmit
        self._ejected: dict[str, int] = {}  # worker → revision of its status at that time

    def holds(self, view: WorkerView) -> bool:
        """Whether this worker is ejected."""
        return self._ejected.get(view.assignment.worker_id) == view.status_revision

    def eject(self, endpoint_id: str, worker_id: str) -> bool:
        """Give this worker no request until it is proven well; False = nothing has changed."""
        view = self._find(endpoint_id, worker_id)
        if view is None or view.address is None or self.holds(view):
            return False
        logger.warning(
            "worker ejected: it does not take connections",
            extra={
                "action": "worker_ejected",
                "worker_id": worker_id,
                "endpoint_id": endpoint_id,
                "host": view.address.host,
                "port": view.address.port,
            },
        )
        self._ejected[worker_id] = view.status_revision
        self._background.spawn(
            self._bring_back(endpoint_id, worker_id, view.status_revision),
            name=f"probe-{worker_id}",
        )
        return True

    async def _bring_back(self, endpoint_id: str, worker_id: str, revision: int) -> None:
        pause_s = _FIRST_PAUSE_S
        passed = False
        while not passed:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if self._ejected.get(worker_id) != revision:
                return  # ejected anew, by a probe of its own
            view = self._find(endpoint_id, worker_id)
            if view is None or not self.holds(view):
                break  # gone, or its agent has said something new
            passed = await self._probe(view)
        if self._ejected.get(worker_id) == revision:
            del self._ejected[worker_id]
            logger.info(
                "worker no longer ejected",
                extra={
                    "action": "worker_readmitted",
                    "worker_id": worker_id,
                    "endpoint_id": endpoint_id,
                    "passed": passed,
                },
            )
            self._on_readmit(endpoint_id)
