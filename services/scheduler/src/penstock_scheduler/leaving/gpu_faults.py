"""Workers whose GPU went bad: which are replaced, and which are stopped at once [pure].

Nothing is ever placed on a GPU that has a fault (`fleet.py`). What becomes of the worker that it
finds there depends on the fault:

- lost: the worker cannot compute any more, so it is stopped at once, whatever it has in flight;
- bad (an XID, memory errors, a reset that is due): it may compute still, and may not for long. It
  counts as one of an older revision does: another takes over first where there is a place for
  one, then it is drained. Where there is none it goes on, since ECC and the driver would rather
  end it than let it compute wrongly;
- not answering: the driver hangs, which says nothing of the worker. Its own health probes do.

A worker that dies on a bad GPU has not failed: its endpoint is neither held up nor rolled back.
"""

from collections.abc import Mapping
from typing import Final

from penstock_common.messages import NodeRecord
from penstock_common.states import GpuReason
from penstock_scheduler.snapshot import Worker

_KEEPS: Final = frozenset({GpuReason.NOT_ANSWERING})


class GpuFaults:
    """The GPUs with a fault, of the nodes that are asked about."""

    def __init__(self, nodes: Mapping[str, NodeRecord]) -> None:
        """What these nodes say, which report; it must not change meanwhile."""
        self._nodes = nodes
        #: node → its GPUs with a fault, of those that were asked about
        self._reasons: dict[str, dict[str, GpuReason]] = {}

    def is_lost(self, worker: Worker) -> bool:
        """Whether a GPU of the worker is gone."""
        return GpuReason.LOST in self._of(worker)

    def is_bad(self, worker: Worker) -> bool:
        """Whether the worker is to be replaced for one of its GPUs, lost ones included."""
        return not self._of(worker) <= _KEEPS

    def _of(self, worker: Worker) -> frozenset[GpuReason]:
        reasons = self._on(worker.assignment.node_id) if worker.assignment.gpus else {}
        if not reasons:
            return frozenset()
        return frozenset(reasons[uuid] for uuid in worker.assignment.gpus if uuid in reasons)

    def _on(self, node_id: str) -> Mapping[str, GpuReason]:
        found = self._reasons.get(node_id)
        if found is None:
            node = self._nodes.get(node_id)
            found = self._reasons[node_id] = {
                gpu.uuid: gpu.reason
                for gpu in (node.gpus if node else ())
                if gpu.reason is not None
            }
        return found
