"""A stand-in for the module `pynvml`: a machine with the GPUs that a test describes.

It gives the real module's types and constants, and raises its errors.
"""

import ctypes
import queue
import threading
from dataclasses import dataclass, field
from typing import Any

import pynvml

_INSTANCES = 8


@dataclass
class FakeInstance:
    """One MIG instance."""

    uuid: str
    profile: str = "1g.10gb"
    vram_bytes: int = 10 * 1024**3


@dataclass
class FakeGpu:
    """One GPU."""

    uuid: str
    name: str = "NVIDIA GeForce RTX 4090"
    vram_bytes: int = 25_757_220_864
    used_bytes: int = 500_000_000
    #: NVML's code with which every call about it fails
    error: int | None = None
    uncorrectable_errors: int = 0
    #: corrected, uncorrected, pending, failed; None = it has no row remapper
    rows: tuple[int, int, int, int] | None = (0, 0, 0, 0)
    pages_pending: bool = False
    #: None = its driver is too old to have one
    recovery_action: int | None = 0
    #: None = MIG is off
    instances: list[FakeInstance] | None = None
    numa_node: int = 0
    #: NVML's code with which waiting for its error events fails
    wait_error: int | None = None
    #: it tells no error events
    mute: bool = False


@dataclass
class FakeNvml:
    """Passes for the module."""

    gpus: list[FakeGpu] = field(default_factory=list)
    driver: bool = True
    #: pairs of indices joined by NVLink, and by a PCIe switch
    nvlinks: set[tuple[int, int]] = field(default_factory=set)
    switches: set[tuple[int, int]] = field(default_factory=set)
    #: cleared = every call hangs
    answers: threading.Event = field(default_factory=threading.Event)
    #: NVML's code with which it fails as a whole
    failure: int | None = None
    open: int = 0

    def __post_init__(self) -> None:
        self.answers.set()
        self._events: dict[int, queue.SimpleQueue[Any]] = {}
        self._watched: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(pynvml, name)
        assert not (name.startswith("nvml") and callable(value)), f"the stand-in lacks {name}"
        return value

    def tell_xid(self, index: int, xid: int) -> None:
        """The driver tells an XID of this GPU to whoever listens."""
        event = pynvml.c_nvmlEventData_t()
        event.eventType = pynvml.nvmlEventTypeXidCriticalError
        event.eventData = xid
        for events, watched in self._watched.items():
            if watched == index:
                self._events[events].put(event)

    def listened_to(self, index: int) -> bool:
        """Whether anybody listens to this GPU's errors."""
        return index in self._watched.values()

    # ---- the module's calls

    def nvmlInit(self) -> None:  # noqa: N802
        self._check()
        if not self.driver:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check()
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return _handle(index)

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        return self._part(handle).uuid

    def nvmlDeviceGetName(self, handle: Any) -> bytes:  # noqa: N802
        part = self._part(handle)
        if isinstance(part, FakeInstance):
            return f"{self._gpu(handle).name} MIG {part.profile}".encode()
        return part.name.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        part = self._part(handle)
        used = part.used_bytes if isinstance(part, FakeGpu) else 0
        total = part.vram_bytes
        return pynvml.c_nvmlMemory_t(total=total, free=total - used, used=used)

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: int, counter: int) -> int:  # noqa: N802
        wanted = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return self._gpu(handle).uncorrectable_errors if (kind, counter) == wanted else 0

    def nvmlDeviceGetRemappedRows(self, handle: Any) -> tuple[int, int, int, int]:  # noqa: N802
        rows = self._gpu(handle).rows
        if rows is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return rows

    def nvmlDeviceGetRetiredPagesPendingStatus(self, handle: Any) -> int:  # noqa: N802
        return int(self._gpu(handle).pages_pending)

    def nvmlDeviceGetFieldValues(self, handle: Any, fields: list[int]) -> Any:  # noqa: N802
        action = self._gpu(handle).recovery_action
        values = (pynvml.c_nvmlFieldValue_t * len(fields))()
        for value, wanted in zip(values, fields, strict=True):
            known = wanted == pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION and action is not None
            value.nvmlReturn = pynvml.NVML_SUCCESS if known else pynvml.NVML_ERROR_NOT_SUPPORTED
            value.value.uiVal = action if known else 0
        return values

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        self._gpu(handle)
        return pynvml.c_nvmlUtilization_t(gpu=37, memory=12)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802
        self._gpu(handle)
        return 71_500

    def nvmlDeviceGetTemperature(self, handle: Any, _sensor: int) -> int:  # noqa: N802
        self._gpu(handle)
        return 41

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:  # noqa: N802
        on = int(self._gpu(handle).instances is not None)
        return [on, on]

    def nvmlDeviceGetMaxMigDeviceCount(self, _handle: Any) -> int:  # noqa: N802
        return _INSTANCES - 1

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:  # noqa: N802
        if index >= len(self._gpu(handle).instances or ()):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _handle(_place(handle)[0], index + 1)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 12080

    def nvmlDeviceGetP2PStatus(self, first: Any, second: Any, _kind: int) -> int:  # noqa: N802
        return 0 if self._pair(first, second) in self.nvlinks else 1

    def nvmlDeviceGetTopologyCommonAncestor(self, first: Any, second: Any) -> int:  # noqa: N802
        return 10 if self._pair(first, second) in self.switches else 50

    def nvmlDeviceGetMemoryAffinity(self, handle: Any, words: int, _scope: int) -> Any:  # noqa: N802
        word, bit = divmod(self._gpu(handle).numa_node, 64)
        return (ctypes.c_ulonglong * words)(*(1 << bit if n == word else 0 for n in range(words)))

    def nvmlEventSetCreate(self) -> Any:  # noqa: N802
        address = 0x100000 + 16 * len(self._events)
        self._events[address] = queue.SimpleQueue()
        return ctypes.cast(ctypes.c_void_p(address), pynvml.c_nvmlEventSet_t)

    def nvmlDeviceRegisterEvents(self, handle: Any, types: int, events: Any) -> None:  # noqa: N802
        if self._gpu(handle).mute or types != pynvml.nvmlEventTypeXidCriticalError:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._watched[_address(events)] = _place(handle)[0]

    def nvmlEventSetWait_v2(self, events: Any, timeout_ms: int) -> Any:  # noqa: N802
        index = self._watched.get(_address(events))
        if index is not None and (code := self.gpus[index].wait_error) is not None:
            raise pynvml.NVMLError(code)
        try:
            # Ends sooner than asked, so that no test waits for a listener to end.
            return self._events[_address(events)].get(timeout=min(timeout_ms / 1000, 0.02))
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None

    def nvmlEventSetFree(self, events: Any) -> None:  # noqa: N802
        self._watched.pop(_address(events), None)

    # ---- inner

    def _check(self) -> None:
        self.answers.wait(30)
        if self.failure is not None:
            raise pynvml.NVMLError(self.failure)

    def _gpu(self, handle: Any) -> FakeGpu:
        self._check()
        gpu = self.gpus[_place(handle)[0]]
        if gpu.error is not None:
            raise pynvml.NVMLError(gpu.error)
        return gpu

    def _part(self, handle: Any) -> FakeGpu | FakeInstance:
        gpu, (_, part) = self._gpu(handle), _place(handle)
        return (gpu.instances or [])[part - 1] if part else gpu

    def _pair(self, first: Any, second: Any) -> tuple[int, int]:
        self._gpu(first)
        self._gpu(second)
        return _place(first)[0], _place(second)[0]


def _handle(index: int, part: int = 0) -> Any:
    """A handle such as NVML's: a pointer to nothing that may be read."""
    return ctypes.cast(ctypes.c_void_p(0x1000 + index * 16 + part), pynvml.c_nvmlDevice_t)


def _place(handle: Any) -> tuple[int, int]:
    """Index of the GPU, and number of its instance from 1; 0 = the whole GPU."""
    return divmod(_address(handle) - 0x1000, 16)


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
