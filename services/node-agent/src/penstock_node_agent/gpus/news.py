"""What to tell of GPUs between two heartbeats [pure]."""

from penstock_common.events.catalogue import NODE_GPU_HEALTHY, NODE_GPU_UNHEALTHY, EventType
from penstock_common.messages import GpuNews, NodeRecord


def gpu_news(
    before: NodeRecord | None, now: NodeRecord
) -> list[tuple[EventType[GpuNews], GpuNews]]:
    """The type of an event and its data, for each GPU that went bad, changed its fault or recovered.

    Args:
        before: the last heartbeat; None = this agent has made none.
        now: the present one.
    """
    reasons = {gpu.uuid: gpu.reason for gpu in before.gpus} if before else {}
    news: list[tuple[EventType[GpuNews], GpuNews]] = []
    for gpu in now.gpus:
        earlier = reasons.get(gpu.uuid)
        if gpu.reason is not earlier:
            told = GpuNews(node_id=now.node_id, hostname=now.hostname, gpu=gpu, before=earlier)
            what = NODE_GPU_HEALTHY if gpu.reason is None else NODE_GPU_UNHEALTHY
            news.append((what, told))
    return news
