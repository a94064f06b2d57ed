"""Draws docs/states.md from the tables in `penstock_common.states`: python docs/make_states.py."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from penstock_common.states import (
    ENDPOINT_TRANSITIONS,
    WORKER_TRANSITIONS,
    EndpointReason,
    EndpointState,
    GpuReason,
    NodeState,
    WorkerReason,
    WorkerState,
)

HERE = Path(__file__).parent


def diagram(first: StrEnum, table: Mapping[StrEnum, frozenset[StrEnum]]) -> str:
    """A Mermaid state diagram of one transition table."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for old, following in table.items():
        lines += [f"    {old} --> {new}" for new in type(old) if new in following]
        if not following:
            lines.append(f"    {old} --> [*]")
    return "\n".join([*lines, "```"])


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# States",
            "",
            "Drawn by `docs/make_states.py` from the tables in `penstock_common/states.py`; a test",
            "fails when the two differ.",
            "",
            "## Worker",
            "",
            diagram(WorkerState.PENDING, WORKER_TRANSITIONS),  # type: ignore[arg-type]  # keys are StrEnum
            "",
            "Reasons: " + ", ".join(f"`{reason}`" for reason in WorkerReason) + ".",
            "",
            "## Endpoint",
            "",
            diagram(EndpointState.DEPLOYING, ENDPOINT_TRANSITIONS),  # type: ignore[arg-type]  # as above
            "",
            "Reasons: " + ", ".join(f"`{reason}`" for reason in EndpointReason) + ".",
            "",
            "## Node",
            "",
            "Told from its record, its order and its workers, so any may follow any: "
            + ", ".join(f"`{state}`" for state in NodeState)
            + " ([nodes.md](nodes.md)).",
            "",
            "## GPU",
            "",
            "Healthy, or given to no worker ([gpus.md](gpus.md)) for one of these reasons: "
            + ", ".join(f"`{reason}`" for reason in GpuReason)
            + ".",
            "",
        ]
    )


if __name__ == "__main__":
    (HERE / "states.md").write_text(page())
