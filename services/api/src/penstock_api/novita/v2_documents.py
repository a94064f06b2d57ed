"""Bodies and answers of Novita's management API v2, as its documentation gives them."""

from typing import Annotated, Literal

from pydantic import Field

from penstock_api.dialects import Amount, Count, Request
from penstock_client.documents import Document

Text = Annotated[str, Field(max_length=255)]


class NovitaV2WorkerConfigRequest(Request):
    """Workers of an endpoint, as far as they are given."""

    max_replicas: Count | None = None
    min_replicas: Count | None = None
    #: seconds that a worker without a request is kept
    idle_timeout: Amount | None = None
    max_concurrent_per_worker: Count | None = None
    #: per worker
    gpu_num: Count | None = None
    rootfs_size_gb: Count | None = None
    min_cuda_version: Text | None = None
    #: seconds
    request_timeout: Amount | None = None


class NovitaV2NewWorkerConfig(NovitaV2WorkerConfigRequest):
    """Workers of a new endpoint."""

    max_replicas: Count


class NovitaV2PolicyRequest(Request):
    """When to add a worker."""

    #: `queue`: keep the wait within `value` seconds; `concurrency`: `value` requests per worker
    type: Literal["queue", "concurrency"]
    value: Amount | None = None


class NovitaV2VolumeRequest(Request):
    """A volume of each worker."""

    #: left out = `network` with an `id`, else `local`
    type: Literal["local", "network"] | None = None
    #: of a network one
    id: Text | None = None
    #: GB; of a local one
    size: Count | None = None
    mount_point: Text


class NovitaV2EnvRequest(Request):
    """An environment variable."""

    key: str
    value: str


class NovitaV2HealthCheckRequest(Request):
    """How to know that a worker is ready."""

    #: answers 200 when ready; left out or empty = the port is enough
    path: str | None = None
    #: the port of `ports`
    port: Count | None = None


class NovitaV2ChangeRequest(Request):
    """An endpoint, as far as it is given."""

    #: `sync` only
    type: Literal["sync", "async"] | None = None
    name: Annotated[str, Field(max_length=220)] | None = None
    product_id: Text | None = None
    image: Annotated[str, Field(max_length=511)] | None = None
    worker_config: NovitaV2WorkerConfigRequest | None = None
    app_name: str | None = None
    registry_auth_id: Text | None = None
    entrypoint: Annotated[str, Field(max_length=2047)] | None = None
    command: Annotated[str, Field(max_length=2047)] | None = None
    policy: NovitaV2PolicyRequest | None = None
    volumes: tuple[NovitaV2VolumeRequest, ...] | None = None
    envs: tuple[NovitaV2EnvRequest, ...] | None = None
    #: at most one
    ports: tuple[Count, ...] | None = None
    health_check: NovitaV2HealthCheckRequest | None = None
    #: the label `region` of nodes
    region_id: Text | None = None


class NovitaV2CreateRequest(NovitaV2ChangeRequest):
    """A new endpoint."""

    type: Literal["sync", "async"]
    name: Annotated[str, Field(max_length=220)]
    product_id: Text
    image: Annotated[str, Field(max_length=511)]
    worker_config: NovitaV2NewWorkerConfig


class NovitaV2WorkerConfig(Document):
    """Workers of an endpoint."""

    max_replicas: int
    min_replicas: int
    idle_timeout: int
    max_concurrent_per_worker: int
    gpu_num: int
    rootfs_size_gb: int
    min_cuda_version: str
    request_timeout: int


class NovitaV2Policy(Document):
    """When a worker is added."""

    type: str
    value: int | float


class NovitaV2Volume(Document):
    """A volume of each worker."""

    type: str
    #: empty = a local one
    id: str
    #: GB; 0 = a network one
    size: int
    mount_point: str


class NovitaV2Env(Document):
    """An environment variable; secrets are never shown."""

    key: str
    value: str


class NovitaV2HealthCheck(Document):
    """How workers are probed."""

    path: str
    port: int


class NovitaV2Status(Document):
    """A state, and what is wrong."""

    status: str
    #: empty = nothing is wrong
    error: str = ""
    message: str = ""


class NovitaV2Worker(Document):
    """A worker."""

    id: str
    status: NovitaV2Status
    healthy: bool
    created_at: str


class NovitaV2Endpoint(Document):
    """An endpoint."""

    id: str
    type: Literal["sync"] = "sync"
    name: str
    app_name: str
    status: NovitaV2Status
    url: str
    product_id: str
    image: str
    registry_auth_id: str
    entrypoint: str
    command: str
    worker_config: NovitaV2WorkerConfig
    policy: NovitaV2Policy
    volumes: tuple[NovitaV2Volume, ...]
    envs: tuple[NovitaV2Env, ...]
    ports: tuple[int, ...]
    health_check: NovitaV2HealthCheck
    region_id: str
    workers: tuple[NovitaV2Worker, ...]
    created_at: str
    updated_at: str


class NovitaV2EndpointList(Document):
    """A page of the endpoints, oldest first."""

    data: tuple[NovitaV2Endpoint, ...]
    #: begins the next page; empty = this is the last
    next_cursor: str
    has_more: bool


class NovitaV2Done(Document):
    """Done."""
