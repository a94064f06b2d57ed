"""What a person can do about a worker that failed, by its reason [pure].

`docs/failures.md` tells more; a sentence of a runtime that holds advice of its own gets none here.
"""

from collections.abc import Mapping
from typing import Final

from penstock_common.states import WorkerReason

_ADVICE: Final[Mapping[WorkerReason, str]] = {
    WorkerReason.EXITED: "its last lines (log_tail) say why",
    WorkerReason.OOM_KILLED: "let it use less memory, or give containers more (docker_memory_bytes)",
    WorkerReason.DISK_EXCEEDED: "raise storage.container_disk_gb, or write to a volume",
    WorkerReason.UNHEALTHY: "its log says more; a busy worker may need a longer health.timeout_s",
    WorkerReason.IMAGE_NOT_FOUND: (
        "check image.image; a private image needs image.registry_auth_id"
    ),
    WorkerReason.REGISTRY_UNREACHABLE: "check image.image, and that the node reaches its registry",
    WorkerReason.NO_SPACE: "free space on the node's disk, e.g. with `docker image prune --all`",
    WorkerReason.ENGINE_ERROR: "look at the engine's log on the node",
    WorkerReason.ENGINE_RESTARTED: (
        "set live-restore in the engine's configuration so that workers outlive it"
    ),
    WorkerReason.GPU_FAULT: "look at `nvidia-smi` and the kernel's log on the node",
}


def advised(reason: WorkerReason, message: str) -> str:
    """The message with what to do."""
    advice = _ADVICE.get(reason)
    return f"{message}; {advice}" if advice else message
