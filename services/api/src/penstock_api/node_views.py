"""Nodes as the api shows them, joined from heartbeats, orders and assignments [pure]."""

from collections.abc import Collection

from penstock_api.node_orders import node_state
from penstock_client.documents import (
    EngineProblemDocument,
    GpuDocument,
    NodeDocument,
    NodeOrderDocument,
)
from penstock_common.messages import (
    EngineProblem,
    Gpu,
    GpuReading,
    NodeOrder,
    NodeRecord,
    WorkerAssignment,
)


def node_document(
    node_id: str,
    node: NodeRecord | None,
    order: NodeOrder | None,
    assignments: Collection[WorkerAssignment],
) -> NodeDocument:
    """A node as the api shows it.

    Args:
        node_id: its id.
        node: its last heartbeat; None = it does not report.
        order: what an operator wants of it; None = nothing.
        assignments: the workers placed on it.
    """
    holders = {uuid: assignment.worker_id for assignment in assignments for uuid in assignment.gpus}
    readings = node.gpu_readings if node else {}
    gpus = tuple(
        _gpu_document(gpu, readings.get(gpu.uuid, GpuReading()), holders.get(gpu.uuid))
        for gpu in (node.gpus if node else ())
    )
    return NodeDocument(
        id=node_id,
        state=node_state(node, order, len(assignments)),
        order=_order_document(order) if order else None,
        hostname=node.hostname if node else None,
        address=node.address if node else None,
        runtime=node.runtime if node else None,
        engine_problem=_problem_document(node.engine_problem) if node else None,
        gpus=gpus,
        gpus_total=len(gpus),
        gpus_free=sum(gpu.healthy and gpu.worker_id is None for gpu in gpus),
        static_gpus=node.static_gpus if node else False,
        driver_version=node.driver_version if node else None,
        cuda_version=node.cuda_version if node else None,
        cpu_count=node.cpu_count if node else None,
        load_1m=node.load_1m if node else None,
        memory_bytes=node.memory_bytes if node else None,
        memory_available_bytes=node.memory_available_bytes if node else None,
        disk_bytes=node.disk_bytes if node else None,
        disk_free_bytes=node.disk_free_bytes if node else None,
        labels=node.labels if node else {},
        volume_paths=node.volume_paths if node else (),
        volume_kinds=node.volume_kinds if node else (),
        version=node.version if node else None,
        started_at=node.started_at if node else None,
        workers=tuple(sorted(assignment.worker_id for assignment in assignments)),
    )


def _problem_document(problem: EngineProblem | None) -> EngineProblemDocument | None:
    if problem is None:
        return None
    return EngineProblemDocument(message=problem.message, since=problem.since, full=problem.full)


def _order_document(order: NodeOrder) -> NodeOrderDocument:
    return NodeOrderDocument(
        wish=order.wish, reason=order.reason, at=order.at, deadline_at=order.deadline_at
    )


def _gpu_document(gpu: Gpu, reading: GpuReading, worker_id: str | None) -> GpuDocument:
    return GpuDocument(
        uuid=gpu.uuid,
        product=gpu.product,
        vram_bytes=gpu.vram_bytes,
        healthy=gpu.healthy,
        reason=gpu.reason,
        message=gpu.message,
        parent=gpu.parent,
        link_group=gpu.link_group,
        numa_node=gpu.numa_node,
        memory_used_bytes=reading.memory_used_bytes,
        utilization_ratio=reading.utilization_ratio,
        temperature_c=reading.temperature_c,
        power_w=reading.power_w,
        uncorrectable_errors=reading.uncorrectable_errors,
        xids=reading.xids,
        worker_id=worker_id,
    )
