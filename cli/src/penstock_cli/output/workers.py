"""Workers as a person reads them."""

from collections.abc import Sequence

from penstock_cli.output.printing import print_rows, state_cell
from penstock_client.documents import WorkerDocument


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
    )


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
