"""Ends the process workers that an agent left when it was killed, without NATS.

An agent that is told to stop ends its process workers. One that was killed cannot; the next one
takes them over. Whoever stops the whole installation while no agent lives has nobody to ask, and
runs `penstock-node-agent stop-workers` instead.
"""

import asyncio
import logging
from typing import Final

from penstock_common.errors import PenstockError
from penstock_node_agent.runtimes.protocol import Runtime

logger = logging.getLogger(__name__)

#: Between SIGTERM and SIGKILL.
GRACE_S: Final = 3.0


async def stop_leftovers(runtime: Runtime) -> int:
    """End and clean away every worker that the runtime has; says how many there were.

    Args:
        runtime: not open yet; closed afterwards.

    Raises:
        PenstockError: one of them could not be ended; the others are.
    """
    await runtime.open()
    try:
        found = await runtime.list_workers()
        ends = [_end(runtime, worker.worker_id) for worker in found]
        problems = [p for p in await asyncio.gather(*ends, return_exceptions=True) if p]
    finally:
        await runtime.close()
    for problem in problems:
        raise problem
    return len(found)


async def _end(runtime: Runtime, worker_id: str) -> None:
    try:
        await runtime.stop(worker_id, GRACE_S)
        await runtime.remove(worker_id)
    except PenstockError as error:
        logger.error(
            "worker survives",
            extra={"action": "leftover_survives", "worker_id": worker_id, "error": str(error)},
        )
        raise
    logger.info("worker ended", extra={"action": "leftover_ended", "worker_id": worker_id})
