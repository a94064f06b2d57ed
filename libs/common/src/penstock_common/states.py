"""States and reasons, and the transitions between states, as tables.

Theory of operation. A thing's state says where it is in its life; a reason, always its own enum,
says why. The tables below are the only truth about which step may follow which: `advance_*`
applies them, an unknown pair raises, and `docs/states.md` is drawn from them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from penstock_common.errors import IllegalTransitionError


class WorkerState(StrEnum):
    """Observed state of a worker, written by its node agent."""

    #: assigned, not begun
    PENDING = "pending"
    #: the image is being pulled
    PULLING = "pulling"
    #: created and started, not yet healthy
    STARTING = "starting"
    #: healthy: takes requests
    RUNNING = "running"
    #: takes no new requests, finishes those in flight
    DRAINING = "draining"
    #: gone, as wanted
    STOPPED = "stopped"
    #: gone or given up, not wanted
    FAILED = "failed"


class DesiredState(StrEnum):
    """What the scheduler wants of a worker, written in its assignment."""

    #: run and take requests
    RUNNING = "running"
    #: keep running what is in flight, take nothing new; may go back to `running`
    DRAINING = "draining"
    #: stop now: SIGTERM, grace, SIGKILL
    STOPPED = "stopped"


class WorkerReason(StrEnum):
    """Why a worker stops or failed."""

    #: no request for `idle_timeout_s`
    IDLE = "idle"
    #: more workers than the limits or the policy want
    SCALED_DOWN = "scaled_down"
    #: a newer revision took over
    UPDATED = "updated"
    #: its endpoint is deleted
    ENDPOINT_DELETED = "endpoint_deleted"
    #: its endpoint is paused
    ENDPOINT_PAUSED = "endpoint_paused"
    #: its node is to be empty
    NODE_DRAINED = "node_drained"
    #: somebody ordered it to stop
    STOP_ORDERED = "stop_ordered"
    #: its node's heartbeat is missing
    NODE_LOST = "node_lost"
    #: a GPU of it went bad; another worker took over
    GPU_UNHEALTHY = "gpu_unhealthy"
    #: a GPU of it is gone
    GPU_LOST = "gpu_lost"
    #: the node agent shut down (process runtime only)
    AGENT_STOPPED = "agent_stopped"
    #: nothing to run here: the runtime needs an image, or a command
    NOT_RUNNABLE = "not_runnable"
    #: the command could not be started
    START_FAILED = "start_failed"
    #: not healthy within `start_timeout_s`
    START_TIMEOUT = "start_timeout"
    #: the process ended by itself
    EXITED = "exited"
    #: killed by the kernel for its memory
    OOM_KILLED = "oom_killed"
    #: it holds more on its own disk than `storage.container_disk_gb`, or on a local volume than its
    #: `size_gb`
    DISK_EXCEEDED = "disk_exceeded"
    #: a network volume of it cannot be mounted on its node
    VOLUME_UNAVAILABLE = "volume_unavailable"
    #: `health.failure_threshold` probes in a row failed
    UNHEALTHY = "unhealthy"
    #: no such image
    IMAGE_NOT_FOUND = "image_not_found"
    #: the registry refused the credentials
    REGISTRY_AUTH_FAILED = "registry_auth_failed"
    #: the registry did not answer
    REGISTRY_UNREACHABLE = "registry_unreachable"
    #: the node's disk is full
    NO_SPACE = "no_space"
    #: the engine failed or hung
    ENGINE_ERROR = "engine_error"
    #: it failed while one of its GPUs reports a fault
    GPU_FAULT = "gpu_fault"
    #: the engine was stopped or restarted, and its containers with it
    ENGINE_RESTARTED = "engine_restarted"


class GpuReason(StrEnum):
    """Why a GPU is given to no worker."""

    #: it is gone: off the bus, or no longer known to the driver
    LOST = "lost"
    #: the driver does not answer, or cannot read it
    NOT_ANSWERING = "not_answering"
    #: the driver says that it works again only after a reset, or a reboot
    RESET_REQUIRED = "reset_required"
    #: the driver told an error (XID) that is no fault of an application
    XID = "xid"
    #: memory errors that ECC could not correct
    MEMORY_ERRORS = "memory_errors"
    #: bad memory waits for a reset to be replaced by spare memory
    REPAIR_PENDING = "repair_pending"
    #: bad memory could not be replaced by spare memory
    REPAIR_FAILED = "repair_failed"


class EndpointState(StrEnum):
    """State of an endpoint, written by the scheduler."""

    #: its first workers are on the way
    DEPLOYING = "deploying"
    #: answers requests (with 0 workers: a request would start one)
    SERVING = "serving"
    #: a new revision replaces the old one
    UPDATING = "updating"
    #: its workers cannot start
    FAILED = "failed"
    #: kept at 0 workers by its owner
    PAUSED = "paused"
    #: its workers are being stopped for good
    DELETING = "deleting"


class EndpointReason(StrEnum):
    """Why an endpoint is not plainly serving."""

    #: no node can take its worker; the message says why for the nodes
    NO_CAPACITY = "no_capacity"
    #: the API key that owns it may hold no more workers or GPUs
    QUOTA_EXCEEDED = "quota_exceeded"
    #: its workers failed to start; the next try waits
    CRASH_BACKOFF = "crash_backoff"
    #: below `min` workers, more are starting; or, while none runs or a new revision takes over, the
    #: message says what keeps one that starts from being healthy; or those who wait get the place
    #: of a worker that leaves
    STARTING = "starting"
    #: the last revision could not start; an earlier one serves again
    ROLLED_BACK = "rolled_back"


class NodeWish(StrEnum):
    """What an operator wants of a node; nothing = that it takes workers."""

    #: takes no new worker
    CORDONED = "cordoned"
    #: takes no new worker, and those it has move elsewhere
    DRAINING = "draining"


class NodeState(StrEnum):
    """A node as an operator sees it: told from its record, its order and its workers."""

    #: takes workers
    READY = "ready"
    #: takes no new worker
    CORDONED = "cordoned"
    #: its workers move elsewhere
    DRAINING = "draining"
    #: to be empty, and empty: safe to take down
    DRAINED = "drained"
    #: its agent ended, its workers run on, and it is awaited back
    RESTARTING = "restarting"
    #: its agent does not report
    LOST = "lost"


class Phase(StrEnum):
    """Instants of a cold start, in order; each is reached at most once by a worker."""

    DECIDED = "decided"  #: the scheduler wanted the worker
    ASSIGNED = "assigned"  #: the assignment was written
    RECEIVED = "received"  #: the node agent saw it
    PULLED = "pulled"  #: the image is on the node
    CREATED = "created"  #: the container exists
    STARTED = "started"  #: its process runs
    LISTENING = "listening"  #: its port accepts connections
    HEALTHY = "healthy"  #: its health path answered 200


class TicketOutcome(StrEnum):
    """How a ticket ended; exactly one each, low-cardinality, for a metric label."""

    DISPATCHED = "dispatched"  #: got a slot
    REJECTED = "rejected"  #: never queued: the queue was full or the endpoint cannot serve
    EVICTED = "evicted"  #: was queued: waited too long, or the endpoint failed
    CANCELLED = "cancelled"  #: its client left


_S = TypeVar("_S", bound=StrEnum)

WORKER_TRANSITIONS: Final[Mapping[WorkerState, frozenset[WorkerState]]] = {
    WorkerState.PENDING: frozenset(
        {WorkerState.PULLING, WorkerState.STARTING, WorkerState.STOPPED, WorkerState.FAILED}
    ),
    WorkerState.PULLING: frozenset(
        {WorkerState.STARTING, WorkerState.DRAINING, WorkerState.STOPPED, WorkerState.FAILED}
    ),
    WorkerState.STARTING: frozenset(
        {WorkerState.RUNNING, WorkerState.DRAINING, WorkerState.STOPPED, WorkerState.FAILED}
    ),
    WorkerState.RUNNING: frozenset({WorkerState.DRAINING, WorkerState.STOPPED, WorkerState.FAILED}),
    WorkerState.DRAINING: frozenset({WorkerState.RUNNING, WorkerState.STOPPED, WorkerState.FAILED}),
    WorkerState.STOPPED: frozenset(),
    WorkerState.FAILED: frozenset(),
}

ENDPOINT_TRANSITIONS: Final[Mapping[EndpointState, frozenset[EndpointState]]] = {
    EndpointState.DEPLOYING: frozenset(
        {
            EndpointState.SERVING,
            EndpointState.UPDATING,
            EndpointState.FAILED,
            EndpointState.PAUSED,
            EndpointState.DELETING,
        }
    ),
    EndpointState.SERVING: frozenset(
        {
            EndpointState.DEPLOYING,
            EndpointState.UPDATING,
            EndpointState.FAILED,
            EndpointState.PAUSED,
            EndpointState.DELETING,
        }
    ),
    EndpointState.UPDATING: frozenset(
        {
            EndpointState.DEPLOYING,
            EndpointState.SERVING,
            EndpointState.FAILED,
            EndpointState.PAUSED,
            EndpointState.DELETING,
        }
    ),
    EndpointState.FAILED: frozenset(
        {
            EndpointState.DEPLOYING,
            EndpointState.SERVING,
            EndpointState.UPDATING,
            EndpointState.PAUSED,
            EndpointState.DELETING,
        }
    ),
    EndpointState.PAUSED: frozenset(
        {
            EndpointState.DEPLOYING,
            EndpointState.SERVING,
            EndpointState.UPDATING,
            EndpointState.FAILED,
            EndpointState.DELETING,
        }
    ),
    EndpointState.DELETING: frozenset(),
}

#: Worker states in which no process can exist any more.
ENDED: Final = frozenset({WorkerState.STOPPED, WorkerState.FAILED})


def _advance(table: Mapping[_S, frozenset[_S]], old: _S, new: _S) -> _S:
    if new is not old and new not in table[old]:
        raise IllegalTransitionError(f"{type(old).__name__}: {old} → {new}")
    return new


def advance_worker(old: WorkerState, new: WorkerState) -> WorkerState:
    """`new`, if a worker may go from `old` to it (staying is always allowed).

    Raises:
        IllegalTransitionError: the table has no such step.
    """
    return _advance(WORKER_TRANSITIONS, old, new)


def advance_endpoint(old: EndpointState, new: EndpointState) -> EndpointState:
    """`new`, if an endpoint may go from `old` to it (staying is always allowed).

    Raises:
        IllegalTransitionError: the table has no such step.
    """
    return _advance(ENDPOINT_TRANSITIONS, old, new)
