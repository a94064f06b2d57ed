"""How a worker looks as a container: its configuration, and how the engine's answers are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from docker.types import DeviceRequest, Ulimit

from penstock_node_agent.gpus import is_static
from penstock_node_agent.runtime import Exit, Found, Started, StartOrder

MANAGED_LABEL: Final = "penstock.managed"
WORKER_LABEL: Final = "penstock.worker"
NODE_LABEL: Final = "penstock.node"
ENDPOINT_LABEL: Final = "penstock.endpoint"
REVISION_LABEL: Final = "penstock.revision"

#: Pinned host memory, deep stacks and many connections; engines default to 8 MiB and 1024 files.
_ULIMITS: Final = (("memlock", -1), ("stack", 67_108_864), ("nofile", 1_048_576))
_LOGS: Final = {"type": "local", "config": {"max-size": "10m", "max-file": "2"}}


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """How container workers are run."""

    #: `unix:///var/run/docker.sock` or `tcp://host:port`
    docker_host: str
    #: containers are labelled with it
    node_id: str
    #: workers' ports are published on this address alone
    address: str
    #: shared memory of a container; the engine's 64 MB break NCCL and data loaders
    shm_bytes: int = 1024**3
    #: processes and threads of a container
    pids_limit: int = 16_384
    #: longest wait for one answer of the engine, seconds
    timeout_s: float = 60.0


def container_name(worker_id: str) -> str:
    """Name of a worker's container: a start repeated after a crash finds the first one."""
    return f"penstock-{worker_id}"


def labels(order: StartOrder, node_id: str) -> dict[str, str]:
    """Labels by which a later agent process knows a worker's container and volumes."""
    return {
        MANAGED_LABEL: "1",
        NODE_LABEL: node_id,
        WORKER_LABEL: order.worker_id,
        ENDPOINT_LABEL: order.endpoint_id,
        REVISION_LABEL: str(order.revision),
    }


def volume_names(order: StartOrder) -> list[str]:
    """Names of the worker's own volumes, in the order of `order.volumes`."""
    return [f"{container_name(order.worker_id)}-{n}" for n in range(len(order.volumes))]


def environment(order: StartOrder) -> dict[str, str]:
    """The container's variables."""
    env = {
        **order.env,
        "PORT": str(order.http_port),
        "PENSTOCK_ENDPOINT_ID": order.endpoint_id,
        "PENSTOCK_WORKER_ID": order.worker_id,
    }
    if not _driver_gpus(order):
        # Where nvidia is the engine's default runtime, an image or an endpoint that sets this
        # variable would get GPUs of other workers.
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
        env["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpus)
    else:
        env.pop("NVIDIA_VISIBLE_DEVICES", None)  # the device request sets it
    return env


def host_options(
    order: StartOrder, settings: DockerSettings, *, raise_limits: bool
) -> dict[str, Any]:
    """Arguments of the SDK's `create_host_config`."""
    options: dict[str, Any] = {
        "port_bindings": {f"{order.http_port}/tcp": (settings.address, None)},
        "binds": {
            name: {"bind": volume.mount_path, "mode": "rw"}
            for name, volume in zip(volume_names(order), order.volumes, strict=True)
        },
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": settings.pids_limit,
        "shm_size": settings.shm_bytes,
        "log_config": _LOGS,
        # Reaps what the image's first process leaves behind.
        "init": True,
        "restart_policy": {"Name": "no"},
    }
    if raise_limits:
        options["ulimits"] = [Ulimit(name=name, soft=n, hard=n) for name, n in _ULIMITS]
    if gpus := _driver_gpus(order):
        options["device_requests"] = [
            DeviceRequest(
                driver="nvidia", device_ids=gpus, capabilities=[["gpu", "compute", "utility"]]
            )
        ]
    return options


def _driver_gpus(order: StartOrder) -> list[str]:
    return [gpu for gpu in order.gpus if not is_static(gpu)]


def read_found(summary: Mapping[str, Any], address: str) -> Found | None:
    """The worker in one item of the engine's list of containers; None when it is none.

    Args:
        summary: the item.
        address: where ports are published.

    Returns:
        An ended container's exit code is not in the list: `exit` has none then.
    """
    worker_id = (summary.get("Labels") or {}).get(WORKER_LABEL)
    if not worker_id:
        return None
    state = summary.get("State")
    if state == "created":
        return Found(worker_id, address=None, created_only=True)
    if state in ("exited", "dead", "removing"):
        return Found(worker_id, address=None, exit=Exit(None))
    ports = [port["PublicPort"] for port in summary.get("Ports") or () if port.get("PublicPort")]
    # Port 0 answers no probe: a running container without its port is found unhealthy.
    return Found(worker_id, address=Started(address, ports[0] if ports else 0))


def read_exit(inspected: Mapping[str, Any]) -> Exit | None:
    """How the inspected container ended; None while it runs, or when it never started."""
    state = inspected["State"]
    if state.get("Running") or state.get("Status") == "created":
        return None
    code = state.get("ExitCode")
    return Exit(code, oom_killed=bool(state.get("OOMKilled")) and code != 0)


def read_port(inspected: Mapping[str, Any], http_port: int) -> int | None:
    """Host port on which the inspected container's `http_port` is published."""
    bindings = (inspected["NetworkSettings"].get("Ports") or {}).get(f"{http_port}/tcp") or ()
    return int(bindings[0]["HostPort"]) if bindings else None
