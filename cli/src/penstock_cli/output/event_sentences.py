"""What an event says, in one sentence for a person [pure]."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from penstock_client.documents import EventDocument
from penstock_common.events.catalogue import (
    CATALOGUE,
    ENDPOINT_CREATED,
    ENDPOINT_DELETED,
    ENDPOINT_PAUSED,
    ENDPOINT_RESUMED,
    ENDPOINT_ROLLED_BACK,
    ENDPOINT_UPDATED,
    NODE_CORDONED,
    NODE_DRAINED,
    NODE_DRAINING,
    NODE_ENGINE_FOUND,
    NODE_ENGINE_LOST,
    NODE_GPU_HEALTHY,
    NODE_GPU_UNHEALTHY,
    NODE_IMAGE_REMOVED,
    NODE_JOINED,
    NODE_LEFT,
    NODE_LOST,
    NODE_RESTARTING,
    NODE_UNCORDONED,
    SCALE_DECIDED,
    WORKER_ASSIGNED,
    WORKER_DRAINING,
    WORKER_FAILED,
    WORKER_RUNNING,
    WORKER_STOP_ORDERED,
    WORKER_STOPPED,
    D,
    EventType,
)
from penstock_common.messages import (
    EndpointNews,
    GpuNews,
    ImageRemoved,
    NodeDrained,
    NodeLost,
    NodeOrdered,
    NodeRecord,
    ScaleDecided,
    WorkerAssigned,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.states import Phase

#: An endpoint's id → what to call it.
Names = Mapping[str, str]

_SENTENCES: Final[dict[str, Callable[[Any, Names], str]]] = {}


def sentence(event: EventDocument, names: Names) -> str:
    """What has happened; of an event of another Penstock what it is about.

    Args:
        event: of any type.
        names: `app_name`s of endpoints by id; one that is missing goes by its id.
    """
    row, tell = CATALOGUE.get(event.type), _SENTENCES.get(event.type)
    if row is not None and tell is not None:
        try:
            return tell(row.data.model_validate(event.data), names)
        except ValidationError:  # of a newer or older Penstock
            pass
    return event.subject or event.id


def _says(
    *rows: EventType[D],
) -> Callable[[Callable[[D, Names], str]], Callable[[D, Names], str]]:
    """Register what events of these types say."""

    def register(tell: Callable[[D, Names], str]) -> Callable[[D, Names], str]:
        for row in rows:
            _SENTENCES[row.name] = tell
        return tell

    return register


# ---- endpoints


@_says(ENDPOINT_CREATED)
def _created(news: EndpointNews, _: Names) -> str:
    what = news.image.image or news.image.command or "its image's command"
    return f"{news.app_name} is created: {what}"


@_says(ENDPOINT_UPDATED)
def _updated(news: EndpointNews, _: Names) -> str:
    if news.canary_percent is not None:
        share = f"a canary with {news.canary_percent} % of the requests"
        return f"{news.app_name} is updated: revision {news.revision} is {share}"
    if news.revised_at == news.updated_at:
        return f"{news.app_name} is updated: revision {news.revision}"
    return f"{news.app_name} is updated, and runs on as revision {news.revision}"


@_says(ENDPOINT_ROLLED_BACK)
def _rolled_back(news: EndpointNews, _: Names) -> str:
    why = f": {news.revision_why}" if news.revision_why else ""
    return f"{news.app_name} is rolled back by revision {news.revision}{why}"


@_says(ENDPOINT_PAUSED)
def _paused(news: EndpointNews, _: Names) -> str:
    return f"{news.app_name} is paused"


@_says(ENDPOINT_RESUMED)
def _resumed(news: EndpointNews, _: Names) -> str:
    return f"{news.app_name} is resumed"


@_says(ENDPOINT_DELETED)
def _deleted(news: EndpointNews, _: Names) -> str:
    return f"{news.app_name} is being deleted"


@_says(SCALE_DECIDED)
def _decided(decision: ScaleDecided, names: Names) -> str:
    change = f"{decision.before} → {decision.after}"
    why = decision.why.removeprefix(f"{change}: ")
    name = names.get(decision.endpoint_id, decision.endpoint_id)
    return f"{name} {change} workers: {why}"


# ---- workers


@_says(WORKER_ASSIGNED)
def _assigned(worker: WorkerAssigned, names: Names) -> str:
    gpus = {0: "", 1: " with 1 GPU"}.get(len(worker.gpus), f" with {len(worker.gpus)} GPUs")
    return f"{_worker(worker, names)} is to start on {worker.node_id}{gpus}"


@_says(WORKER_STOP_ORDERED)
def _stop_ordered(order: WorkerOrder, names: Names) -> str:
    why = f": {order.reason}" if order.reason else ""
    return f"{_worker(order, names)} is ordered to stop{why}"


@_says(WORKER_RUNNING)
def _running(worker: WorkerStatus, names: Names) -> str:
    began, healthy = worker.phases.get(Phase.DECIDED), worker.phases.get(Phase.HEALTHY)
    took = f" after {(healthy - began).total_seconds():.1f} s" if began and healthy else ""
    return f"{_worker(worker, names)} runs on {worker.node_id}{took}"


@_says(WORKER_DRAINING)
def _draining(worker: WorkerStatus, names: Names) -> str:
    return f"{_worker(worker, names)} drains{_why(worker)}"


@_says(WORKER_STOPPED)
def _stopped(worker: WorkerStatus, names: Names) -> str:
    return f"{_worker(worker, names)} has stopped{_why(worker)}"


@_says(WORKER_FAILED)
def _failed(worker: WorkerStatus, names: Names) -> str:
    return f"{_worker(worker, names)} has failed{_why(worker)}"


def _worker(worker: WorkerAssigned | WorkerStatus | WorkerOrder, names: Names) -> str:
    return f"{worker.worker_id} of {names.get(worker.endpoint_id, worker.endpoint_id)}"


def _why(worker: WorkerStatus) -> str:
    reason = f" ({worker.reason})" if worker.reason else ""
    return f"{reason}: {worker.message}" if worker.message else reason


# ---- nodes


@_says(NODE_JOINED)
def _joined(node: NodeRecord, _: Names) -> str:
    counts: dict[str, int] = {}
    for gpu in node.gpus:
        counts[gpu.product] = counts.get(gpu.product, 0) + 1
    gpus = ", ".join(f"{n} x {product}" for product, n in counts.items()) or "no GPU"
    return f"{node.node_id} has joined: {gpus}"


@_says(NODE_RESTARTING)
def _restarting(node: NodeRecord, _: Names) -> str:
    return f"{node.node_id} restarts its agent, and its workers run on"


@_says(NODE_LEFT)
def _left(node: NodeRecord, _: Names) -> str:
    return f"{node.node_id} has left"


@_says(NODE_LOST)
def _lost(node: NodeLost, _: Names) -> str:
    workers = "1 worker" if node.workers == 1 else f"{node.workers} workers"
    return f"{node.node_id} is lost with {workers}"


@_says(NODE_CORDONED)
def _cordoned(node: NodeOrdered, _: Names) -> str:
    return f"{node.node_id} takes no new worker{_order(node)}"


@_says(NODE_UNCORDONED)
def _uncordoned(node: NodeOrdered, _: Names) -> str:
    return f"{node.node_id} takes workers again"


@_says(NODE_DRAINING)
def _node_draining(node: NodeOrdered, _: Names) -> str:
    return f"{node.node_id} is to be empty{_order(node)}"


@_says(NODE_DRAINED)
def _drained(node: NodeDrained, _: Names) -> str:
    return f"{node.node_id} is empty"


@_says(NODE_ENGINE_LOST)
def _engine_lost(node: NodeRecord, _: Names) -> str:
    said = node.engine_problem.message if node.engine_problem else "it does not answer"
    return f"{node.node_id} has trouble with its engine: {said}"


@_says(NODE_ENGINE_FOUND)
def _engine_found(node: NodeRecord, _: Names) -> str:
    return f"{node.node_id} has its engine back"


@_says(NODE_GPU_UNHEALTHY)
def _gpu_unhealthy(news: GpuNews, _: Names) -> str:
    said = news.gpu.message or news.gpu.reason
    return f"{news.node_id} has a bad GPU, {news.gpu.product} {news.gpu.uuid}: {said}"


@_says(NODE_GPU_HEALTHY)
def _gpu_healthy(news: GpuNews, _: Names) -> str:
    return f"{news.node_id} has its GPU {news.gpu.uuid} back, {news.gpu.product}"


@_says(NODE_IMAGE_REMOVED)
def _image_removed(image: ImageRemoved, _: Names) -> str:
    name = image.references[0] if image.references else image.image_id
    return f"{image.node_id} removed the image {name}, {image.size_bytes / 1e9:.1f} GB"


def _order(node: NodeOrdered) -> str:
    return f": {node.order.reason}" if node.order and node.order.reason else ""
