"""How a worker looks as a container: its configuration, and how the engine's answers are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from docker.types import Ulimit

from penstock_node_agent.runtimes.docker.gpus import (
    GpuWay,
    driver_gpus,
    gpu_environment,
    gpu_options,
)
from penstock_node_agent.runtimes.protocol import Exit, Found, Started, StartOrder
from penstock_node_agent.runtimes.volume_policy import VolumePolicy

MANAGED_LABEL: Final = "penstock.managed"
WORKER_LABEL: Final = "penstock.worker"
NODE_LABEL: Final = "penstock.node"
ENDPOINT_LABEL: Final = "penstock.endpoint"
REVISION_LABEL: Final = "penstock.revision"
#: Bound in bytes of a container's own disk, where the engine cannot hold it to one itself.
DISK_LABEL: Final = "penstock.disk-bytes"

#: Pinned host memory, deep stacks and many connections; engines default to 8 MiB and 1024 files.
_ULIMITS: Final = (("memlock", -1), ("stack", 67_108_864), ("nofile", 1_048_576))
#: Of the engine's default set, what no GPU image needs: forged packets between containers, device
#: files, files that hand out capabilities.
_DROPPED_CAPABILITIES: Final = ("MKNOD", "NET_RAW", "SETFCAP")
#: Workers' own bridge, one for each engine: its containers do not reach one another. It stays when
#: the last worker goes; several agents of one engine share it.
NETWORK: Final = "penstock"
#: Options of that bridge.
NETWORK_OPTIONS: Final = {"com.docker.network.bridge.enable_icc": "false"}
_LOGS: Final = {"type": "local", "config": {"max-size": "10m", "max-file": "2"}}


_GIB: Final = 1024**3
_MOST_SHM_BYTES: Final = 16 * _GIB


def default_shm_bytes(memory_bytes: int) -> int:
    """Shared memory that a container may use on a machine with so much memory: half, ≤ 16 GiB."""
    return min(max(memory_bytes // 2, 64 * 1024**2), _MOST_SHM_BYTES)


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
    shm_bytes: int = _GIB
    #: processes and threads of a container
    pids_limit: int = 16_384
    #: how containers get GPUs; None = the best way that the engine offers
    gpu_way: GpuWay | None = None
    #: CPUs that a container may use, e.g. 7.5; None = all
    cpus: float | None = None
    #: memory that a container may use, swap included; None = all
    memory_bytes: int | None = None
    #: before each repeated try of a pull whose registry did not answer
    pull_pauses_s: tuple[float, ...] = (1.0, 4.0)
    #: most pulls at once
    pulls: int = 4
    #: what network volumes may be here
    volumes: VolumePolicy = field(default_factory=VolumePolicy)
    #: longest wait for one answer of the engine, seconds
    timeout_s: float = 60.0
    #: an engine that takes longer than this to list containers is away, seconds
    answer_s: float = 10.0


@dataclass(frozen=True, slots=True)
class EngineAbilities:
    """What an engine can do for a container."""

    #: raise limits above its own
    raise_limits: bool = True
    gpu_way: GpuWay = "device_request"
    #: bound a container's own disk (overlay2 on XFS with project quotas, btrfs, zfs)
    disk_quota: bool = True


def container_name(worker_id: str) -> str:
    """Name of a worker's container: a start repeated after a crash finds the first one."""
    return f"penstock-{worker_id}"


def container_labels(order: StartOrder, node_id: str, abilities: EngineAbilities) -> dict[str, str]:
    """Labels of a container, with what must be watched of it."""
    found = labels(order, node_id)
    if order.disk_bytes is not None and not abilities.disk_quota:
        found[DISK_LABEL] = str(order.disk_bytes)
    return found


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


def environment(order: StartOrder, gpu_way: GpuWay) -> dict[str, str]:
    """The container's variables."""
    gpus = driver_gpus(order.gpus)
    env = {
        **gpu_environment(gpu_way, gpus, order.env),
        "PORT": str(order.http_port),
        "PENSTOCK_ENDPOINT_ID": order.endpoint_id,
        "PENSTOCK_WORKER_ID": order.worker_id,
    }
    if not gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpus)
    return env


def host_options(
    order: StartOrder, settings: DockerSettings, abilities: EngineAbilities
) -> dict[str, Any]:
    """Arguments of the SDK's `create_host_config`."""
    options: dict[str, Any] = {
        "port_bindings": {f"{order.http_port}/tcp": (settings.address, None)},
        "binds": {
            name: {"bind": volume.mount_path, "mode": "rw"}
            for name, volume in zip(volume_names(order), order.volumes, strict=True)
        },
        "network_mode": NETWORK,
        "security_opt": ["no-new-privileges:true"],
        "cap_drop": list(_DROPPED_CAPABILITIES),
        "pids_limit": settings.pids_limit,
        "shm_size": settings.shm_bytes,
        "log_config": _LOGS,
        # Reaps what the image's first process leaves behind.
        "init": True,
        "restart_policy": {"Name": "no"},
        **gpu_options(abilities.gpu_way, driver_gpus(order.gpus), order.env),
    }
    if settings.cpus is not None:
        options["nano_cpus"] = round(settings.cpus * 1e9)
    if settings.memory_bytes is not None:
        options["mem_limit"] = options["memswap_limit"] = settings.memory_bytes
    if order.disk_bytes is not None and abilities.disk_quota:
        options["storage_opt"] = {"size": str(order.disk_bytes)}
    if abilities.raise_limits:
        options["ulimits"] = [Ulimit(name=name, soft=n, hard=n) for name, n in _ULIMITS]
    return options


def read_found(summary: Mapping[str, Any], address: str) -> Found | None:
    """The worker in one item of the engine's list of containers; None when it is none.

    Args:
        summary: the item.
        address: where ports are published.

    Returns:
        An ended container's exit code is not in the list: `exit` has none then.
    """
    found = summary.get("Labels") or {}
    worker_id, endpoint_id = found.get(WORKER_LABEL), found.get(ENDPOINT_LABEL, "")
    if not worker_id:
        return None
    state = summary.get("State")
    if state == "created":
        return Found(worker_id, address=None, created_only=True, endpoint_id=endpoint_id)
    if state in ("exited", "dead", "removing"):
        return Found(worker_id, address=None, exit=Exit(None), endpoint_id=endpoint_id)
    ports = [port["PublicPort"] for port in summary.get("Ports") or () if port.get("PublicPort")]
    # Port 0 answers no probe: a running container without its port is found unhealthy.
    started = Started(address, ports[0] if ports else 0)
    return Found(worker_id, address=started, endpoint_id=endpoint_id)


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a container holds on its own disk."""

    worker_id: str
    used_bytes: int
    limit_bytes: int


def read_disk_use(summary: Mapping[str, Any]) -> DiskUse | None:
    """The disk use in one item of the engine's list with sizes; None where none is bounded."""
    found = summary.get("Labels") or {}
    worker_id, limit = found.get(WORKER_LABEL), found.get(DISK_LABEL)
    if not worker_id or not limit:
        return None
    return DiskUse(worker_id, int(summary.get("SizeRw") or 0), int(limit))


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
