"""Events in the stream of an api under test."""

from penstock_common import subjects
from penstock_common.events.catalogue import NODE_DRAINED, WORKER_ASSIGNED, Event
from penstock_common.events.examples import NODE_ID
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import NodeDrained, WorkerAssigned
from tests.support.api_server import CLOCK, ApiServer
from tests.support.events import publishing


def drained(n: int) -> Event:
    """One about `node-<n>`."""
    return NODE_DRAINED.of(NodeDrained(node_id=f"node-{n}"))


def assigned(worker: str, endpoint_id: str, node_id: str = NODE_ID) -> Event:
    """One about a worker of this endpoint."""
    data = WorkerAssigned(worker_id=worker, endpoint_id=endpoint_id, node_id=node_id, revision=1)
    return WORKER_ASSIGNED.of(data)


async def stored(api: ApiServer, count: int = 1) -> bool:
    """Whether so many were stored; the api tells of a change behind its answer."""
    info = await api.bus.api(f"STREAM.INFO.{subjects.EVENTS}")
    return bool(info["state"]["last_seq"] >= count)


async def tell(api: ApiServer, *events: Event) -> None:
    """Have these events in the stream, in this order."""
    for event in events:
        publisher = EventPublisher(api.bus, CLOCK, event.type.publisher)
        async with publishing(publisher):
            publisher.announce(event)
            await publisher.flush(10)
