"""A stand-in for the module `pynvml`: a machine with the GPUs that a test describes."""

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace


class NVMLError(Exception):
    """What every call raises that fails."""


@dataclass
class FakeGpu:
    """One GPU."""

    uuid: str
    name: str = "NVIDIA GeForce RTX 4090"
    vram_bytes: int = 25_757_220_864
    lost: bool = False


@dataclass
class FakeNvml:
    """Passes for the module; handles are indices."""

    gpus: list[FakeGpu] = field(default_factory=list)
    driver: bool = True
    #: pairs of indices joined by NVLink, and by a PCIe switch
    nvlinks: set[tuple[int, int]] = field(default_factory=set)
    switches: set[tuple[int, int]] = field(default_factory=set)
    #: cleared = every call hangs
    answers: threading.Event = field(default_factory=threading.Event)
    open: int = 0

    NVMLError = NVMLError
    NVML_P2P_CAPS_INDEX_NVLINK = 2
    NVML_P2P_STATUS_OK = 0
    NVML_TOPOLOGY_MULTIPLE = 20

    def __post_init__(self) -> None:
        self.answers.set()

    def nvmlInit(self) -> None:  # noqa: N802
        self.answers.wait(30)
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def _gpu(self, handle: int) -> FakeGpu:
        gpu = self.gpus[handle]
        if gpu.lost:
            raise NVMLError("GPU is lost")
        return gpu

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return self._gpu(handle).uuid

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return self._gpu(handle).name.encode()

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=self._gpu(handle).vram_bytes)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 12080

    def nvmlDeviceGetP2PStatus(self, first: int, second: int, _kind: int) -> int:  # noqa: N802
        self._gpu(first)
        return 0 if (first, second) in self.nvlinks else 1

    def nvmlDeviceGetTopologyCommonAncestor(self, first: int, second: int) -> int:  # noqa: N802
        return 10 if (first, second) in self.switches else 50
