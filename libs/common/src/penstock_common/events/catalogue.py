"""Every event of Penstock: its type, who publishes it, what it is about, its data [pure].

An event is told by `TYPE.of(data)` and sent by an `EventPublisher`, so nobody can send one that
does not stand here, or with data of another model. docs/events.md is made from this table.

What is about an endpoint has its id as the token behind the family in its NATS subject, so the
pattern `penstock.v1.events.*.<endpoint_id>.>` is all that concerns it. The same id, and that of the
node, also stand in the event itself as the extension attributes `endpointid` and `nodeid`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar

from penstock_common import subjects
from penstock_common.messages import (
    EndpointNews,
    GpuNews,
    ImageRemoved,
    Message,
    NodeDrained,
    NodeLost,
    NodeOrdered,
    NodeRecord,
    ScaleDecided,
    WorkerAssigned,
    WorkerOrder,
    WorkerStatus,
)

D = TypeVar("D", bound=Message)
T_contra = TypeVar("T_contra", contravariant=True)


class Service(StrEnum):
    """The services; the name stands in the `source` of their events (a router has none)."""

    API = "api"
    SCHEDULER = "scheduler"
    NODE_AGENT = "node-agent"
    ROUTER = "router"


class OfEndpoint(Protocol):
    """Data about an endpoint."""

    @property
    def endpoint_id(self) -> str:
        """Which."""
        ...


class OfNode(Protocol):
    """Data about a node."""

    @property
    def node_id(self) -> str:
        """Which."""
        ...


class OfWorker(OfEndpoint, OfNode, Protocol):
    """Data about a worker."""

    @property
    def worker_id(self) -> str:
        """Which."""
        ...


@dataclass(frozen=True, slots=True)
class Ids:
    """What stands for any data in a pattern of subjects: given ids, or `*` for any."""

    endpoint_id: str = "*"
    worker_id: str = "*"
    node_id: str = "*"


@dataclass(frozen=True, slots=True)
class Family(Generic[T_contra]):
    """Events about things of one kind."""

    name: str
    #: NATS subject for data and verb
    subject: Callable[[T_contra, str], str]
    #: the event's `subject`: id of the thing that it is about
    about: Callable[[T_contra], str]
    #: the extension attributes
    extensions: Callable[[T_contra], Mapping[str, str]]


ENDPOINT: Final[Family[OfEndpoint]] = Family(
    "endpoint",
    lambda data, verb: subjects.endpoint_event(data.endpoint_id, verb),
    lambda data: data.endpoint_id,
    lambda data: {"endpointid": data.endpoint_id},
)
SCALE: Final[Family[OfEndpoint]] = Family(
    "scale",
    lambda data, verb: subjects.scale_event(data.endpoint_id, verb),
    lambda data: data.endpoint_id,
    lambda data: {"endpointid": data.endpoint_id},
)
WORKER: Final[Family[OfWorker]] = Family(
    "worker",
    lambda data, verb: subjects.worker_event(data.endpoint_id, data.worker_id, verb),
    lambda data: data.worker_id,
    lambda data: {"endpointid": data.endpoint_id, "nodeid": data.node_id},
)
NODE: Final[Family[OfNode]] = Family(
    "node",
    lambda data, verb: subjects.node_event(data.node_id, verb),
    lambda data: data.node_id,
    lambda data: {"nodeid": data.node_id},
)


@dataclass(frozen=True, slots=True)
class EventType(Generic[D]):
    """One row of the catalogue."""

    family: Family[D]
    #: what happened, in past tense
    verb: str
    publisher: Service
    #: model of the data
    data: type[D]
    #: one sentence, for people
    meaning: str

    @property
    def name(self) -> str:
        """The CloudEvents `type`."""
        return f"penstock.{self.family.name}.{self.verb}"

    def of(self, data: D) -> "Event":
        """This has happened.

        Raises:
            TypeError: the data are of another model; only possible where mypy was overruled.
        """
        if type(data) is not self.data:
            raise TypeError(f"{self.name} carries {self.data.__name__}, not {type(data).__name__}")
        return Event(self, data)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened, to be told; made by `EventType.of`."""

    type: EventType[Any]
    data: Message

    @property
    def subject(self) -> str:
        """The NATS subject."""
        return self.type.family.subject(self.data, self.type.verb)

    @property
    def about(self) -> str:
        """Id of what it is about."""
        return self.type.family.about(self.data)

    @property
    def extensions(self) -> Mapping[str, str]:
        """Its extension attributes: ids of the endpoint and node that it concerns."""
        return self.type.family.extensions(self.data)


ENDPOINT_CREATED: Final = EventType(
    ENDPOINT, "created", Service.API, EndpointNews, "An endpoint was created."
)
ENDPOINT_UPDATED: Final = EventType(
    ENDPOINT,
    "updated",
    Service.API,
    EndpointNews,
    "An endpoint's document changed, or a canary began, got another share, or was promoted.",
)
ENDPOINT_ROLLED_BACK: Final = EventType(
    ENDPOINT,
    "rolled_back",
    Service.API,
    EndpointNews,
    "An endpoint runs again what an earlier revision ran: asked for, by itself since the new one"
    " could not start, or because its canary was aborted.",
)
ENDPOINT_PAUSED: Final = EventType(
    ENDPOINT, "paused", Service.API, EndpointNews, "An endpoint is kept at 0 workers."
)
ENDPOINT_RESUMED: Final = EventType(
    ENDPOINT, "resumed", Service.API, EndpointNews, "A paused endpoint may run again."
)
ENDPOINT_DELETED: Final = EventType(
    ENDPOINT,
    "deleted",
    Service.API,
    EndpointNews,
    "An endpoint is to go; its workers are being stopped.",
)

SCALE_DECIDED: Final = EventType(
    SCALE,
    "decided",
    Service.SCHEDULER,
    ScaleDecided,
    "The autoscaler wants another number of workers.",
)

WORKER_ASSIGNED: Final = EventType(
    WORKER, "assigned", Service.SCHEDULER, WorkerAssigned, "A worker is to start on a node."
)
WORKER_STOP_ORDERED: Final = EventType(
    WORKER, "stop_ordered", Service.API, WorkerOrder, "Somebody ordered that a worker stops."
)
WORKER_RUNNING: Final = EventType(
    WORKER, "running", Service.NODE_AGENT, WorkerStatus, "A worker is healthy and takes requests."
)
WORKER_DRAINING: Final = EventType(
    WORKER,
    "draining",
    Service.NODE_AGENT,
    WorkerStatus,
    "A worker takes no new request and finishes those that it has.",
)
WORKER_STOPPED: Final = EventType(
    WORKER, "stopped", Service.NODE_AGENT, WorkerStatus, "A worker ended as it was told to."
)
WORKER_FAILED: Final = EventType(
    WORKER,
    "failed",
    Service.NODE_AGENT,
    WorkerStatus,
    "A worker could not start, or ended without having been told to.",
)

NODE_JOINED: Final = EventType(
    NODE, "joined", Service.NODE_AGENT, NodeRecord, "A node's agent has started."
)
NODE_RESTARTING: Final = EventType(
    NODE,
    "restarting",
    Service.NODE_AGENT,
    NodeRecord,
    "A node's agent ends and is awaited back; its workers run on.",
)
NODE_LEFT: Final = EventType(
    NODE, "left", Service.NODE_AGENT, NodeRecord, "A node's agent has ended, and the node is gone."
)
NODE_LOST: Final = EventType(
    NODE, "lost", Service.SCHEDULER, NodeLost, "A node is silent for too long, and counts as gone."
)
NODE_CORDONED: Final = EventType(
    NODE, "cordoned", Service.API, NodeOrdered, "A node is to take no new worker."
)
NODE_UNCORDONED: Final = EventType(
    NODE, "uncordoned", Service.API, NodeOrdered, "A node takes workers again."
)
NODE_DRAINING: Final = EventType(
    NODE, "draining", Service.API, NodeOrdered, "A node's workers are to move elsewhere."
)
NODE_DRAINED: Final = EventType(
    NODE, "drained", Service.SCHEDULER, NodeDrained, "A node that was to be empty is."
)
NODE_ENGINE_LOST: Final = EventType(
    NODE,
    "engine_lost",
    Service.NODE_AGENT,
    NodeRecord,
    "A node's container engine does not answer, or its disk is full.",
)
NODE_ENGINE_FOUND: Final = EventType(
    NODE, "engine_found", Service.NODE_AGENT, NodeRecord, "A node's container engine is well again."
)
NODE_GPU_UNHEALTHY: Final = EventType(
    NODE,
    "gpu_unhealthy",
    Service.NODE_AGENT,
    GpuNews,
    "A GPU went bad, or has another fault than before; no worker is given it.",
)
NODE_GPU_HEALTHY: Final = EventType(
    NODE, "gpu_healthy", Service.NODE_AGENT, GpuNews, "A GPU that was bad is healthy again."
)
NODE_IMAGE_REMOVED: Final = EventType(
    NODE,
    "image_removed",
    Service.NODE_AGENT,
    ImageRemoved,
    "A node removed an image that nothing used, to have room on its disk.",
)

_ALL: Final[tuple[EventType[Any], ...]] = (
    ENDPOINT_CREATED,
    ENDPOINT_UPDATED,
    ENDPOINT_ROLLED_BACK,
    ENDPOINT_PAUSED,
    ENDPOINT_RESUMED,
    ENDPOINT_DELETED,
    SCALE_DECIDED,
    WORKER_ASSIGNED,
    WORKER_STOP_ORDERED,
    WORKER_RUNNING,
    WORKER_DRAINING,
    WORKER_STOPPED,
    WORKER_FAILED,
    NODE_JOINED,
    NODE_RESTARTING,
    NODE_LEFT,
    NODE_LOST,
    NODE_CORDONED,
    NODE_UNCORDONED,
    NODE_DRAINING,
    NODE_DRAINED,
    NODE_ENGINE_LOST,
    NODE_ENGINE_FOUND,
    NODE_GPU_UNHEALTHY,
    NODE_GPU_HEALTHY,
    NODE_IMAGE_REMOVED,
)

#: CloudEvents type → its row.
CATALOGUE: Final[Mapping[str, EventType[Any]]] = {row.name: row for row in _ALL}
FAMILIES: Final[tuple[Family[Any], ...]] = (ENDPOINT, SCALE, WORKER, NODE)


def source(service: Service, instance: str | None = None) -> str:
    """The CloudEvents `source` of a service; of one of several, with its id."""
    return f"/penstock/{service}" + (f"/{instance}" if instance else "")
