"""Heartbeats of the parts: nodes with their GPUs, and routers."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from penstock_common.messages.base import Message

RuntimeKind = Literal["docker", "process"]


class Gpu(Message):
    """One GPU of a node."""

    #: NVML UUID, or `static-<n>` from a static list
    uuid: str
    #: `<model>-<vram>gb` in lower case, e.g. `rtx-4090-24gb`
    product: str
    vram_bytes: int
    healthy: bool = True
    #: GPUs with the same group share an NVLink domain or PCIe switch
    link_group: int = 0


class NodeRecord(Message):
    """A node's heartbeat. Bucket NODES, expiring; written by its node agent."""

    node_id: str
    hostname: str
    #: address on which its workers are reached
    address: str
    runtime: RuntimeKind
    gpus: tuple[Gpu, ...] = ()
    #: true = `gpus` is an operator's list, not NVML's
    static_gpus: bool = False
    driver_version: str | None = None
    #: highest CUDA version that the driver supports, e.g. "12.8"
    cuda_version: str | None = None
    cpu_count: int
    memory_bytes: int
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
