"""Tables of network volumes and of prewarms."""

from collections.abc import Sequence
from typing import Final, assert_never

from penstock_cli.output.printing import print_rows, state_cell
from penstock_client.documents import PrewarmDocument, VolumeDocument
from penstock_common.volumes import (
    DriverOptionsSource,
    HostPathSource,
    NfsSource,
    VolumeSource,
)

_GB: Final = 10**9


def print_volumes(volumes: Sequence[VolumeDocument]) -> None:
    """A table, one network volume a line."""
    print_rows(
        ("VOLUME", "NAME", "SOURCE", "ENDPOINTS"),
        (
            (volume.id, volume.name, _source(volume.source), ", ".join(volume.endpoints) or "-")
            for volume in volumes
        ),
        "no network volumes; make one with `penstock volume create`",
    )


def print_prewarms(prewarms: Sequence[PrewarmDocument]) -> None:
    """A table, one prewarm a line."""
    print_rows(
        ("PREWARM", "STATE", "NODES DONE", "FOR NODES", "FOR GPUS", "IMAGE"),
        (
            (
                prewarm.id,
                prewarm.state,
                f"{sum(p.state == 'done' for p in prewarm.progress)} of {len(prewarm.progress)}",
                ", ".join(prewarm.nodes) or "all",
                ", ".join(prewarm.products) or "any",
                prewarm.image,
            )
            for prewarm in prewarms
        ),
        "no prewarms; make one with `penstock prewarm create IMAGE`",
    )


def print_prewarm(prewarm: PrewarmDocument) -> None:
    """A table, one node a line."""
    print_rows(
        ("NODE", "STATE", "PULLED", "DIGEST", "MESSAGE"),
        (
            (
                progress.node_id,
                state_cell(progress.state, progress.reason),
                _pulled(progress.pull_bytes, progress.pull_total_bytes),
                progress.image_digest or "-",
                progress.message or "-",
            )
            for progress in prewarm.progress
        ),
        "no node that it is for reports",
    )


def _pulled(done: int | None, total: int | None) -> str:
    if done is None or total is None:
        return "-"
    return f"{done / _GB:.2f} of {total / _GB:.2f} GB"


def _source(source: VolumeSource) -> str:
    match source:
        case NfsSource():
            return f"nfs {source.server}:{source.path} ({source.options})"
        case HostPathSource():
            return f"host path {source.path}"
        case DriverOptionsSource():
            return "driver options " + " ".join(f"{k}={v}" for k, v in source.options.items())
        case _:
            assert_never(source)
