"""NVML held open, and what is kept between its readings.

It is not opened for each reading: without a client the driver lets the GPUs go, and the next
opening takes seconds. What fails as a whole is closed, and opened again by the next reading.
"""

import logging
from collections.abc import Callable
from typing import Final

from penstock_node_agent.gpus.nvml_events import XidListener
from penstock_node_agent.gpus.nvml_read import Nvml, Readout, Topology, read_all

logger = logging.getLogger(__name__)

#: A listener ends within one wait of its own.
_JOIN_S: Final = 3.0


class NvmlFailedError(Exception):
    """NVML does not answer as it should."""


class NvmlSession:
    """Reads the GPUs; every method blocks, and only one thread at a time may call them."""

    def __init__(self, load: Callable[[], Nvml], on_xid: Callable[[str, int], None]) -> None:
        """A session that is not open.

        Args:
            load: gives the module `pynvml`, or a stand-in.
            on_xid: is given UUID and XID of each error event, in a thread.
        """
        self._load = load
        self._on_xid = on_xid
        self._nvml: Nvml = None
        self._topology: Topology | None = None
        self._listeners: dict[str, XidListener] = {}
        #: GPUs that tell no XIDs
        self._mute: set[str] = set()

    def read(self) -> Readout | None:
        """All GPUs now; None = there is no NVIDIA driver here.

        Raises:
            NvmlFailedError: NVML as a whole failed.
        """
        if self._nvml is None and not self._open():
            return None
        nvml = self._nvml
        try:
            readout, self._topology = read_all(nvml, self._topology)
            self._listen(readout)
        except nvml.NVMLError as error:
            self.close()
            raise NvmlFailedError(str(error)) from error
        return readout

    def close(self) -> None:
        """Let NVML go, unless a listener hangs in it."""
        nvml, self._nvml, self._topology = self._nvml, None, None
        listeners, self._listeners = self._listeners, {}
        self._mute.clear()
        if nvml is None:
            return
        for listener in listeners.values():
            listener.close()
        try:
            ended = [listener.join(_JOIN_S) for listener in listeners.values()]
            if all(ended):
                nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            logger.info("NVML not closed", extra={"action": "nvml_unclosed", "error": str(error)})

    def _open(self) -> bool:
        try:
            nvml = self._load()
        except ImportError:
            return False
        absent = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            if error.value not in absent:
                raise NvmlFailedError(str(error)) from error
            return False
        self._nvml = nvml
        return True

    def _listen(self, readout: Readout) -> None:
        """Have a listener for each GPU that was read."""
        nvml = self._nvml
        for index, uuid in readout.uuids.items():
            if uuid in self._mute or uuid in self._listeners:
                continue
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                self._listeners[uuid] = XidListener(nvml, handle, uuid, self._on_xid)
            except nvml.NVMLError as error:
                self._mute.add(uuid)
                logger.warning(
                    "a GPU tells no XIDs",
                    extra={"action": "xids_unheard", "gpu": uuid, "error": str(error)},
                )
