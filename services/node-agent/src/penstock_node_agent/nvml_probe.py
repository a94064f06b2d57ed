"""The node's GPUs as the NVIDIA driver tells them, through NVML.

NVML's calls block, for seconds on a sick GPU, so they run in a thread of their own. While one
hangs, the last inventory is given, with its GPUs marked unhealthy.
"""

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, Final, TypeAlias

from penstock_common.messages import Gpu
from penstock_node_agent.gpus import GpuInventory, cuda_version, link_groups, product_id

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S: Final = 10.0

#: The module `pynvml` or a stand-in, and its handle of one GPU; neither has types.
_Nvml: TypeAlias = Any
_Handle: TypeAlias = Any


def _load_pynvml() -> ModuleType:
    import pynvml  # only nodes with GPUs need it

    module: ModuleType = pynvml
    return module


class NvmlProbe:
    """Asks NVML for the inventory."""

    def __init__(
        self, load: Callable[[], _Nvml] = _load_pynvml, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        """`load` gives the module `pynvml`, or a stand-in."""
        self._load = load
        self._timeout_s = timeout_s
        self._last = GpuInventory()
        self._asking: asyncio.Future[GpuInventory] | None = None

    async def inventory(self) -> GpuInventory:
        """The GPUs now; none without a driver. Takes at most `timeout_s`."""
        if self._asking is None:
            self._asking = self._ask_in_thread()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await asyncio.shield(self._asking)
        except TimeoutError:
            logger.error("NVML does not answer", extra={"action": "nvml_hangs"})
            return replace(
                self._last,
                gpus=tuple(gpu.model_copy(update={"healthy": False}) for gpu in self._last.gpus),
            )
        self._asking = None
        self._last = found
        return found

    def _ask_in_thread(self) -> "asyncio.Future[GpuInventory]":
        # A daemon thread, not a pool's: a call that hangs for good must not hold the exit.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[GpuInventory] = loop.create_future()

        def settle(inventory: GpuInventory) -> None:
            if not answer.done():
                answer.set_result(inventory)

        def ask() -> None:
            inventory = read_inventory(self._load)
            try:
                loop.call_soon_threadsafe(settle, inventory)
            except RuntimeError:  # the loop has ended meanwhile
                return

        threading.Thread(target=ask, name="nvml", daemon=True).start()
        return answer


def read_inventory(load: Callable[[], _Nvml]) -> GpuInventory:
    """The GPUs now, asked in the calling thread; none when there is no driver, or it fails."""
    try:
        nvml = load()
    except ImportError:
        return GpuInventory()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        logger.info("no NVIDIA driver", extra={"action": "nvml_absent", "error": str(error)})
        return GpuInventory()
    try:
        return _read(nvml)
    except nvml.NVMLError as error:
        logger.error("NVML failed", extra={"action": "nvml_failed", "error": str(error)})
        return GpuInventory()
    finally:
        nvml.nvmlShutdown()


def _read(nvml: _Nvml) -> GpuInventory:
    handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    groups = _groups(nvml, handles)
    gpus = []
    for handle, group in zip(handles, groups, strict=True):
        try:
            gpus.append(_read_gpu(nvml, handle, group))
        except nvml.NVMLError as error:
            # One that fell off the bus has no readable name; the others still work.
            logger.error("GPU cannot be read", extra={"action": "gpu_lost", "error": str(error)})
    return GpuInventory(
        gpus=tuple(gpus),
        driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda_version=cuda_version(nvml.nvmlSystemGetCudaDriverVersion_v2()),
    )


def _read_gpu(nvml: _Nvml, handle: _Handle, group: int) -> Gpu:
    vram_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        product=product_id(_text(nvml.nvmlDeviceGetName(handle)), vram_bytes),
        vram_bytes=vram_bytes,
        link_group=group,
    )


def _groups(nvml: _Nvml, handles: list[_Handle]) -> list[int]:
    linked = [
        (a, b)
        for (a, first), (b, second) in itertools.combinations(enumerate(handles), 2)
        if _are_linked(nvml, first, second)
    ]
    return link_groups(linked, len(handles))


def _are_linked(nvml: _Nvml, first: _Handle, second: _Handle) -> bool:
    """Whether two GPUs share an NVLink connection or a PCIe switch, as far as NVML tells."""
    try:
        status = nvml.nvmlDeviceGetP2PStatus(first, second, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        if status == nvml.NVML_P2P_STATUS_OK:
            return True
        ancestor = nvml.nvmlDeviceGetTopologyCommonAncestor(first, second)
        return bool(ancestor <= nvml.NVML_TOPOLOGY_MULTIPLE)
    except nvml.NVMLError:
        return False


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
