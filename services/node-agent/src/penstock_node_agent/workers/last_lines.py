"""The last lines of a worker that ended while no agent ran."""

import logging
from dataclasses import replace

from penstock_common.states import WorkerState
from penstock_node_agent.runtimes.protocol import Runtime, RuntimeFailedError
from penstock_node_agent.workers.decide import LOG_TAIL_LINES, Ending

logger = logging.getLogger(__name__)


async def with_last_lines(ending: Ending, runtime: Runtime, worker_id: str) -> Ending:
    """The ending with the worker's last lines, where it failed and they can still be had."""
    if ending.state is not WorkerState.FAILED or ending.log_tail:
        return ending
    try:
        tail = await runtime.log_tail(worker_id, LOG_TAIL_LINES)
    except RuntimeFailedError as error:
        logger.warning(
            "last lines of a failed worker not read",
            extra={"action": "tail_unread", "worker_id": worker_id, "error": str(error)},
        )
        return ending
    return replace(ending, log_tail=tail)
