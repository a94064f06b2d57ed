"""The endpoint document: what a person writes, validated, with every bad field named.

`parse_endpoint` takes a JSON object as it came and gives an `EndpointSpec`, or raises one
`InvalidDocumentError` that holds every problem, each with a JSON pointer and what to do about it.
Units are in the names: `_s` seconds, `_gb` 10⁹ bytes.
"""

import math
import posixpath
import re
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from penstock_common.document_parsing import parse_document

#: First path segments of the router and the api that no endpoint may be called.
RESERVED_APP_NAMES: Final = frozenset(
    {"v1", "v2", "api", "docs", "healthz", "readyz", "metrics", "openapi", "admin", "console"}
)
#: Most that a container may hold when its document says nothing.
DEFAULT_CONTAINER_DISK_GB: Final = 100
_APP_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables that the platform sets itself.
RESERVED_ENV_PREFIX: Final = "PENSTOCK_"
RESERVED_ENV: Final = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_MIG_CONFIG_DEVICES",
        "NVIDIA_MIG_MONITOR_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "PORT",
    }
)


class _Part(BaseModel):
    """A part of the document: immutable, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_shell_words(value: str | None) -> str | None:
    if value is not None:
        try:
            shlex.split(value)
        except ValueError as error:
            raise ValueError(f"is no list of shell words ({error}); close the quote") from None
    return value


class ImageSpec(_Part):
    """What runs: a container image, or with the process runtime a command."""

    #: image reference, e.g. `vllm/vllm-openai:latest`; needed by the docker runtime
    image: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    #: credentials to pull with, by id
    registry_auth_id: str | None = None
    #: replaces the image's entrypoint; shell words
    entrypoint: str | None = None
    #: arguments to the entrypoint (docker), the whole command line (process); shell words
    command: str | None = None
    #: the port that the image listens on; the process runtime gives a free one in `PORT` instead
    http_port: Annotated[int, Field(ge=1, le=65535)] = 8000

    _words = field_validator("entrypoint", "command")(_check_shell_words)

    @model_validator(mode="after")
    def _something_to_run(self) -> Self:
        if not self.image and not (self.command and self.command.strip()):
            raise ValueError("give image.image (docker runtime) or image.command (process runtime)")
        return self

    def argv(self) -> list[str]:
        """Entrypoint and command as words."""
        return shlex.split(self.entrypoint or "") + shlex.split(self.command or "")


class GpuSpec(_Part):
    """GPUs of one worker."""

    #: acceptable products in order of preference, `<model>-<vram>gb`; empty = any
    products: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    #: GPUs per worker; 0 = none
    count: Annotated[int, Field(ge=0, le=64)] = 1
    #: least memory of each GPU
    min_vram_gb: Annotated[int, Field(ge=1, le=10_000)] | None = None
    #: lowest CUDA version that the node's driver must support, e.g. "12.4"
    min_cuda_version: Annotated[str, Field(pattern=r"^\d{1,3}\.\d{1,3}$")] | None = None


class WorkersSpec(_Part):
    """How many workers may run, and how one lives."""

    #: workers kept without any request
    min: Annotated[int, Field(ge=0, le=10_000)] = 0
    #: most workers ever
    max: Annotated[int, Field(ge=1, le=10_000)] = 3
    #: slots of a worker: requests in flight at once
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1
    #: a worker above `min` without a request for so long is stopped
    idle_timeout_s: Annotated[float, Field(ge=0, le=604_800)] = 60.0
    #: longest life of a request at its worker
    request_timeout_s: Annotated[float, Field(gt=0, le=604_800)] = 600.0
    #: a worker not healthy so long after its start has failed
    start_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    #: between SIGTERM and SIGKILL
    stop_grace_s: Annotated[float, Field(ge=0, le=3_600)] = 5.0
    #: `http`: the image serves HTTP
    protocol: Literal["http"] = "http"

    @model_validator(mode="after")
    def _min_within_max(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; raise max or lower min")
        return self


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
#: In the order of `datetime.weekday()`.
DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BUFFER: Final = re.compile(r"(\d{1,4})(%?)")


class ScheduleWindow(_Part):
    """Hours of the week in which more workers are kept, by the clock on the wall."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = DAYS
    #: first minute, `HH:MM`
    start: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    #: minute after the last, `HH:MM` or `24:00`; before `start` = on the next day
    end: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]
    #: IANA name, e.g. `Europe/Berlin`
    timezone: Annotated[str, Field(min_length=1, max_length=64)] = "UTC"
    #: workers kept in these hours, if more than `workers.min`
    min: Annotated[int, Field(ge=1, le=10_000)]

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"'{value}' is no IANA time zone; write one like Europe/Berlin or UTC"
            ) from None
        return value

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.start == self.end:
            raise ValueError(
                f"start and end are both {self.start}; for whole days use 00:00 to 24:00"
            )
        return self


class ScalingSpec(_Part):
    """When to add a worker."""

    #: `queue_delay`: keep the wait within `value` seconds;
    #: `request_count`: `value` requests (waiting or in flight) per worker
    type: Literal["queue_delay", "request_count"] = "queue_delay"
    value: Annotated[float, Field(gt=0, le=100_000)] = 4.0
    #: workers above need while anything is needed: how many, or a share of the need like `"25%"`
    buffer: Annotated[int, Field(ge=0, le=9_999)] | str = 0
    #: hours in which `workers.min` is raised
    schedule: tuple[ScheduleWindow, ...] = ()
    #: stop workers that still start when nobody waits for them any more; else they come, and go when
    #: they have been idle for long enough
    cancel_starts: bool = False

    @field_validator("buffer", mode="before")
    @classmethod
    def _check_buffer(cls, value: object) -> object:
        whole = isinstance(value, int) and not isinstance(value, bool)
        match = _BUFFER.fullmatch(str(value)) if whole or isinstance(value, str) else None
        if match is None:
            raise ValueError("is a number of workers (0 to 9999) or a share of the need like '25%'")
        return value if match[2] else int(match[1])

    def buffer_above(self, needed: int) -> int:
        """How many workers stand above `needed` ones."""
        if isinstance(self.buffer, int):
            return self.buffer
        return math.ceil(needed * int(self.buffer.removesuffix("%")) / 100)


#: Label → the value that a node must have.
NodeSelector = Mapping[
    Annotated[str, Field(min_length=1, max_length=200)], Annotated[str, Field(max_length=200)]
]


class PlacementSpec(_Part):
    """Which nodes may take a worker, and who comes first."""

    #: labels that a node must have
    node_selector: NodeSelector = {}
    #: 0 to 100; who waits for a place gets it before others with a lower one
    priority: Annotated[int, Field(ge=0, le=100)] = 50


class QueueSpec(_Part):
    """How many requests may wait, and for how long."""

    #: more than so many waiting are refused with 429
    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    #: one that waited so long is answered 503
    max_wait_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0


class HealthSpec(_Part):
    """How to know that a worker is ready and alive."""

    #: answers 200 when ready; null = ready as soon as the port accepts a connection
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=2_000)] | None = "/health"
    #: seconds between probes of a running worker
    interval_s: Annotated[float, Field(ge=0.1, le=3_600)] = 5.0
    #: longest wait for one probe's answer
    timeout_s: Annotated[float, Field(ge=0.05, le=600)] = 2.0
    #: so many failed probes in a row end the worker
    failure_threshold: Annotated[int, Field(ge=1, le=1_000)] = 3


class LocalVolume(_Part):
    """A volume of the worker's own, removed with it."""

    type: Literal["local"]
    size_gb: Annotated[int, Field(ge=1, le=100_000)] = 30
    mount_path: Annotated[str, Field(pattern=r"^/[^:\x00]+$", max_length=1_000)]


class NetworkVolume(_Part):
    """A volume that outlives workers and is reached from several nodes."""

    type: Literal["network"]
    id: Annotated[str, Field(min_length=1, max_length=100)]
    mount_path: Annotated[str, Field(pattern=r"^/[^:\x00]+$", max_length=1_000)]
    #: workers cannot write to it
    read_only: bool = False


class StorageSpec(_Part):
    """Disks of one worker."""

    #: size of the container's own file system, kept free for it on its node; null = it may grow to
    #: `DEFAULT_CONTAINER_DISK_GB`, and nothing is kept for it
    container_disk_gb: Annotated[int, Field(ge=1, le=100_000)] | None = None
    volumes: tuple[Annotated[LocalVolume | NetworkVolume, Field(discriminator="type")], ...] = ()

    @field_validator("volumes")
    @classmethod
    def _own_paths(
        cls, value: tuple[LocalVolume | NetworkVolume, ...]
    ) -> tuple[LocalVolume | NetworkVolume, ...]:
        paths = [posixpath.normpath(volume.mount_path) for volume in value]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"two volumes are mounted at {twice[0]}; give each a mount_path")
        return value

    @property
    def container_limit_gb(self) -> int:
        """Most that the container may hold on its own file system, volumes apart."""
        return self.container_disk_gb or DEFAULT_CONTAINER_DISK_GB

    @property
    def kept_bytes(self) -> int:
        """What is kept free on the node of each worker."""
        local = sum(volume.size_gb for volume in self.local_volumes)
        return ((self.container_disk_gb or 0) + local) * 10**9

    @property
    def local_volumes(self) -> tuple[LocalVolume, ...]:
        """The volumes that live and die with a worker."""
        return tuple(v for v in self.volumes if isinstance(v, LocalVolume))

    @property
    def network_volumes(self) -> tuple[NetworkVolume, ...]:
        """The volumes that outlive workers."""
        return tuple(v for v in self.volumes if isinstance(v, NetworkVolume))


class EndpointSpec(_Part):
    """The endpoint document. Only something to run is required; the rest has defaults."""

    name: Annotated[str, Field(min_length=1, max_length=220)]
    #: first path segment, and first host label, of the endpoint's URL
    app_name: Annotated[str, Field(min_length=1, max_length=63)]
    image: ImageSpec
    gpu: GpuSpec = GpuSpec()
    workers: WorkersSpec = WorkersSpec()
    scaling: ScalingSpec = ScalingSpec()
    placement: PlacementSpec = PlacementSpec()
    queue: QueueSpec = QueueSpec()
    health: HealthSpec = HealthSpec()
    storage: StorageSpec = StorageSpec()
    #: environment variables, readable by all who may read the endpoint
    env: Mapping[str, str] = {}
    #: environment variables that are write-only; in KV their values are sealed (`sealing.py`)
    secrets: Mapping[str, str] = {}
    #: true = no key is asked of callers
    public: bool = False

    @field_validator("app_name")
    @classmethod
    def _check_app_name(cls, value: str) -> str:
        if not _APP_NAME.fullmatch(value):
            raise ValueError(
                "takes lower-case letters, digits and inner hyphens, at most 63 of them"
            )
        if value in RESERVED_APP_NAMES:
            raise ValueError(f"'{value}' is a reserved word; choose another name")
        return value

    @field_validator("env", "secrets")
    @classmethod
    def _check_env(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, text in value.items():
            if not _ENV_NAME.fullmatch(name):
                raise ValueError(
                    f"'{name}' is no variable name; use letters, digits and _, no digit first"
                )
            if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIX):
                raise ValueError(f"'{name}' is set by Penstock; choose another name")
            if "\0" in text:
                raise ValueError(f"the value of '{name}' holds a NUL character; remove it")
        return value

    @model_validator(mode="after")
    def _schedule_within_max(self) -> Self:
        most = max((window.min for window in self.scaling.schedule), default=0)
        if most > self.workers.max:
            raise ValueError(
                f"scaling.schedule asks for {most} workers and workers.max is {self.workers.max}; "
                "raise workers.max or lower the window's min"
            )
        return self

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        both = sorted(set(self.env) & set(self.secrets))
        if both:
            raise ValueError(f"{', '.join(both)} stands in env and in secrets; keep one")
        return self


#: Sections whose change makes a new revision, since it changes what runs.
REVISION_SECTIONS: Final = ("image", "gpu", "health", "storage", "env", "secrets")
#: Fields of `workers` that do as well.
REVISION_WORKER_FIELDS: Final = ("protocol", "start_timeout_s", "stop_grace_s")


def changes_what_runs(old: EndpointSpec, new: EndpointSpec) -> bool:
    """Whether going from `old` to `new` needs new workers (a new revision)."""
    return any(getattr(old, s) != getattr(new, s) for s in REVISION_SECTIONS) or any(
        getattr(old.workers, f) != getattr(new.workers, f) for f in REVISION_WORKER_FIELDS
    )


def with_what_runs(spec: EndpointSpec, past: EndpointSpec) -> EndpointSpec:
    """`spec` with what runs as in `past`; limits, policies and the rest stay as they are."""
    workers = {name: getattr(past.workers, name) for name in REVISION_WORKER_FIELDS}
    sections = {name: getattr(past, name) for name in REVISION_SECTIONS}
    return spec.model_copy(update={**sections, "workers": spec.workers.model_copy(update=workers)})


def parse_endpoint(document: object) -> EndpointSpec:
    """The endpoint spec in this JSON value.

    Args:
        document: parsed JSON; `name` and `app_name` must be there (the api generates them).

    Raises:
        InvalidDocumentError: with every problem found, each with a JSON pointer.
    """
    return parse_document(EndpointSpec, document, union=("storage", "volumes", "*"))


def load_endpoint(document: Mapping[str, Any]) -> EndpointSpec:
    """A stored spec: like `parse_endpoint`, but fields of a newer Penstock are ignored."""
    return EndpointSpec.model_validate(document, extra="ignore")
