"""Bodies and answers of Novita's management API v1, as its documentation gives them.

Numbers of a body may be text, as in answers `freeTimeout`, `maxConcurrent` and `value` are. Bodies
may hold all that an answer shows; what only answers mean (`state`, `workers` …) is ignored.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from penstock_api.dialects import Amount, CamelDocument, CamelRequest, Count

#: Ports that Novita keeps for itself.
RESERVED_PORTS: Final = frozenset({2222, 2223, 2224})
Text = Annotated[str, Field(max_length=255)]


class NovitaWorkerConfigRequest(CamelRequest):
    """Workers of a new or changed endpoint."""

    min_num: Count
    max_num: Count
    #: seconds that a worker without a request is kept
    free_timeout: Amount
    #: requests at once, per worker
    max_concurrent: Count
    #: per worker
    gpu_num: Count
    #: seconds
    request_timeout: Amount | None = None
    #: lowest that will do, e.g. `12.4`
    cuda_version: Text | None = None


class NovitaPortRequest(CamelRequest):
    """The port that the image listens on."""

    #: 1 to 65535, but not 2222, 2223 and 2224
    port: Count


class NovitaPolicyRequest(CamelRequest):
    """When to add a worker."""

    #: `queue`: keep the wait within `value` seconds; `concurrency`: `value` requests per worker
    type: Literal["queue", "concurrency"]
    value: Amount


class NovitaImageRequest(CamelRequest):
    """What runs."""

    image: Annotated[str, Field(max_length=511)]
    #: of `repository/auths`; empty = a public image
    auth_id: Text | None = None
    command: Annotated[str, Field(max_length=2047)] | None = None


class NovitaProduct(CamelRequest):
    """A product that will do."""

    #: of `/products`
    id: Text


class NovitaVolumeRequest(CamelRequest):
    """A volume of each worker."""

    type: Literal["local", "network"]
    #: GB; of a local one
    size: Count | None = None
    #: of a network one
    id: Text | None = None
    mount_path: Text


class NovitaEnv(CamelRequest):
    """An environment variable."""

    key: str
    value: str


class NovitaHealthyRequest(CamelRequest):
    """How to know that a worker is ready."""

    #: answers 200 when ready; empty = the port is enough
    path: str


class NovitaUpdateFields(CamelRequest):
    """An endpoint, as far as it is given."""

    name: Annotated[str, Field(max_length=220)] | None = None
    app_name: str | None = None
    #: `sync` only
    type: Literal["sync", "async"] | None = None
    worker_config: NovitaWorkerConfigRequest | None = None
    #: exactly one
    ports: tuple[NovitaPortRequest, ...] | None = None
    policy: NovitaPolicyRequest | None = None
    image: NovitaImageRequest | None = None
    products: tuple[NovitaProduct, ...] | None = None
    #: GB
    rootfs_size: Count | None = None
    volume_mounts: tuple[NovitaVolumeRequest, ...] | None = None
    #: the label `region` of nodes
    cluster_id: Annotated[Text | None, Field(alias="clusterID")] = None
    #: at most one
    cluster_ids: Annotated[tuple[Text, ...] | None, Field(alias="clusterIDs")] = None
    envs: tuple[NovitaEnv, ...] | None = None
    healthy: NovitaHealthyRequest | None = None


class NovitaEndpointRequest(NovitaUpdateFields):
    """A new endpoint."""

    worker_config: NovitaWorkerConfigRequest
    ports: tuple[NovitaPortRequest, ...]
    policy: NovitaPolicyRequest
    image: NovitaImageRequest


class NovitaCreateRequest(CamelRequest):
    """Body of `endpoint/create`."""

    endpoint: NovitaEndpointRequest


class NovitaUpdateRequest(NovitaUpdateFields):
    """Body of `endpoint/update`; what it leaves out stays as it is."""

    id: str


class NovitaId(CamelRequest):
    """Body of the deletions."""

    id: str


class NovitaCreated(CamelDocument):
    """What was made."""

    id: str


class NovitaEmpty(CamelDocument):
    """Done."""


class NovitaState(CamelDocument):
    """A state, and what is wrong."""

    state: str
    #: empty = nothing is wrong
    error: str = ""
    message: str = ""


class NovitaWorkerConfig(CamelDocument):
    """Workers of an endpoint."""

    min_num: int
    max_num: int
    free_timeout: str
    max_concurrent: str
    gpu_num: int
    request_timeout: int
    cuda_version: str


class NovitaPolicy(CamelDocument):
    """When a worker is added."""

    type: str
    value: str


class NovitaImage(CamelDocument):
    """What runs."""

    image: str
    auth_id: str
    command: str


class NovitaVolume(CamelDocument):
    """A volume of each worker."""

    type: str
    #: empty = a local one
    id: str
    #: GB; 0 = a network one
    size: int
    mount_path: str


class NovitaEnvShown(CamelDocument):
    """An environment variable; secrets are never shown."""

    key: str
    value: str


class NovitaPort(CamelDocument):
    """The port that the image listens on."""

    port: int


class NovitaProductShown(CamelDocument):
    """A product that will do."""

    id: str


class NovitaWorker(CamelDocument):
    """A worker."""

    id: str
    state: NovitaState
    #: path on this api
    log: str
    #: always empty
    metrics: str = ""
    healthy: bool
    #: true = it takes no new requests
    drain: bool
    created_at: str
    #: empty = it was not healthy yet
    ready_at: str


class NovitaHealthy(CamelDocument):
    """How workers are probed; seconds are whole, rounded up."""

    path: str
    initial_delay: int = 0
    period: int
    timeout: int
    success_threshold: int = 1
    failure_threshold: int


class NovitaEndpoint(CamelDocument):
    """An endpoint."""

    id: str
    name: str
    app_name: str
    state: NovitaState
    url: str
    worker_config: NovitaWorkerConfig
    policy: NovitaPolicy
    image: NovitaImage
    rootfs_size: int
    volume_mounts: tuple[NovitaVolume, ...]
    envs: tuple[NovitaEnvShown, ...]
    ports: tuple[NovitaPort, ...]
    workers: tuple[NovitaWorker, ...]
    products: tuple[NovitaProductShown, ...]
    healthy: NovitaHealthy
    cluster_id: Annotated[str, Field(alias="clusterID")]
    #: path on this api
    log: str
    created_at: str
    updated_at: str


class NovitaEndpointAnswer(CamelDocument):
    """One endpoint."""

    endpoint: NovitaEndpoint


class NovitaEndpointList(CamelDocument):
    """A page of the endpoints, oldest first."""

    endpoints: tuple[NovitaEndpoint, ...]
    #: of all pages
    total: int
