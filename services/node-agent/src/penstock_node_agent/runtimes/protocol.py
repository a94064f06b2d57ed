"""The one protocol behind which workers run: as containers, or as processes of the host.

Every call names a worker by its id and may be repeated. Errors that a runtime meets are mapped to
the ones below, so that no caller knows `docker` or an errno. `tests/contract` holds the promises.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from penstock_common.errors import PenstockError
from penstock_common.messages import ImageRemoved, RuntimeKind
from penstock_common.specs import LocalVolume
from penstock_common.states import WorkerReason
from penstock_common.volumes import VolumeSource
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.output import OutputFollower
from penstock_node_agent.runtimes.pull_bytes import PulledBytes


class Progress(StrEnum):
    """Steps of a start, reported in this order; a runtime leaves out what it does not do."""

    #: the image is not on the node and is being pulled
    PULLING = "pulling"
    #: the image is on the node
    PULLED = "pulled"
    #: the container exists
    CREATED = "created"
    #: its process runs
    STARTED = "started"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who pulls an image, in the clear; its repr shows no password."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A network volume as one worker sees it."""

    volume_id: str
    source: VolumeSource
    #: where the worker sees it
    mount_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ImageWish:
    """An image that is to be on the node."""

    #: reference
    image: str
    #: digest that it must have; None = the one that its tag has now
    image_digest: str | None = None
    #: gives the credentials to pull with; it raises `StartFailedError`. None = pulled without any
    credentials: Callable[[], Awaitable[Credentials]] | None = None


@dataclass(frozen=True, slots=True)
class StartOrder:
    """All that a runtime needs to start a worker."""

    worker_id: str
    endpoint_id: str
    revision: int
    #: image reference; needed by docker, ignored by process
    image: str | None
    #: words that replace the image's entrypoint; empty = the image's own
    entrypoint: tuple[str, ...]
    #: words after the entrypoint; process: `entrypoint` and `command` are the command line
    command: tuple[str, ...]
    #: port that the image listens on; process: ignored, a free port is picked
    http_port: int
    #: the endpoint's variables, secrets opened
    env: Mapping[str, str]
    #: digest that the image must have; None = the one that its tag has now
    image_digest: str | None = None
    #: ids of the GPUs that belong to it alone
    gpus: tuple[str, ...] = ()
    #: volumes that live and die with it
    volumes: tuple[LocalVolume, ...] = ()
    #: volumes that outlive it; process: none
    mounts: tuple[VolumeMount, ...] = ()
    #: most that it may hold on its own disk, volumes apart; None = no bound; process: ignored
    disk_bytes: int | None = None
    #: gives the credentials to pull with, asked only when the image must be pulled; it raises
    #: `StartFailedError`. None = pulled without any; process: ignored
    credentials: Callable[[], Awaitable[Credentials]] | None = None

    @property
    def wish(self) -> ImageWish:
        """The image that it needs; docker: `image` is set."""
        assert self.image is not None
        return ImageWish(self.image, self.image_digest, self.credentials)


@dataclass(frozen=True, slots=True)
class RunningImage:
    """Which image a worker runs."""

    #: `sha256:…`; None = it has no digest, as no registry has it
    digest: str | None = None
    #: one sentence, when it is not what its registry says of the tag now
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """Where a started worker's HTTP server listens, or will."""

    host: str
    port: int
    #: None = not known, or it runs no image; no part of where it is
    image: RunningImage | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended. No process of it is left."""

    #: of its first process; 128 + n when signal n ended it; None = not known
    code: int | None
    #: the kernel killed it for its memory
    oom_killed: bool = False
    #: it failed since another process holds the port that was picked for it
    port_taken: bool = False
    #: the engine ended it, stopping or coming back
    with_engine: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A worker that a runtime has, running or not."""

    worker_id: str
    #: set while it runs
    address: Started | None
    #: created, but its process never started
    created_only: bool = False
    #: set when it has ended
    exit: Exit | None = None
    #: empty when nothing of it says whose it is
    endpoint_id: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeProblem:
    """Why a runtime cannot start or end workers at present; those that run may run on."""

    #: what is wrong
    message: str
    #: UTC instant at which that was noticed
    since: datetime
    #: its disk is full; else it does not answer
    full: bool = False


class StartFailedError(PenstockError):
    """The worker could not be started."""

    error_type = "start_failed"

    def __init__(self, reason: WorkerReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class StopFailedError(PenstockError):
    """A process of the worker is still there after SIGKILL."""

    error_type = "stop_failed"


class RuntimeFailedError(PenstockError):
    """The runtime did not do what was asked, or not in time; it may be asked again."""

    error_type = "engine_error"


class BoundExceededError(PenstockError):
    """The worker runs beyond a bound of its own; whoever hears it stops the worker."""

    error_type = "bound_exceeded"

    def __init__(self, reason: WorkerReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Runtime(OutputFollower, Protocol):
    """Starts and ends workers on this node."""

    @property
    def kind(self) -> RuntimeKind:
        """Which of the runtimes it is."""
        ...

    @property
    def proxied_ports(self) -> bool:
        """Whether a worker's port accepts connections before the worker itself listens."""
        ...

    @property
    def problem(self) -> RuntimeProblem | None:
        """Why it cannot start or end workers at present; None = nothing is known to be wrong."""
        ...

    async def open(self) -> None:
        """Begin to look after workers; called before any other call, again when it failed.

        Raises:
            RuntimeFailedError: the engine does not answer.
        """
        ...

    async def list_workers(self) -> tuple[Found, ...]:
        """Every worker of this node that it has, those of an earlier agent process too.

        Raises:
            RuntimeFailedError: it cannot tell.
        """
        ...

    async def start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Started:
        """Start a worker; one that runs already is left as it is.

        While its image is pulled, `on_bytes` hears about once a second how far that is, and at
        the end.

        Cancelling it leaves a worker that `stop` and `remove` clean away.

        Raises:
            StartFailedError: it cannot run; the reason says why. Nothing may be left running,
                something may be left to `remove`.
        """
        ...

    async def wait(self, worker_id: str) -> Exit:
        """Wait for a worker's end, without a bound; at once when it has ended.

        It returns only when nothing that the worker started runs any more.

        Raises:
            RuntimeFailedError: it has no such worker.
            BoundExceededError: it must be stopped; raised again by every later wait.
        """
        ...

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """SIGTERM, up to `grace_s` seconds, SIGKILL; returns when nothing of it runs any more.

        Returns:
            How it ended; None when there is no such worker.

        Raises:
            StopFailedError: something of it survived SIGKILL.
            RuntimeFailedError: it cannot tell.
        """
        ...

    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """Its last lines on stdout and stderr, oldest first; none when there is no such worker."""
        ...

    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        """Where a worker accepts TCP connections, as its own network sees it; None = not known.

        For a sentence to a person, so it is cheap (milliseconds) and never raises.
        """
        ...

    async def remove(self, worker_id: str) -> None:
        """Clean away all that is left of an ended worker: container, volumes, files.

        Raises:
            RuntimeFailedError: something is left.
        """
        ...

    async def prewarm(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        """Have an image on the node.

        Raises:
            StartFailedError: it cannot be had; the reason says why.
        """
        ...

    def keep_images(self, images: frozenset[str]) -> None:
        """Clean up none of these references' repositories from now on."""
        ...

    async def images(self) -> tuple[str, ...]:
        """Image references on the node; none for a runtime without images."""
        ...

    async def tend(self) -> Sequence[ImageRemoved]:
        """Housekeeping, called about once a second: log limits, ends that were not noticed.

        It waits for no engine.

        Returns:
            Images that were removed since the last call, to be told.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; workers run on."""
        ...
