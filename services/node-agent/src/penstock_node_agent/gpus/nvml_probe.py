"""The node's GPUs as the NVIDIA driver tells them, through NVML: the one door to `pynvml`.

NVML's calls block, for seconds on a sick GPU, so they run in a thread of their own, one reading at
a time. Whoever asks waits a moment at most and then gets what is known; once a reading hangs for
`timeout_s`, every GPU counts as one that does not answer, until it ends. That is believed at the second
look: at the first it may be this process that stood still, with the machine that it runs on.
"""

import asyncio
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Final

from penstock_common.daemon_threads import DaemonThreads
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.gpus.known import KnownGpus
from penstock_node_agent.gpus.nvml_read import Nvml, Readout, Unread
from penstock_node_agent.gpus.nvml_session import NvmlFailedError, NvmlSession

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S: Final = 10.0
#: A reading takes milliseconds; a beat must not wait long for one that does not.
_PATIENCE_S: Final = 0.25
#: Longest wait for NVML at the end.
_CLOSE_S: Final = 1.0


def _load_pynvml() -> ModuleType:
    import pynvml  # only nodes with GPUs need it

    module: ModuleType = pynvml
    return module


class NvmlProbe:
    """Asks NVML for the inventory, again and again."""

    def __init__(
        self,
        load: Callable[[], Nvml] = _load_pynvml,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        """A probe that has not asked yet.

        Args:
            load: gives the module `pynvml`, or a stand-in.
            timeout_s: the first reading is waited for so long; a later one that takes longer, as two
                who ask see one after the other, makes the GPUs unhealthy.
            patience_s: so long a later reading is waited for.
        """
        self._known = KnownGpus()
        self._session = NvmlSession(load, self._on_xid)
        self._thread = DaemonThreads(1, "nvml")
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking: asyncio.Future[Readout | NvmlFailedError | None] | None = None
        self._asked_at = 0.0
        self._asked_before = False
        #: since when the reading under way is known to take too long; None = it is not
        self._overdue_at: float | None = None
        self._told_absent = False
        self._told_unread: set[Unread] = set()
        #: called when an error event came: `inventory` tells something new
        self.on_news: Callable[[], None] = lambda: None

    async def inventory(self) -> GpuInventory:
        """The GPUs now, or as they were a moment ago; none without a driver.

        Several may ask at once, as when a node's workers end together; they share one reading.
        """
        loop = self._loop = asyncio.get_running_loop()
        began = loop.time()
        if self._asking is None:
            self._asking = self._thread.run(self._ask)
            self._asked_at, self._overdue_at = began, None
        asking = self._asking
        wait_s = self._patience_s if self._asked_before else self._timeout_s
        self._asked_before = True
        done, _ = await asyncio.wait({asking}, timeout=wait_s)
        if asking is not self._asking:
            pass  # another who asked has learnt from it
        elif done:
            self._asking = None
            self._learn(asking.result())
        elif loop.time() - self._asked_at >= self._timeout_s:
            self._note_overdue(began, loop.time())
        return self._known.inventory

    async def close(self) -> None:
        """Let NVML go, unless it hangs; nothing may be asked any more."""
        await asyncio.wait({self._thread.run(self._session.close)}, timeout=_CLOSE_S)
        self._thread.close()

    def _note_overdue(self, began: float, now: float) -> None:
        """The reading takes too long, as one sees now who asked at `began`."""
        if self._overdue_at is None:
            self._overdue_at = now
        elif began >= self._overdue_at:
            logger.error("NVML does not answer", extra={"action": "nvml_hangs"})
            self._known.fall_silent("the driver does not answer")

    def _learn(self, answer: Readout | NvmlFailedError | None) -> None:
        if isinstance(answer, Readout):
            self._tell_unread(answer.unread)
            self._known.learn(answer)
        elif answer is None:
            self._known.fall_silent("the driver is gone")
            if not self._told_absent:
                logger.info("no NVIDIA driver", extra={"action": "nvml_absent"})
        else:
            logger.error("NVML failed", extra={"action": "nvml_failed", "error": str(answer)})
            self._known.fall_silent(f"the driver fails: {answer}")
        self._told_absent = answer is None

    def _tell_unread(self, unread: tuple[Unread, ...]) -> None:
        """Log it once, not at every reading: one that was never read has no other place."""
        for gpu in set(unread) - self._told_unread:
            logger.error(
                "GPU cannot be read",
                extra={"action": "gpu_unread", "index": gpu.index, "error": gpu.error},
            )
        self._told_unread = set(unread)

    def _ask(self) -> Readout | NvmlFailedError | None:
        """In the thread: one reading."""
        try:
            return self._session.read()
        except NvmlFailedError as error:
            return error

    def _on_xid(self, uuid: str, xid: int) -> None:
        """In a thread: the driver told an error."""
        assert self._loop is not None
        _tell(self._loop, lambda: self._note_xid(uuid, xid))

    def _note_xid(self, uuid: str, xid: int) -> None:
        logger.warning(
            "the driver told an XID", extra={"action": "xid_told", "gpu": uuid, "xid": xid}
        )
        self._known.note_xid(uuid, xid)
        self.on_news()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:  # the loop has ended: nobody listens any more
        return
