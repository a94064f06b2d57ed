"""Leadership: one scheduler decides, the others stand by.

The leader holds a lease that lies in the bucket of the assignments, so that every write of an
assignment can carry a fence (`docs/adr/0002`): the server refuses it once the lease has moved,
however late the write comes. The lease has a NATS connection of its own, which no flood of other
traffic delays.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from penstock_common.nats.kv import Fence
from penstock_common.nats.leases import Lease

logger = logging.getLogger(__name__)


class Leadership:
    """Tries for the lease, keeps it, and knows whether this process leads."""

    def __init__(
        self,
        lease: Lease,
        *,
        renew_every_s: float,
        retry_every_s: float,
        on_gained: Callable[[], None],
    ) -> None:
        """Leadership that is not held.

        Args:
            lease: the scheduler's lease.
            renew_every_s: a third of its TTL at most.
            retry_every_s: how often to try for it while somebody else holds it.
            on_gained: called when this process begins to lead.
        """
        self._lease = lease
        self._renew_every_s = renew_every_s
        self._retry_every_s = retry_every_s
        self._on_gained = on_gained
        self._led = False
        self._attempted = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether this process surely leads right now, by its own clock."""
        return self._lease.held

    @property
    def token(self) -> int:
        """Fencing token of this term; grows from leader to leader. Only while it leads."""
        return self._lease.token

    @property
    def fence(self) -> Fence:
        """Fence for the next write of an assignment; take it anew for each. Only while it leads."""
        return self._lease.fence

    async def wait_attempted(self) -> None:
        """Wait until the first try for the lease is over, won or not."""
        await self._attempted.wait()

    async def confirm(self) -> bool:
        """Ask the server whether this process still leads (by renewing the lease)."""
        held = await self._lease.renew()
        self._tell(held)
        return held

    async def run(self, stopping: asyncio.Event) -> None:
        """Try for the lease and keep it until `stopping`, then give it up."""
        try:
            while not stopping.is_set():
                if self._lease.held:
                    held = await self._lease.renew()
                else:
                    held = await self._lease.try_acquire()
                self._tell(held)
                self._attempted.set()
                pause_s = self._renew_every_s if held else self._retry_every_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await stopping.wait()
        finally:
            self._attempted.set()
            await self._lease.release()

    def _tell(self, held: bool) -> None:
        if held == self._led:
            return
        self._led = held
        if held:
            logger.info("leads now", extra={"action": "lead_gained", "token": self._lease.token})
            self._on_gained()
        else:
            logger.warning("leads no longer", extra={"action": "lead_lost"})
