"""An example of the data of every event, for documents and tests [pure]."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from penstock_common.messages import (
    EndpointNews,
    EndpointRecord,
    EngineProblem,
    Gpu,
    GpuNews,
    ImageRemoved,
    NodeDrained,
    NodeLost,
    NodeOrder,
    NodeOrdered,
    NodeRecord,
    ScaleDecided,
    ScaleInputs,
    WorkerAssigned,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.specs import parse_endpoint
from penstock_common.states import GpuReason, NodeWish, Phase, WorkerReason, WorkerState

AT: Final = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
ENDPOINT_ID: Final = "ep-5v2k8q0d3m7xa"
WORKER_ID: Final = "wk-0r9t4c6h1n2pz"
NODE_ID: Final = "node-a"
GPU: Final = Gpu(uuid="GPU-1", product="rtx-4090-24gb", vram_bytes=24 * 2**30)

_RECORD = EndpointRecord(
    endpoint_id=ENDPOINT_ID,
    owner="key-admin",
    revision=2,
    created_at=AT,
    updated_at=AT,
    revision_cause="updated",
    revised_at=AT,
    spec=parse_endpoint(
        {
            "name": "llama",
            "app_name": "llama",
            "image": {"image": "vllm/vllm-openai:v0.9"},
            "gpu": {"count": 1, "products": ["rtx-4090-24gb"]},
            "env": {"MODE": "fast"},
            "secrets": {"HF_TOKEN": "gAAA"},
        }
    ),
)
_NODE = NodeRecord(
    node_id=NODE_ID,
    hostname="gpu-07",
    address="10.0.0.7",
    runtime="docker",
    gpus=(GPU,),
    cpu_count=16,
    memory_bytes=64 * 2**30,
    disk_free_bytes=500 * 2**30,
    version="0.1.0",
    started_at=AT,
    beat=1,
)


def _endpoint(**update: object) -> EndpointNews:
    return EndpointNews.of(_RECORD.model_copy(update=update))


def _worker(state: WorkerState, **update: object) -> WorkerStatus:
    status = WorkerStatus(
        worker_id=WORKER_ID,
        node_id=NODE_ID,
        endpoint_id=ENDPOINT_ID,
        revision=2,
        state=state,
        updated_at=AT,
    )
    return status.model_copy(update=update)


def _order(wish: NodeWish, deadline_at: datetime | None = None) -> NodeOrdered:
    order = NodeOrder(node_id=NODE_ID, wish=wish, reason="new fan", at=AT, deadline_at=deadline_at)
    return NodeOrdered(node_id=NODE_ID, order=order)


#: CloudEvents type → data of such an event.
EXAMPLES: Final[Mapping[str, Any]] = {
    "penstock.endpoint.created": _endpoint(revision=1, revision_cause="created"),
    "penstock.endpoint.updated": _endpoint(),
    "penstock.endpoint.rolled_back": _endpoint(
        revision=3,
        revision_cause="rolled_back",
        revision_why="revision 2 could not start: exit code 1",
    ),
    "penstock.endpoint.paused": _endpoint(paused=True),
    "penstock.endpoint.resumed": _endpoint(),
    "penstock.endpoint.deleted": _endpoint(deleted_at=AT),
    "penstock.scale.decided": ScaleDecided(
        endpoint_id=ENDPOINT_ID,
        at=AT,
        before=0,
        after=1,
        why="0 → 1: 1 waiting, oldest 0.5 s, none running",
        inputs=ScaleInputs(
            policy="queue_delay",
            value=2,
            least=0,
            most=3,
            waiting=1,
            oldest_wait_s=0.5,
            in_flight=0,
            running=0,
            starting=0,
            arrivals_per_s=0.2,
            window_s=5,
            burst=False,
            start_s=20,
        ),
    ),
    "penstock.worker.assigned": WorkerAssigned(
        worker_id=WORKER_ID,
        endpoint_id=ENDPOINT_ID,
        node_id=NODE_ID,
        revision=2,
        gpus=(GPU.uuid,),
    ),
    "penstock.worker.stop_ordered": WorkerOrder(
        worker_id=WORKER_ID,
        endpoint_id=ENDPOINT_ID,
        node_id=NODE_ID,
        reason="answers slowly",
        at=AT,
    ),
    "penstock.worker.running": _worker(
        WorkerState.RUNNING,
        host="10.0.0.7",
        port=40001,
        phases={Phase.DECIDED: AT, Phase.HEALTHY: AT + timedelta(seconds=18)},
    ),
    "penstock.worker.draining": _worker(WorkerState.DRAINING, reason=WorkerReason.IDLE),
    "penstock.worker.stopped": _worker(WorkerState.STOPPED, reason=WorkerReason.IDLE, exit_code=0),
    "penstock.worker.failed": _worker(
        WorkerState.FAILED,
        reason=WorkerReason.EXITED,
        message="exit code 1",
        exit_code=1,
        log_tail=("CUDA out of memory",),
    ),
    "penstock.node.joined": _NODE,
    "penstock.node.restarting": _NODE,
    "penstock.node.left": _NODE,
    "penstock.node.lost": NodeLost(node_id=NODE_ID, workers=2),
    "penstock.node.cordoned": _order(NodeWish.CORDONED),
    "penstock.node.uncordoned": NodeOrdered(node_id=NODE_ID),
    "penstock.node.draining": _order(NodeWish.DRAINING, deadline_at=AT + timedelta(hours=1)),
    "penstock.node.drained": NodeDrained(node_id=NODE_ID),
    "penstock.node.engine_lost": _NODE.model_copy(
        update={"engine_problem": EngineProblem(message="no answer within 10 s", since=AT)}
    ),
    "penstock.node.engine_found": _NODE,
    "penstock.node.gpu_unhealthy": GpuNews(
        node_id=NODE_ID,
        hostname="gpu-07",
        gpu=GPU.model_copy(update={"reason": GpuReason.XID, "message": "the driver told XID 79"}),
    ),
    "penstock.node.gpu_healthy": GpuNews(
        node_id=NODE_ID, hostname="gpu-07", gpu=GPU, before=GpuReason.XID
    ),
    "penstock.node.image_removed": ImageRemoved(
        node_id=NODE_ID,
        image_id="sha256:8d6b",
        references=("vllm/vllm-openai:v0.8",),
        size_bytes=9 * 2**30,
        disk_total_bytes=500 * 2**30,
        free_before_bytes=20 * 2**30,
        free_after_bytes=29 * 2**30,
    ),
}
