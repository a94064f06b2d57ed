"""Nodes as a person reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from penstock_cli.output.printing import print_facts, print_line, print_rows, state_cell
from penstock_cli.output.workers import print_workers
from penstock_client.documents import EndpointDocument, NodeDetail, NodeDocument, WorkerDocument
from penstock_common.states import DesiredState, EndpointReason, NodeState

_GB: Final = 10**9


def print_nodes(nodes: Sequence[NodeDocument]) -> None:
    """A table, one node a line, and a line for each GPU that is not healthy."""
    print_rows(
        ("NODE", "STATE", "RUNTIME", "ADDRESS", "GPUS FREE", "PRODUCTS", "CUDA", "WORKERS", "DISK"),
        (
            (
                node.id,
                state_cell(node.state, node.order.reason if node.order else None),
                node.runtime or "-",
                node.address or "-",
                f"{node.gpus_free} of {node.gpus_total}",
                ", ".join(sorted({gpu.product for gpu in node.gpus})) or "-",
                node.cuda_version or "-",
                len(node.workers),
                _gigabytes(node.disk_free_bytes) or "-",
            )
            for node in nodes
        ),
        "no nodes report; is a node agent running?",
        spare=("CUDA", "DISK", "ADDRESS", "RUNTIME", "PRODUCTS"),
    )
    for node in nodes:
        _print_engine_problem(node)
        _print_bad_gpus(node)


def _print_engine_problem(node: NodeDocument) -> None:
    problem = node.engine_problem
    if problem is not None:
        what = "engine full" if problem.full else "engine away"
        since = f"{problem.since:%Y-%m-%d %H:%M:%S} UTC"
        print_line(f"{node.id}: {what} since {since}: {problem.message}")


def _print_bad_gpus(node: NodeDocument) -> None:
    for gpu in node.gpus:
        if not gpu.healthy:
            print_line(
                f"{node.id}: {gpu.uuid} ({gpu.product}) gets no worker: {gpu.reason}, {gpu.message}"
            )


def print_node(node: NodeDetail, app_names: Mapping[str, str]) -> None:
    """A node, its GPUs and its workers; `app_names`: of endpoints by id."""
    order = node.order
    print_facts(
        [
            ("node", node.id),
            ("state", state_cell(node.state, order.reason if order else None)),
            ("order", f"{order.wish} since {order.at:%Y-%m-%d %H:%M:%S} UTC" if order else None),
            ("deadline", order.deadline_at if order else None),
            ("hostname", node.hostname),
            ("address", node.address),
            ("runtime", node.runtime),
            ("gpus", f"{node.gpus_free} of {node.gpus_total} free"),
            ("driver", node.driver_version),
            ("cuda", node.cuda_version),
            ("cpus", node.cpu_count),
            ("memory", _gigabytes(node.memory_bytes)),
            ("disk free", _gigabytes(node.disk_free_bytes)),
            ("labels", ", ".join(f"{k}={v}" for k, v in sorted(node.labels.items())) or None),
            ("version", node.version),
        ]
    )
    if node.gpus:
        print_rows(
            ("GPU", "PRODUCT", "MEMORY", "HEALTHY", "WORKER"),
            (
                (
                    gpu.uuid,
                    gpu.product,
                    _gigabytes(gpu.vram_bytes),
                    "yes" if gpu.healthy else "no",
                    gpu.worker_id or "-",
                )
                for gpu in node.gpus
            ),
        )
        _print_bad_gpus(node)
    _print_engine_problem(node)
    workers = node.worker_details
    print_workers([(app_names.get(w.endpoint_id, w.endpoint_id), w) for w in workers])


def drain_progress(node: NodeDetail, endpoints: Iterable[EndpointDocument]) -> str:
    """How far a drain is, in one line.

    Args:
        node: the node.
        endpoints: those of its workers that have not begun to drain.
    """
    if node.state is NodeState.DRAINED:
        return f"{node.id} is drained"
    workers = node.worker_details
    waiting = [w for w in workers if w.desired is DesiredState.RUNNING]
    leaving = [w for w in workers if w.desired is not DesiredState.RUNNING]
    parts = []
    if waiting:
        parts.append(f"{_count(waiting)} until others run elsewhere")
    if leaving:
        in_flight = sum(w.in_flight or 0 for w in leaving)
        parts.append(f"{_count(leaving)} finishing {in_flight} in flight")
    lacks = sorted(
        f"{e.app_name}: {e.message}"
        for e in endpoints
        if e.reason is EndpointReason.NO_CAPACITY and e.message
    )
    told = f" ({'; '.join(lacks)})" if lacks else ""
    return f"{node.id} is {node.state}: {', '.join(parts) or 'no workers'}{told}"


def _count(workers: Sequence[WorkerDocument]) -> str:
    return f"{len(workers)} worker{'s' if len(workers) > 1 else ''}"


def _gigabytes(value: int | None) -> str | None:
    return None if value is None else f"{value / _GB:.0f} GB"
