"""Heartbeats of the parts: nodes with their GPUs, and routers."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message
from penstock_common.states import GpuReason

RuntimeKind = Literal["docker", "process"]


class Gpu(Message):
    """One GPU of a node, or one MIG instance: what a worker can be given.

    It holds only what changes rarely; measurements are in `GpuReading`.
    """

    #: NVML UUID (`GPU-…`, `MIG-…`), or `static-<n>` from a static list
    uuid: str
    #: `<model>-<vram>gb` in lower case, e.g. `rtx-4090-24gb`, `h100-80gb-mig-1g-10gb`
    product: str
    vram_bytes: int
    #: why no worker gets it; null = it is healthy
    reason: GpuReason | None = None
    #: the same in one sentence for a person
    message: str | None = None
    #: GPUs with the same group share an NVLink domain or PCIe switch
    link_group: int = 0
    #: NUMA node of the machine that is closest to it; null = not known
    numa_node: int | None = None
    #: of a MIG instance: UUID of the GPU that it is a part of
    parent: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether a worker may get it."""
        return self.reason is None


class GpuReading(Message):
    """What a GPU measures of itself; null = it does not tell."""

    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    #: share of the last moments in which a kernel ran, 0 to 1
    utilization_ratio: float | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    #: memory errors that ECC could not correct, since the driver was loaded or the GPU reset
    uncorrectable_errors: int | None = None
    #: XIDs that the driver told since the agent started, each once, the ten latest, latest last
    xids: tuple[int, ...] = ()


class EngineProblem(Message):
    """Why a node's engine cannot start or end workers at present."""

    #: in words, e.g. what the engine said
    message: str
    #: when it was noticed
    since: AwareDatetime
    #: true = its disk is full; else it does not answer
    full: bool = False


class NodeRecord(Message):
    """A node's heartbeat. Bucket NODES, expiring; written by its node agent."""

    node_id: str
    hostname: str
    #: address on which its workers are reached
    address: str
    runtime: RuntimeKind
    #: set = no worker is placed on it; those that run may run on
    engine_problem: EngineProblem | None = None
    gpus: tuple[Gpu, ...] = ()
    #: UUID → what it measures; also of GPUs that are split into MIG instances
    gpu_readings: Mapping[str, GpuReading] = {}
    #: true = `gpus` is an operator's list, not NVML's
    static_gpus: bool = False
    driver_version: str | None = None
    #: highest CUDA version that the driver supports, e.g. "12.8"
    cuda_version: str | None = None
    cpu_count: int
    #: processes that run or want to, mean of a minute
    load_1m: float | None = None
    memory_bytes: int
    #: of it what new processes can have
    memory_available_bytes: int | None = None
    #: the disk of the agent's data
    disk_bytes: int | None = None
    disk_free_bytes: int
    #: image references on the node
    images: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    #: host paths that its operator lets network volumes lie in
    volume_paths: tuple[str, ...] = ()
    #: what else of network volumes it can mount: `nfs`, `driver_options`
    volume_kinds: tuple[str, ...] = ()
    version: str
    started_at: AwareDatetime
    #: counts heartbeats since the start
    beat: int
    #: true = the agent ended, its workers run on, and it is awaited back before this record
    #: expires: no new worker is placed there
    restarting: bool = False


class RouterRecord(Message):
    """A router's heartbeat. Bucket ROUTERS, expiring; written by the router."""

    router_id: str
    hostname: str
    #: where clients reach it, e.g. `http://127.0.0.1:8080`
    url: str
    version: str
    started_at: AwareDatetime
    beat: int
    #: true = it has nothing in flight any more and ends; its record goes next
    left: bool = False
