"""Nodes, their GPUs, and what operators want of them."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from penstock_client.documents.base import Document
from penstock_client.documents.workers import WorkerDocument
from penstock_common.messages import (
    RuntimeKind,
)
from penstock_common.states import (
    GpuReason,
    NodeState,
    NodeWish,
)


class GpuDocument(Document):
    """One GPU of a node, or one MIG instance; a measure is null where it does not tell."""

    uuid: str
    product: str
    vram_bytes: int
    healthy: bool
    #: why it is not healthy, so that no worker gets it; null = it is
    reason: GpuReason | None
    #: the same in one sentence
    message: str | None
    #: of a MIG instance: UUID of the GPU that it is a part of
    parent: str | None
    #: GPUs of a node with the same group share an NVLink domain or PCIe switch
    link_group: int
    #: NUMA node of the machine that is closest to it
    numa_node: int | None
    memory_used_bytes: int | None
    #: share of the last moments in which a kernel ran, 0 to 1
    utilization_ratio: float | None
    temperature_c: int | None
    power_w: float | None
    #: memory errors that ECC could not correct, since the last reset
    uncorrectable_errors: int | None
    #: error codes (XIDs) that the driver told since the agent started, the latest last
    xids: tuple[int, ...]
    #: the worker that holds it; null = free
    worker_id: str | None


class NodeOrderDocument(Document):
    """What an operator wants of a node."""

    wish: NodeWish
    reason: str
    at: AwareDatetime
    #: `draining`: from then on workers are drained though nothing replaces them; null = never
    deadline_at: AwareDatetime | None


class EngineProblemDocument(Document):
    """Why a node's engine cannot start or end workers at present."""

    message: str
    since: AwareDatetime
    #: true = its disk is full; else it does not answer
    full: bool


class NodeDocument(Document):
    """A node, and who holds its GPUs; what only its agent can say is null while it is `lost`."""

    id: str
    state: NodeState
    #: null = none: it takes workers
    order: NodeOrderDocument | None
    hostname: str | None
    #: address on which its workers are reached
    address: str | None
    runtime: RuntimeKind | None
    #: set = no worker is placed on it
    engine_problem: EngineProblemDocument | None
    gpus: tuple[GpuDocument, ...]
    gpus_total: int
    #: healthy and held by no worker
    gpus_free: int
    #: true = the GPUs are an operator's list, not NVML's
    static_gpus: bool
    driver_version: str | None
    cuda_version: str | None
    cpu_count: int | None
    #: processes that run or want to, mean of a minute; null = not known, as below
    load_1m: float | None
    memory_bytes: int | None
    #: of it what new processes can have
    memory_available_bytes: int | None
    #: the disk of the agent's data
    disk_bytes: int | None
    disk_free_bytes: int | None
    labels: Mapping[str, str]
    #: host paths that its operator lets network volumes lie in
    volume_paths: tuple[str, ...] = ()
    #: what else of network volumes it can mount: `nfs`, `driver_options`
    volume_kinds: tuple[str, ...] = ()
    version: str | None
    started_at: AwareDatetime | None
    #: ids of the workers placed on it
    workers: tuple[str, ...]


class NodeDetail(NodeDocument):
    """A node with what is known of each of its workers."""

    worker_details: tuple[WorkerDocument, ...]


class NodeList(Document):
    """The nodes that report, have workers, or have an order; by id."""

    nodes: tuple[NodeDocument, ...]
    #: `cursor` of the next page; null = this is the last
    next_cursor: str | None = None


class CordonRequest(BaseModel):
    """Why a node is to take no new worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: for people
    reason: Annotated[str, Field(max_length=500, strict=True)] = ""


class DrainRequest(CordonRequest):
    """Why a node is to be empty, and for how long its workers may wait for another place."""

    #: seconds after which they are drained though nothing replaces them; null = never
    deadline_s: Annotated[float, Field(ge=0, le=31 * 86_400, strict=True)] | None = None
