"""Listens for XIDs, the driver's error events, one thread for each GPU.

A set of events for each GPU tells whose an event is without asking the driver, which a GPU that
just fell off the bus would not answer.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from penstock_node_agent.gpus.nvml_read import Handle, Nvml

logger = logging.getLogger(__name__)

#: How long one wait lasts: so late does a listener see that it is to end.
_WAIT_MS: Final = 250
#: Pause after an error that is no timeout.
_PAUSE_S: Final = 5.0


class XidListener:
    """Tells each XID of one GPU, from a thread of its own."""

    def __init__(
        self,
        nvml: Nvml,
        handle: Handle,
        uuid: str,
        on_xid: Callable[[str, int], None],
        *,
        pause_s: float = _PAUSE_S,
    ) -> None:
        """A listener that has begun.

        Args:
            nvml: the module `pynvml`, initialised, or a stand-in.
            handle: the GPU.
            uuid: its UUID.
            on_xid: is given UUID and XID, in the listener's thread.
            pause_s: after a wait that failed.

        Raises:
            nvml.NVMLError: the GPU tells no XIDs.
        """
        self._nvml = nvml
        self._uuid = uuid
        self._on_xid = on_xid
        self._pause_s = pause_s
        self._closing = threading.Event()
        self._set = nvml.nvmlEventSetCreate()
        try:
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._set)
        except nvml.NVMLError:
            nvml.nvmlEventSetFree(self._set)
            raise
        self._thread = threading.Thread(target=self._listen, name=f"xids {uuid}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Have it end soon; does not wait."""
        self._closing.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has ended, and free what it held; False = it has not."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._nvml.nvmlEventSetFree(self._set)
        return True

    def _listen(self) -> None:
        failing = False
        while not self._closing.is_set():
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, _WAIT_MS)
            except self._nvml.NVMLError as error:
                timed_out = error.value == self._nvml.NVML_ERROR_TIMEOUT
                if not timed_out and not failing:
                    logger.warning(
                        "XIDs of a GPU cannot be heard",
                        extra={"action": "xid_wait_failed", "gpu": self._uuid, "error": str(error)},
                    )
                failing = not timed_out
                if failing:
                    self._closing.wait(self._pause_s)
                continue
            failing = False
            if event.eventType == self._nvml.nvmlEventTypeXidCriticalError:
                self._on_xid(self._uuid, int(event.eventData))
