"""What to tell of GPUs between two heartbeats [pure]."""

from typing import Final

from penstock_common.messages import GpuNews, NodeRecord

UNHEALTHY: Final = "gpu_unhealthy"
HEALTHY: Final = "gpu_healthy"


def gpu_news(before: NodeRecord | None, now: NodeRecord) -> list[tuple[str, GpuNews]]:
    """The verb of an event and its data, for each GPU that went bad, changed its fault or recovered.

    Args:
        before: the last heartbeat; None = this agent has made none.
        now: the present one.
    """
    reasons = {gpu.uuid: gpu.reason for gpu in before.gpus} if before else {}
    news: list[tuple[str, GpuNews]] = []
    for gpu in now.gpus:
        earlier = reasons.get(gpu.uuid)
        if gpu.reason is not earlier:
            told = GpuNews(node_id=now.node_id, hostname=now.hostname, gpu=gpu, before=earlier)
            news.append((HEALTHY if gpu.reason is None else UNHEALTHY, told))
    return news
