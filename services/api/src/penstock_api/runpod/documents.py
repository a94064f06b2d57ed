"""Bodies and answers of RunPod's REST API v1: endpoints and templates."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from penstock_api.dialects import CamelDocument, CamelRequest, Count

Scaler = Literal["QUEUE_DELAY", "REQUEST_COUNT"]


class RunpodEndpointRequest(CamelRequest):
    """An endpoint, as far as it is given."""

    name: Annotated[str, Field(max_length=191)] | None = None
    template_id: str | None = None
    compute_type: Literal["GPU", "CPU"] | None = None
    #: names of RunPod, or products of ours; in order of preference
    gpu_type_ids: tuple[str, ...] | None = None
    gpu_count: Annotated[Count, Field(ge=1)] | None = None
    #: any of them; the lowest counts
    allowed_cuda_versions: tuple[str, ...] | None = None
    min_cuda_version: str | None = None
    #: seconds that a worker without a request is kept
    idle_timeout: Annotated[Count, Field(ge=1, le=3600)] | None = None
    #: milliseconds that a request may take
    execution_timeout_ms: Annotated[Count, Field(ge=0)] | None = None
    scaler_type: Scaler | None = None
    scaler_value: Annotated[Count, Field(ge=1)] | None = None
    #: 0 = the endpoint is paused
    workers_max: Annotated[Count, Field(ge=0)] | None = None
    workers_min: Annotated[Count, Field(ge=0)] | None = None
    #: mounted at /runpod-volume; empty = none
    network_volume_id: str | None = None
    #: one at most
    network_volume_ids: tuple[str, ...] | None = None


class RunpodCreateRequest(RunpodEndpointRequest):
    """A new endpoint."""

    template_id: str


class RunpodTemplateRequest(CamelRequest):
    """A template, as far as it is given."""

    name: Annotated[str, Field(min_length=1, max_length=191)] | None = None
    image_name: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    container_registry_auth_id: str | None = None
    docker_entrypoint: tuple[str, ...] | None = None
    docker_start_cmd: tuple[str, ...] | None = None
    env: Mapping[str, str] | None = None
    container_disk_in_gb: Annotated[Count, Field(ge=1)] | None = None
    #: 0 = no volume
    volume_in_gb: Annotated[Count, Field(ge=0)] | None = None
    volume_mount_path: str | None = None
    #: `<number>/<protocol>`
    ports: tuple[Annotated[str, Field(pattern=r"^\d{1,5}/(http|tcp)$")], ...] | None = None
    readme: str | None = None
    is_serverless: bool | None = None
    is_public: bool | None = None
    category: Literal["NVIDIA", "AMD", "CPU"] | None = None


class RunpodNewTemplate(RunpodTemplateRequest):
    """A new template."""

    name: Annotated[str, Field(min_length=1, max_length=191)]
    image_name: Annotated[str, Field(min_length=1, max_length=500)]


class RunpodTemplate(CamelDocument):
    """A template."""

    id: str
    name: str
    image_name: str
    container_registry_auth_id: str
    docker_entrypoint: tuple[str, ...]
    docker_start_cmd: tuple[str, ...]
    env: Mapping[str, str]
    container_disk_in_gb: int
    volume_in_gb: int
    volume_mount_path: str
    ports: tuple[str, ...]
    readme: str
    is_serverless: bool
    is_public: bool
    #: always false
    is_runpod: bool = False
    category: str


class RunpodTemplates(RootModel[tuple[RunpodTemplate, ...]]):
    """The templates, oldest first."""

    model_config = ConfigDict(frozen=True)


class RunpodWorker(CamelDocument):
    """A worker of an endpoint, as a pod."""

    id: str
    endpoint_id: str
    image: str
    #: `RUNNING`; `EXITED` = it has ended
    desired_status: Literal["RUNNING", "EXITED"]
    #: the worker's state and what is to be said of it
    last_status_change: str
    #: the node
    machine_id: str


class RunpodEndpoint(CamelDocument):
    """An endpoint."""

    id: str
    name: str
    user_id: str
    #: empty = it was made by another API
    template_id: str
    #: counts the changes of what runs, from 0
    version: int
    created_at: str
    compute_type: Literal["GPU", "CPU"]
    gpu_type_ids: tuple[str, ...]
    gpu_count: int
    #: always empty: `minCudaVersion` says it
    allowed_cuda_versions: tuple[str, ...] = ()
    min_cuda_version: str
    #: always empty
    data_center_ids: tuple[str, ...] = ()
    #: always empty
    instance_ids: tuple[str, ...] = ()
    env: Mapping[str, str]
    idle_timeout: int
    execution_timeout_ms: int
    scaler_type: Scaler
    scaler_value: int
    #: 0 = it is paused
    workers_max: int
    workers_min: int
    network_volume_id: str
    network_volume_ids: tuple[str, ...]
    #: null = not asked for, or it has none
    template: RunpodTemplate | None = None
    #: null = not asked for
    workers: tuple[RunpodWorker, ...] | None = None


class RunpodEndpoints(RootModel[tuple[RunpodEndpoint, ...]]):
    """The endpoints, oldest first."""

    model_config = ConfigDict(frozen=True)
