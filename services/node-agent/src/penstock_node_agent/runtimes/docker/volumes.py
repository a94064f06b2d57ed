"""Volumes of container workers: their own local ones, and network volumes.

A local volume is one of the engine's, labelled with its worker and removed with it; `disks.py`
measures it. A network volume by NFS or by raw options is a volume of the engine, too, one for each
network volume: the engine mounts it once however many workers use it, and unmounts it after the
last. It stays defined when nobody uses it, and is never removed from here, so that no fault of ours
can reach the data. A host path is mounted as it is.

Host paths. What the operator allows is a list of directories. A path counts as inside one when it
is so after every symbolic link is resolved (`trusted_path`), and the resolved path is what the
engine is told, so a link that leads out is refused. Whoever can write in a directory above a
volume could put a link in its place between the look and the mount: so give no workers a writable
volume that has others inside.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, assert_never

from docker import APIClient
from docker.types import Mount
from requests.exceptions import Timeout

from penstock_common.states import WorkerReason
from penstock_common.volumes import DriverOptionsSource, HostPathSource, NfsSource, allowed_root
from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder, VolumeMount
from penstock_node_agent.runtimes.volume_policy import VolumePolicy

#: Id of the network volume that a volume of the engine mounts.
VOLUME_LABEL: Final = "penstock.volume"
#: Of a worker's local volume: its bound in bytes, and where the worker sees it.
SIZE_LABEL: Final = "penstock.size-bytes"
PATH_LABEL: Final = "penstock.mount-path"


def volume_name(volume_id: str) -> str:
    """The engine's name of a network volume."""
    return f"penstock-{volume_id}"


def trusted_path(path: str, roots: tuple[str, ...]) -> str:
    """The path with every link resolved, if it is a directory inside one of these.

    Raises:
        StartFailedError: it is not; `volume_unavailable`.
    """
    if allowed_root(path, roots) is None:
        raise _unavailable(f"{path} is not in volume_paths of this node")
    try:
        found = os.path.realpath(path, strict=True)
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise _unavailable(f"{path} cannot be opened on this node: {why}") from None
    if allowed_root(found, tuple(os.path.realpath(root) for root in roots)) is None:
        raise _unavailable(f"{path} leads out of volume_paths of this node, to {found}")
    if not Path(found).is_dir():
        raise _unavailable(f"{path} is no directory on this node")
    return found


def make_directory(path: str, roots: tuple[str, ...]) -> None:
    """Have the directory, if the one above it is a directory inside one of these.

    Raises:
        StartFailedError: it could not be made; `volume_unavailable`.
    """
    if allowed_root(path, roots) is None:
        raise _unavailable(f"{path} is not in volume_paths of this node")
    if path in roots:
        return  # the operator's own; who names it wants no other made in its place
    above, name = os.path.split(path)
    try:
        # By the resolved path, so that a link beside it leads nowhere else.
        Path(trusted_path(above, roots), name).mkdir(exist_ok=True)
    except OSError as error:
        raise _unavailable(f"{path} cannot be made on this node: {error.strerror}") from None


def make_local_volumes(client: APIClient, order: StartOrder, node_id: str) -> None:
    """Have the worker's own volumes, which go with it.

    Raises:
        DockerException, RequestException: the engine refused or did not answer.
    """
    for name, volume in zip(containers.volume_names(order), order.volumes, strict=True):
        labels = {
            **containers.labels(order, node_id),
            SIZE_LABEL: str(volume.size_gb * 1_000_000_000),
            PATH_LABEL: volume.mount_path,
        }
        client.create_volume(name, labels=labels)


def network_mounts(client: APIClient, order: StartOrder, policy: VolumePolicy) -> list[Mount]:
    """The worker's network volumes for the SDK's `create_host_config`; makes what they need.

    Raises:
        StartFailedError: this node cannot mount one; `volume_unavailable`.
        DockerException, RequestException: the engine refused or did not answer.
    """
    return [_mount(client, mount, policy) for mount in order.mounts]


def _mount(client: APIClient, mount: VolumeMount, policy: VolumePolicy) -> Mount:
    source = mount.source
    try:
        if isinstance(source, HostPathSource):
            if source.make:
                make_directory(source.path, policy.paths)
            path = trusted_path(source.path, policy.paths)
            return Mount(mount.mount_path, path, type="bind", read_only=mount.read_only)
        options = driver_options(source, policy)
    except StartFailedError as error:
        raise _unavailable(f"volume {mount.volume_id}: {error}") from None
    name = volume_name(mount.volume_id)
    client.create_volume(
        name,
        driver="local",
        driver_opts=options,
        labels={containers.MANAGED_LABEL: "1", VOLUME_LABEL: mount.volume_id},
    )
    # What the image has at this path is not copied into a volume that others use.
    return Mount(mount.mount_path, name, type="volume", read_only=mount.read_only, no_copy=True)


def driver_options(source: NfsSource | DriverOptionsSource, policy: VolumePolicy) -> dict[str, str]:
    """Options of Docker's local driver for this source.

    Raises:
        StartFailedError: this node's operator does not allow it; `volume_unavailable`.
    """
    match source:
        case NfsSource():
            if not policy.nfs:
                raise _unavailable("this node cannot mount NFS")
            options = f"addr={source.server},{source.options}"
            return {"type": "nfs", "device": f":{source.path}", "o": options}
        case DriverOptionsSource():
            if not policy.driver_options:
                raise _unavailable("this node does not allow volume_driver_options")
            return dict(source.options)
        case _:
            assert_never(source)


def raise_if_hung(error: Exception, order: StartOrder) -> None:
    """Say what is known when the engine did not answer while it mounted a worker's volumes.

    Raises:
        StartFailedError: that was so; `volume_unavailable`.
    """
    servers = [m.source.server for m in order.mounts if isinstance(m.source, NfsSource)]
    if servers and isinstance(error, Timeout):
        raise _unavailable(
            f"the engine did not answer while it mounted NFS volumes of {', '.join(servers)}; is "
            "the server up?"
        ) from error


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """What a worker's local volume holds."""

    worker_id: str
    mount_path: str
    used_bytes: int
    limit_bytes: int


def read_volume_use(item: Mapping[str, Any], used_bytes: int | None = None) -> VolumeUse | None:
    """The use of one volume of the engine; None where none is bounded or it is not known.

    Args:
        item: from the engine's list of volumes, or from its account of its disk.
        used_bytes: what it holds; None = what the item says.
    """
    found = item.get("Labels") or {}
    worker_id, limit = found.get(containers.WORKER_LABEL), found.get(SIZE_LABEL)
    used = (item.get("UsageData") or {}).get("Size", -1) if used_bytes is None else used_bytes
    if not worker_id or not limit or used < 0:  # below 0: the engine does not know
        return None
    return VolumeUse(worker_id, found.get(PATH_LABEL, ""), used, int(limit))


def directory_bytes(folder: Path) -> int | None:
    """What a directory holds on its disk, hard links counted once; None = it cannot be read here.

    Blocks. What is removed while it looks does not count.
    """
    total, seen, left = 0, set[tuple[int, int]](), [folder]
    while left:
        inner = left.pop()
        try:
            entries = list(os.scandir(inner))
        except OSError:
            if inner == folder:
                return None
            continue  # it is gone
        for entry in entries:
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
            elif (stat.st_dev, stat.st_ino) in seen:
                continue
            if stat.st_nlink > 1:
                seen.add((stat.st_dev, stat.st_ino))
            total += stat.st_blocks * 512
    return total


def _unavailable(message: str) -> StartFailedError:
    return StartFailedError(WorkerReason.VOLUME_UNAVAILABLE, message)
