"""Reads what NVML tells of a node's GPUs; every call blocks, for seconds on a sick GPU.

`nvml` is everywhere the module `pynvml`, or a stand-in: this module never imports it. What a GPU
does not support is None or 0; a GPU that cannot be read at all stands in `Readout.unread`.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

from penstock_common.messages import Gpu, GpuReading
from penstock_node_agent.gpus.health import HealthFacts
from penstock_node_agent.gpus.inventory import cuda_version, link_groups, product_id

#: The module `pynvml` or a stand-in, and its handle of one GPU; neither has types.
Nvml: TypeAlias = Any
Handle: TypeAlias = Any
#: What `nvmlDeviceGetMemoryInfo` gives: `total`, `free`, `used` in bytes.
_Memory: TypeAlias = Any

_T = TypeVar("_T")

#: How many NUMA nodes an affinity mask has room for, in words of 64.
_MASK_WORDS: Final = 4
_MIG_PROFILE: Final = re.compile(r"\bMIG (\S+)\s*$")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU or MIG instance as it was read."""

    gpu: Gpu
    health: HealthFacts


@dataclass(frozen=True, slots=True)
class Unread:
    """A GPU that could not be read."""

    index: int
    #: NVML's error code, and its words
    code: int
    error: str


@dataclass(frozen=True, slots=True)
class Readout:
    """One reading of all GPUs."""

    #: what workers can be given: whole GPUs, and instances of those that are split
    devices: tuple[Device, ...] = ()
    #: UUID → what it measures; of whole GPUs and instances
    readings: dict[str, GpuReading] = field(default_factory=dict)
    #: index → UUID of the whole GPUs that could be read
    uuids: dict[int, str] = field(default_factory=dict)
    unread: tuple[Unread, ...] = ()
    driver_version: str | None = None
    cuda_version: str | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """How the GPUs lie to one another; worked out once for a set of GPUs."""

    uuids: tuple[str, ...]
    groups: tuple[int, ...]
    numa_nodes: tuple[int | None, ...]


def read_all(nvml: Nvml, topology: Topology | None) -> tuple[Readout, Topology]:
    """All GPUs now; `nvml` is initialised.

    Args:
        nvml: the module.
        topology: what the last call gave; used again while the GPUs are the same.

    Raises:
        nvml.NVMLError: NVML as a whole failed.
    """
    handles: dict[int, Handle] = {}
    uuids: dict[int, str] = {}
    unread: list[Unread] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)
            uuids[index] = _text(nvml.nvmlDeviceGetUUID(handles[index]))
        except nvml.NVMLError as error:
            handles.pop(index, None)
            unread.append(Unread(index, error.value, str(error)))
    if topology is None or topology.uuids != tuple(uuids.values()):
        topology = _read_topology(nvml, handles, tuple(uuids.values()))
    devices: list[Device] = []
    readings: dict[str, GpuReading] = {}
    for place, (index, handle) in enumerate(handles.items()):
        group, numa_node = topology.groups[place], topology.numa_nodes[place]
        try:
            found, measured = _read_gpu(nvml, handle, uuids[index], group, numa_node)
        except nvml.NVMLError as error:
            unread.append(Unread(index, error.value, str(error)))
            continue
        devices += found
        readings |= measured
    lost = {u.index for u in unread}
    return Readout(
        devices=tuple(devices),
        readings=readings,
        uuids={index: uuid for index, uuid in uuids.items() if index not in lost},
        unread=tuple(unread),
        driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda_version=cuda_version(nvml.nvmlSystemGetCudaDriverVersion_v2()),
    ), topology


def _read_gpu(
    nvml: Nvml, handle: Handle, uuid: str, group: int, numa_node: int | None
) -> tuple[list[Device], dict[str, GpuReading]]:
    """A GPU, or its instances while it is split, and what they measure."""
    name = _text(nvml.nvmlDeviceGetName(handle))
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    product = product_id(name, memory.total)
    health = _read_health(nvml, handle)
    readings = {uuid: _read_measures(nvml, handle, memory, health)}
    gpu = Gpu(
        uuid=uuid,
        product=product,
        vram_bytes=int(memory.total),
        link_group=group,
        numa_node=numa_node,
    )
    if not _is_split(nvml, handle):
        return [Device(gpu, health)], readings
    devices: list[Device] = []
    for instance in _instances(nvml, handle):
        part_memory = nvml.nvmlDeviceGetMemoryInfo(instance)
        part = gpu.model_copy(
            update={
                "uuid": _text(nvml.nvmlDeviceGetUUID(instance)),
                "product": mig_product_id(product, _text(nvml.nvmlDeviceGetName(instance))),
                "vram_bytes": int(part_memory.total),
                "parent": uuid,
            }
        )
        devices.append(Device(part, health))
        readings[part.uuid] = GpuReading(
            memory_used_bytes=int(part_memory.used), memory_free_bytes=int(part_memory.free)
        )
    return devices, readings


def mig_product_id(parent: str, name: str) -> str:
    """Product id of a MIG instance: "NVIDIA H100 80GB HBM3 MIG 1g.10gb" → `h100-80gb-mig-1g-10gb`.

    Args:
        parent: product id of the GPU that it is a part of.
        name: as NVML gives it.
    """
    match = _MIG_PROFILE.search(name)
    profile = re.sub(r"[^a-z0-9]+", "-", match[1].lower()).strip("-") if match else ""
    return f"{parent}-mig-{profile}" if profile else f"{parent}-mig"


# ---- one GPU


def _read_health(nvml: Nvml, handle: Handle) -> HealthFacts:
    errors = _try(
        nvml,
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
    )
    rows = _try(nvml, lambda: nvml.nvmlDeviceGetRemappedRows(handle))
    # Before Ampere there is no row remapper: pages are retired instead.
    pages = None
    if rows is None:
        pages = _try(nvml, lambda: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))
    return HealthFacts(
        uncorrectable_errors=errors or 0,
        repair_pending=bool(rows[2] if rows else pages),
        repair_failed=bool(rows and rows[3]),
        recovery_action=_recovery_action(nvml, handle),
    )


def _recovery_action(nvml: Nvml, handle: Handle) -> int:
    """The driver's own verdict; 0 where the driver is too old to have one."""
    action = nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    values = _try(nvml, lambda: nvml.nvmlDeviceGetFieldValues(handle, [action]))
    if not values or values[0].nvmlReturn != nvml.NVML_SUCCESS:
        return 0
    return int(values[0].value.uiVal)


def _read_measures(nvml: Nvml, handle: Handle, memory: _Memory, health: HealthFacts) -> GpuReading:
    rates = _try(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    milliwatts = _try(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    sensor = nvml.NVML_TEMPERATURE_GPU
    return GpuReading(
        memory_used_bytes=int(memory.used),
        memory_free_bytes=int(memory.free),
        utilization_ratio=None if rates is None else rates.gpu / 100,
        temperature_c=_try(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, sensor)),
        power_w=None if milliwatts is None else milliwatts / 1000,
        uncorrectable_errors=health.uncorrectable_errors,
    )


# ---- MIG


def _is_split(nvml: Nvml, handle: Handle) -> bool:
    modes = _try(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    return modes is not None and bool(modes[0] == nvml.NVML_DEVICE_MIG_ENABLE)


def _instances(nvml: Nvml, handle: Handle) -> list[Handle]:
    found: list[Handle] = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError as error:
            # A place that holds no instance.
            if error.value not in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                raise
    return found


# ---- how they lie to one another


def _read_topology(nvml: Nvml, handles: dict[int, Handle], uuids: tuple[str, ...]) -> Topology:
    indices, ordered = list(handles), list(handles.values())
    linked = [
        (a, b)
        for (a, first), (b, second) in itertools.combinations(enumerate(ordered), 2)
        if _are_linked(nvml, first, second)
    ]
    return Topology(
        uuids,
        # Called by NVML's index, so that no group is renamed when a GPU of another is lost.
        tuple(indices[group] for group in link_groups(linked, len(ordered))),
        tuple(_numa_node(nvml, handle) for handle in ordered),
    )


def _are_linked(nvml: Nvml, first: Handle, second: Handle) -> bool:
    """Whether two GPUs share an NVLink connection or a PCIe switch, as far as NVML tells."""
    try:
        status = nvml.nvmlDeviceGetP2PStatus(first, second, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        if status == nvml.NVML_P2P_STATUS_OK:
            return True
        ancestor = nvml.nvmlDeviceGetTopologyCommonAncestor(first, second)
        return bool(ancestor <= nvml.NVML_TOPOLOGY_MULTIPLE)
    except nvml.NVMLError:
        # One of them cannot be read: it is told as that where it is read.
        return False


def _numa_node(nvml: Nvml, handle: Handle) -> int | None:
    """The lowest NUMA node whose memory is closest; None = NVML does not tell."""
    scope = nvml.NVML_AFFINITY_SCOPE_NODE
    try:
        words = nvml.nvmlDeviceGetMemoryAffinity(handle, _MASK_WORDS, scope)
    except nvml.NVMLError:
        return None
    for n, word in enumerate(words):
        if word:
            return int(n * 64 + (word & -word).bit_length() - 1)
    return None


# ---- inner


def _try(nvml: Nvml, read: Callable[[], _T]) -> _T | None:
    """What `read` gives; None when this GPU, driver or user cannot have it."""
    absent = (
        nvml.NVML_ERROR_NOT_SUPPORTED,
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_NO_PERMISSION,
        nvml.NVML_ERROR_NO_DATA,
        nvml.NVML_ERROR_NOT_FOUND,
        nvml.NVML_ERROR_INVALID_ARGUMENT,
        nvml.NVML_ERROR_DEPRECATED,
    )
    try:
        return read()
    except nvml.NVMLError as error:
        if error.value not in absent:
            raise
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
