"""How a container gets its GPUs, and only those: by the way that its engine offers.

Theory of operation.
1. `cdi` where the engine lists NVIDIA devices of the Container Device Interface (Docker 28.2 on):
   runc knows the devices, so that a reload of systemd does not take them away.
2. Else `runtime` where the engine lists the runtime `nvidia`, which reads NVIDIA_VISIBLE_DEVICES.
3. Else `device_request`: an engine does not list whether it has NVIDIA's hook, it says so when a
   container starts.
GPUs are always named by UUID: indices differ between NVML and CUDA.

NVIDIA_VISIBLE_DEVICES is set for every container, whatever its image or endpoint says. Where
nvidia is the engine's default runtime, "all" would open the GPUs of other workers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, assert_never

from docker.types import DeviceRequest

from penstock_node_agent.gpus.inventory import is_static

GpuWay: TypeAlias = Literal["cdi", "runtime", "device_request"]

_RUNTIME: Final = "nvidia"
_CDI_KIND: Final = "nvidia.com/gpu"
VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES"
CAPABILITIES: Final = "NVIDIA_DRIVER_CAPABILITIES"
#: What CUDA programs and nvidia-smi need; an endpoint's own value adds graphics, video and so on.
_DEFAULT_CAPABILITIES: Final = "compute,utility"
#: All that an engine knows; it takes no "all".
_ALL_CAPABILITIES: Final = ("compute", "compat32", "graphics", "utility", "video", "display")
#: Rights over a GPU that others may use parts of; no worker's business.
_REFUSED: Final = ("NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES")


def driver_gpus(gpus: Sequence[str]) -> list[str]:
    """Those that a driver knows: ids of an operator's list are left out."""
    return [gpu for gpu in gpus if not is_static(gpu)]


def choose_way(info: Mapping[str, Any]) -> GpuWay:
    """The best way that an engine offers.

    Args:
        info: the engine's answer to `GET /info`.
    """
    devices = [device.get("ID") or "" for device in info.get("DiscoveredDevices") or ()]
    if any(device.startswith(f"{_CDI_KIND}=") for device in devices):
        return "cdi"
    return "runtime" if _RUNTIME in (info.get("Runtimes") or {}) else "device_request"


def gpu_environment(way: GpuWay, gpus: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """The endpoint's variables, with those about GPUs as they must be.

    Args:
        way: how the container gets its GPUs.
        gpus: UUIDs that a driver knows; none = the container must see no GPU.
        env: the endpoint's variables.
    """
    kept = {name: value for name, value in env.items() if name not in _REFUSED}
    if not gpus:
        return {**kept, VISIBLE: "void"}
    return {
        **kept,
        # By CDI the engine has put the devices in; a runtime that looks here must add none.
        VISIBLE: "void" if way == "cdi" else ",".join(gpus),
        CAPABILITIES: env.get(CAPABILITIES) or _DEFAULT_CAPABILITIES,
    }


def gpu_options(way: GpuWay, gpus: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the SDK's `create_host_config` that give a container these GPUs.

    Args:
        way: how it gets them.
        gpus: UUIDs that a driver knows; none = no argument.
        env: the endpoint's variables.
    """
    if not gpus:
        return {}
    match way:
        case "runtime":
            return {"runtime": _RUNTIME}
        case "cdi":
            names = [f"{_CDI_KIND}={gpu}" for gpu in gpus]
            return {"device_requests": [DeviceRequest(driver="cdi", device_ids=names)]}
        case "device_request":
            request = DeviceRequest(
                driver="nvidia", device_ids=list(gpus), capabilities=[["gpu", *_capabilities(env)]]
            )
            return {"device_requests": [request]}
        case _:
            assert_never(way)


def _capabilities(env: Mapping[str, str]) -> list[str]:
    words = (env.get(CAPABILITIES) or _DEFAULT_CAPABILITIES).split(",")
    found = [word.strip() for word in words if word.strip()]
    return list(_ALL_CAPABILITIES) if "all" in found else found
