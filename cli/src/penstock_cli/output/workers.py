"""Workers as a person reads them."""

from collections.abc import Sequence

from penstock_cli.output.printing import print_facts, print_line, print_rows, state_cell
from penstock_client.documents import HealthProblemDocument, WorkerDocument, WorkerOrderDocument
from penstock_common.states import DesiredState


def print_workers(workers: Sequence[tuple[str, WorkerDocument]]) -> None:
    """A table, one worker a line, each with the `app_name` of its endpoint."""
    print_rows(
        ("WORKER", "APP", "STATE", "NODE", "GPUS", "REV", "IN FLIGHT", "IDLE", "READY AFTER"),
        (
            (
                worker.id,
                app_name,
                state_cell(worker.state, worker.reason),
                worker.node_id,
                len(worker.gpus),
                worker.revision,
                "-" if worker.in_flight is None else worker.in_flight,
                "-" if worker.idle_s is None else f"{worker.idle_s:.0f} s",
                _milliseconds(worker.phases_ms.get("healthy")),
            )
            for app_name, worker in workers
        ),
        "no workers",
        spare=("REV", "READY AFTER", "IDLE", "GPUS", "IN FLIGHT"),
    )
    for _, worker in workers:
        if worker.health_problem is not None:
            print_line(f"{worker.id}: {unready(worker.health_problem)}")


def unready(problem: HealthProblemDocument) -> str:
    """Why a worker is not healthy yet, since when, and what to do, in one line."""
    told = f"{problem.message}, since {problem.since:%H:%M:%S} UTC"
    return f"{told}; {problem.fix}" if problem.fix else told


def print_worker(worker: WorkerDocument, app_name: str | None) -> None:
    """A summary of one worker, a fact a line."""
    order, port = worker.order, f":{worker.port}" if worker.port is not None else ""
    phases = (f"{name} {_milliseconds(at)}" for name, at in worker.phases_ms.items())
    print_facts(
        [
            ("worker", worker.id),
            ("app", app_name or f"{worker.endpoint_id} (gone)"),
            ("revision", worker.revision),
            ("state", state_cell(worker.state, worker.reason)),
            ("message", worker.message),
            ("health", unready(worker.health_problem) if worker.health_problem else None),
            ("wanted", worker.desired),
            ("ordered to stop", _order(order) if order else None),
            ("node", worker.node_id),
            ("GPUs", ", ".join(worker.gpus) or "none"),
            ("address", f"{worker.host}{port}" if worker.host else None),
            ("driver", worker.driver),
            ("in flight", worker.in_flight),
            ("idle for", None if worker.idle_s is None else f"{worker.idle_s:.0f} s"),
            ("image", worker.image_digest),
            ("image note", worker.image_note),
            ("decided at", worker.decided_at.isoformat(timespec="seconds")),
            ("start", ", ".join(phases)),
            ("exit code", worker.exit_code),
        ]
    )
    for line in worker.log_tail:
        print_line(f"  | {line}")


def _order(order: WorkerOrderDocument) -> str:
    told = f"at {order.at.isoformat(timespec='seconds')}"
    if order.deadline_at is not None:
        told += f", by {order.deadline_at.isoformat(timespec='seconds')} at the latest"
    return told + (f": {order.reason}" if order.reason else "")


def stop_progress(worker: WorkerDocument) -> str:
    """How far a worker is that was ordered to stop, in one line."""
    if worker.desired is DesiredState.STOPPED or not worker.in_flight:
        return f"{worker.id} stops"
    n = worker.in_flight
    return f"{worker.id} takes nothing new; {n} request{'' if n == 1 else 's'} in flight"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
