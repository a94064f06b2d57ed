"""What an agent knows of its node's GPUs over time [pure].

A GPU that was seen once stays in the inventory while the agent runs: one that is lost, or cannot
be read, is shown with its fault, for the workers on it and the operator must hear of it. A MIG
instance that is taken apart on purpose goes, and so does a GPU that is split into instances.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from penstock_common.messages import Gpu, GpuReading
from penstock_common.states import GpuReason
from penstock_node_agent.gpus.health import Fault, find_fault, judged
from penstock_node_agent.gpus.inventory import GpuInventory
from penstock_node_agent.gpus.nvml_read import Device, Readout, Unread

_GPU_IS_LOST: Final = 15
_RESET_REQUIRED: Final = 16
#: So many XIDs of a GPU are shown.
_SHOWN_XIDS: Final = 10


@dataclass(frozen=True, slots=True)
class _Known:
    """A GPU or instance, and what speaks against it by its last reading (not its XIDs)."""

    device: Device
    index: int
    unread: Fault | None = None


@dataclass(slots=True)
class KnownGpus:
    """The GPUs that were ever seen; `inventory` tells how they are now."""

    _known: dict[str, _Known] = field(default_factory=dict)
    _readings: Mapping[str, GpuReading] = field(default_factory=dict)
    #: UUID of a whole GPU → XIDs since the agent began to listen, each once, the latest last
    _xids: dict[str, list[int]] = field(default_factory=dict)
    _driver_version: str | None = None
    _cuda_version: str | None = None
    #: set = NVML as a whole does not answer
    _silence: str | None = None

    def learn(self, readout: Readout) -> None:
        """Take in what was read."""
        before, seen = self._known, set(readout.uuids.values())
        index_of = {uuid: index for index, uuid in readout.uuids.items()}
        self._known = {
            d.gpu.uuid: _Known(d, index_of[d.gpu.parent or d.gpu.uuid]) for d in readout.devices
        }
        unread = {u.index: u for u in readout.unread}
        for uuid, known in before.items():
            # What was read without giving this device: it was split, or taken apart.
            if uuid not in self._known and (known.device.gpu.parent or uuid) not in seen:
                self._known[uuid] = replace(known, unread=_fault_of(unread.get(known.index)))
        self._readings = dict(readout.readings)
        self._driver_version = readout.driver_version
        self._cuda_version = readout.cuda_version
        self._silence = None

    def fall_silent(self, why: str) -> None:
        """NVML as a whole does not answer, until the next reading."""
        self._silence = why

    def note_xid(self, uuid: str, xid: int) -> None:
        """The driver told an XID of this (whole) GPU."""
        told = self._xids.setdefault(uuid, [])
        # Each once: a worker that faults for days must not fill the memory.
        if xid in told:
            told.remove(xid)
        told.append(xid)

    @property
    def inventory(self) -> GpuInventory:
        """The GPUs as they are known to be now, in NVML's order."""
        ordered = sorted(self._known.values(), key=lambda known: known.index)
        return GpuInventory(
            gpus=tuple(self._judge(known) for known in ordered),
            readings=self._shown_readings(),
            driver_version=self._driver_version,
            cuda_version=self._cuda_version,
        )

    def _judge(self, known: _Known) -> Gpu:
        gpu, fault = known.device.gpu, known.unread
        if fault is None or fault.reason is GpuReason.NOT_ANSWERING:
            told = find_fault(known.device.health, self._xids.get(gpu.parent or gpu.uuid, ()))
            fault = told or fault
        if fault is None and self._silence is not None:
            fault = Fault(GpuReason.NOT_ANSWERING, self._silence)
        return judged(gpu, fault)

    def _shown_readings(self) -> Mapping[str, GpuReading]:
        if self._silence is not None:
            return {}
        return {
            uuid: reading.model_copy(update={"xids": tuple(self._xids[uuid][-_SHOWN_XIDS:])})
            if uuid in self._xids
            else reading
            for uuid, reading in self._readings.items()
        }


def _fault_of(unread: Unread | None) -> Fault:
    if unread is None:
        return Fault(GpuReason.LOST, "the driver knows it no longer")
    if unread.code == _GPU_IS_LOST:
        return Fault(GpuReason.LOST, f"it has fallen off the bus: {unread.error}")
    if unread.code == _RESET_REQUIRED:
        return Fault(GpuReason.RESET_REQUIRED, f"it works again after a reset: {unread.error}")
    return Fault(GpuReason.NOT_ANSWERING, f"the driver cannot read it: {unread.error}")
