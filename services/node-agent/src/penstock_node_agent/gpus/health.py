"""Whether a GPU is fit for work, from what the driver tells of it [pure].

Theory of operation. Three sources, the gravest first:

1. What the driver asks for: the recovery action (since driver 555) is its own verdict, and bad
   memory that waits for a reset, or could not be replaced, is in its row remapper (Ampere and
   newer) or its list of retired pages (older).
2. XIDs, the driver's error events. NVIDIA's catalog (docs.nvidia.com/deploy/xid-errors,
   "Analyzing Xid Errors with the Xid Catalog", column "immediate action") says what each asks for.
   Those that ask for a reset of the GPU or a restart of the machine, or to look at NVLink, make it
   unfit. Those that ask to restart the application, or to ignore them (8, 13, 31, 43, 45, 63, 92,
   94 and so on; NVIDIA's device plugin for Kubernetes ignores much the same) do not: a faulty
   kernel must not cost a node its GPU. Nor do codes that the table does not know: for them the
   recovery action speaks. 109 is with those, since the catalog and the device plugin differ.
3. Memory errors that ECC could not correct, counted since the last reset.

1 and 3 are read again and again and end by themselves. An XID is an event and says nothing of its
end: its GPU stays unfit while this agent runs. A reset needs the agent stopped anyway, since the
driver refuses to reset a GPU that any process has open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from penstock_common.messages import Gpu
from penstock_common.states import GpuReason

#: XIDs that make a GPU unfit, with NVIDIA's words for them.
UNFIT_XIDS: Final = {
    46: "GPU stopped processing",
    48: "double-bit ECC error",
    62: "internal micro-controller halt",
    64: "memory remapping failure",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    95: "uncontained memory error",
    110: "security fault",
    119: "GSP RPC timeout",
    120: "GSP error",
    136: "link training failed",
    140: "unrecovered ECC error",
    143: "GPU initialization error",
    158: "GPU fatal timeout",
}
_FELL_OFF: Final = 79

#: The driver's recovery actions (`NVML_GPU_RECOVERY_ACTION_*`); 0 = none.
_RECOVERY: Final = {
    1: "a reset of the GPU",
    2: "a reboot of the machine",
    3: "an end of all peer-to-peer traffic",
    4: "a reset once nothing runs on it",
    5: "a recovery of the IMEX domain",
    6: "a reset of its bus",
    7: "a reboot of the whole system",
}


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the driver tells of a GPU's health; 0 and False also where it cannot tell."""

    #: memory errors that ECC could not correct, since the last reset
    uncorrectable_errors: int = 0
    #: bad memory waits for a reset
    repair_pending: bool = False
    #: bad memory could not be replaced
    repair_failed: bool = False
    #: `NVML_GPU_RECOVERY_ACTION_*`
    recovery_action: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a GPU is given to no worker, and a sentence for a person."""

    reason: GpuReason
    message: str


def find_fault(facts: HealthFacts, xids: Iterable[int] = ()) -> Fault | None:
    """What speaks against a GPU; None = it is healthy.

    Args:
        facts: as read last.
        xids: that the driver told of it, all since this agent began to listen.
    """
    unfit = [xid for xid in xids if xid in UNFIT_XIDS]
    if _FELL_OFF in unfit:
        return Fault(GpuReason.LOST, _tell_xid(_FELL_OFF))
    if facts.recovery_action:
        wanted = _RECOVERY.get(facts.recovery_action, f"action {facts.recovery_action}")
        return Fault(GpuReason.RESET_REQUIRED, f"the driver asks for {wanted}")
    if facts.repair_failed:
        return Fault(
            GpuReason.REPAIR_FAILED, "bad memory could not be replaced: the GPU is to be exchanged"
        )
    if facts.repair_pending:
        return Fault(
            GpuReason.REPAIR_PENDING, "bad memory waits for a reset of the GPU to be replaced"
        )
    if unfit:
        return Fault(GpuReason.XID, _tell_xid(unfit[0]))
    if n := facts.uncorrectable_errors:
        return Fault(
            GpuReason.MEMORY_ERRORS,
            f"{n} memory error{'s' if n > 1 else ''} that ECC could not correct since the last reset",
        )
    return None


def _tell_xid(xid: int) -> str:
    return f"the driver told XID {xid}: {UNFIT_XIDS[xid]}"


def judged(gpu: Gpu, fault: Fault | None) -> Gpu:
    """The GPU with this fault, or with none."""
    reason, message = (fault.reason, fault.message) if fault else (None, None)
    if (gpu.reason, gpu.message) == (reason, message):
        return gpu
    return gpu.model_copy(update={"reason": reason, "message": message})
