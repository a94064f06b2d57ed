"""RunPod's REST API v1 as a dialect of ours [pure].

Theory of operation. A template says what runs, an endpoint how many workers run it on what. An
endpoint takes a copy of its template and remembers which it was; a change of the template changes
its endpoints. Volumes come from both: the local one is the template's, the network one the
endpoint's, and a change of either keeps the other.
"""

import math
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock_api.dialects import (
    ABSENT,
    FieldRow,
    cleared,
    disk,
    given,
    keeping,
    replacing,
    unless_none,
)
from penstock_api.novita.v1 import instant
from penstock_api.runpod.documents import (
    RunpodCreateRequest,
    RunpodEndpoint,
    RunpodEndpointRequest,
    RunpodNewTemplate,
    RunpodTemplate,
    RunpodTemplateRequest,
    RunpodWorker,
)
from penstock_api.runpod.gpu_types import names_of, products_of
from penstock_client.documents import EndpointDocument, WorkerDocument
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import EndpointRecord, TemplateRecord
from penstock_common.specs import DEFAULT_CONTAINER_DISK_GB, EndpointSpec
from penstock_common.states import ENDED

#: Where workers see a network volume.
NETWORK_MOUNT: Final = "/runpod-volume"
#: Where workers see the local volume unless the template says otherwise.
LOCAL_MOUNT: Final = "/workspace"
SCALERS: Final = {"QUEUE_DELAY": "queue_delay", "REQUEST_COUNT": "request_count"}
_SCALERS_BACK: Final = {ours: theirs for theirs, ours in SCALERS.items()}
#: What an endpoint has whose body does not say.
DEFAULTS: Final = RunpodEndpointRequest(
    gpu_count=1,
    idle_timeout=5,
    execution_timeout_ms=600_000,
    scaler_type="QUEUE_DELAY",
    scaler_value=4,
    workers_max=3,
    workers_min=0,
)
#: Port and health path of an image that says neither, and how a template says them.
DEFAULT_PORT: Final = 80
DEFAULT_HEALTH: Final = "/ping"
PORT: Final = "PORT"
HEALTH_CHECK_PATH: Final = "HEALTH_CHECK_PATH"

_READ_ONLY: Final = "only in answers"
FIELDS: Final[tuple[FieldRow, ...]] = (
    FieldRow("id", "id", "in the path"),
    FieldRow("name", "name", "left out = the template's; not unique, as there"),
    FieldRow("templateId", "", "what runs: the template's fields, copied; required of a new one"),
    FieldRow("computeType", "", "`CPU` = `gpu.count` 0"),
    FieldRow("gpuTypeIds", "gpu.products", "their names (see below) or products; left out = any"),
    FieldRow("gpuCount", "gpu.count", "left out = 1"),
    FieldRow("allowedCudaVersions", "gpu.min_cuda_version", "the lowest of them; empty in answers"),
    FieldRow("minCudaVersion", "gpu.min_cuda_version", "empty = any"),
    FieldRow("idleTimeout", "workers.idle_timeout_s", "1 to 3600; left out = 5"),
    FieldRow(
        "executionTimeoutMs",
        "workers.request_timeout_s",
        "milliseconds; left out or 0 = 600000",
    ),
    FieldRow("scalerType", "scaling.type", "`QUEUE_DELAY` (left out), `REQUEST_COUNT`"),
    FieldRow("scalerValue", "scaling.value", "from 1; left out = 4"),
    FieldRow("workersMax", "workers.max", "left out = 3; 0 = the endpoint is paused"),
    FieldRow("workersMin", "workers.min", "left out = 0"),
    FieldRow(
        "networkVolumeId", "storage.volumes[].id", f"mounted at `{NETWORK_MOUNT}`; empty = none"
    ),
    FieldRow("networkVolumeIds", "storage.volumes[].id", "one at most"),
    FieldRow("env", "env", f"{_READ_ONLY}: the template's; `secrets` are never shown"),
    FieldRow("version", "", f"{_READ_ONLY}: `revision` less 1"),
    FieldRow("createdAt", "created_at", _READ_ONLY),
    FieldRow("userId", "owner", f"{_READ_ONLY}: id of the API key that made it"),
    FieldRow("dataCenterIds", "", "ignored; empty in answers"),
    FieldRow("instanceIds", "", "empty, only in answers"),
    FieldRow("template", "", f"{_READ_ONLY}, with `?includeTemplate=true`"),
    FieldRow("workers.id", "", f"{_READ_ONLY}, with `?includeWorkers=true`: the worker's `id`"),
    FieldRow("workers.endpointId", "", f"{_READ_ONLY}: `endpoint_id`"),
    FieldRow("workers.image", "", f"{_READ_ONLY}: the endpoint's image"),
    FieldRow("workers.desiredStatus", "", f"{_READ_ONLY}: `RUNNING`, or `EXITED` once it ended"),
    FieldRow("workers.lastStatusChange", "", f"{_READ_ONLY}: `state` and `message`"),
    FieldRow("workers.machineId", "", f"{_READ_ONLY}: `node_id`"),
)
TEMPLATE_FIELDS: Final[tuple[FieldRow, ...]] = (
    FieldRow("id", "", "in the path"),
    FieldRow("name", "", "for people; of endpoints that have none"),
    FieldRow("imageName", "image.image"),
    FieldRow("containerRegistryAuthId", "image.registry_auth_id", "empty = a public image"),
    FieldRow("dockerEntrypoint", "image.entrypoint", "words; empty = the image's own"),
    FieldRow("dockerStartCmd", "image.command", "words; empty = the image's own"),
    FieldRow(
        "env",
        "env",
        f"`{PORT}` is the port (and not in `env`), `{HEALTH_CHECK_PATH}` the health path",
    ),
    FieldRow("ports", "image.http_port", f"the first `http` one, without `{PORT}`; none = 80"),
    FieldRow(
        "containerDiskInGb",
        "storage.container_disk_gb",
        "left out or 100 = null: up to 100 GB, none of it kept free; 100 in answers",
    ),
    FieldRow(
        "volumeInGb", "storage.volumes[].size_gb", "size of a local volume; left out or 0 = none"
    ),
    FieldRow(
        "volumeMountPath", "storage.volumes[].mount_path", f"of it; left out = `{LOCAL_MOUNT}`"
    ),
    FieldRow("readme", "", "kept"),
    FieldRow("isServerless", "", "kept"),
    FieldRow("isPublic", "", "kept"),
    FieldRow("isRunpod", "", "false, only in answers"),
    FieldRow("category", "", "kept"),
)


# ---- endpoints


def creation(body: RunpodCreateRequest, template: TemplateRecord) -> dict[str, Any]:
    """The document of a new endpoint of this template.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    asked = body.model_dump(exclude_none=True)
    whole = RunpodCreateRequest.model_validate(DEFAULTS.model_dump(exclude_none=True) | asked)
    document = {"name": template.name, **sections(whole), **what_runs(template)}
    volumes = [*_local(template), *(_network(whole) or [])]
    document["storage"] = {"container_disk_gb": template.container_disk_gb, "volumes": volumes}
    return document


def change(body: RunpodEndpointRequest, spec: EndpointSpec) -> dict[str, Any]:
    """The merge patch for what the body gives; what it leaves out stays.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    patch = sections(body)
    network = _network(body)
    if network is not None:
        kept = [volume.model_dump() for volume in spec.storage.local_volumes]
        others = [
            volume.model_dump()
            for volume in spec.storage.network_volumes
            if volume.mount_path != NETWORK_MOUNT
        ]
        patch["storage"] = {"volumes": [*kept, *others, *network]}
    return keeping(patch, spec)


def sections(body: RunpodEndpointRequest) -> dict[str, Any]:
    """What the body gives, as sections of an endpoint document; volumes apart."""
    _check(body)
    cuda = body.min_cuda_version
    if cuda is None and body.allowed_cuda_versions:
        cuda = min(body.allowed_cuda_versions, key=_version)
    paused = body.workers_max == 0
    return given(
        name=body.name or ABSENT,
        gpu=given(
            products=ABSENT if body.gpu_type_ids is None else products_of(body.gpu_type_ids),
            count=0 if body.compute_type == "CPU" else unless_none(body.gpu_count),
            min_cuda_version=cleared(cuda),
        ),
        workers=given(
            min=ABSENT if paused else unless_none(body.workers_min),
            max=ABSENT if paused else unless_none(body.workers_max),
            idle_timeout_s=unless_none(body.idle_timeout),
            request_timeout_s=(
                body.execution_timeout_ms / 1000 if body.execution_timeout_ms else ABSENT
            ),
        ),
        scaling=given(
            type=SCALERS[body.scaler_type] if body.scaler_type else ABSENT,
            value=unless_none(body.scaler_value),
        ),
    )


def wanted_pause(body: RunpodEndpointRequest, record: EndpointRecord) -> EndpointRecord:
    """The record paused or resumed as `workersMax` says; itself if that says nothing new."""
    if body.workers_max is None or record.paused == (body.workers_max == 0):
        return record
    return record.model_copy(update={"paused": body.workers_max == 0})


def endpoint(
    document: EndpointDocument,
    record: EndpointRecord,
    template: TemplateRecord | None,
    workers: Iterable[WorkerDocument] | None,
) -> RunpodEndpoint:
    """An endpoint in their form.

    Args:
        document: as it is shown.
        record: of it.
        template: its template, if it is asked for and there is one.
        workers: its workers, if they are asked for.
    """
    network = tuple(
        volume.id
        for volume in record.spec.storage.network_volumes
        if volume.mount_path == NETWORK_MOUNT
    )
    return RunpodEndpoint(
        id=document.id,
        name=document.name,
        user_id=record.owner or "",
        template_id=record.template_id or "",
        version=document.revision - 1,
        created_at=instant(document.created_at),
        compute_type="GPU" if document.gpu.count else "CPU",
        gpu_type_ids=names_of(document.gpu.products),
        gpu_count=document.gpu.count,
        min_cuda_version=document.gpu.min_cuda_version or "",
        env=document.env,
        idle_timeout=math.ceil(document.workers.idle_timeout_s),
        # 32.011 * 1000 is a little more than 32011.
        execution_timeout_ms=math.ceil(round(document.workers.request_timeout_s * 1000, 3)),
        scaler_type=_SCALERS_BACK[document.scaling.type],
        scaler_value=math.ceil(document.scaling.value),
        workers_max=0 if record.paused else document.workers.max,
        workers_min=0 if record.paused else document.workers.min,
        network_volume_id=next(iter(network), ""),
        network_volume_ids=network,
        template=template_document(template) if template else None,
        workers=None if workers is None else tuple(_worker(one, document) for one in workers),
    )


def _worker(worker: WorkerDocument, document: EndpointDocument) -> RunpodWorker:
    return RunpodWorker(
        id=worker.id,
        endpoint_id=worker.endpoint_id,
        image=document.image.image or "",
        desired_status="EXITED" if worker.state in ENDED else "RUNNING",
        last_status_change=": ".join(filter(None, [worker.state, worker.message])),
        machine_id=worker.node_id,
    )


def _check(body: RunpodEndpointRequest) -> None:
    problems = []
    if body.workers_max == 0 and body.workers_min:
        problems.append(Problem("/workersMin", "is above workersMax"))
    if len(body.network_volume_ids or ()) > 1:
        problems.append(Problem("/networkVolumeIds", "takes one volume at most"))
    if problems:
        raise InvalidDocumentError(problems)


def _network(body: RunpodEndpointRequest) -> list[dict[str, Any]] | None:
    """The network volume that the body asks for, empty for none; None = it does not say."""
    ids = body.network_volume_ids
    if body.network_volume_id is not None:
        ids = (body.network_volume_id,) if body.network_volume_id else ()
    if ids is None:
        return None
    return [{"type": "network", "id": one, "mount_path": NETWORK_MOUNT} for one in ids]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isascii() and part.isdigit())


# ---- templates


def new_template(body: RunpodNewTemplate, **fixed: Any) -> TemplateRecord:  # noqa: ANN401
    """The record of a new template; `fixed` = its id and instant."""
    defaults = {"volume_mount_path": LOCAL_MOUNT}
    return TemplateRecord.model_validate({**defaults, **_fields(body), **fixed})


def changed_template(body: RunpodTemplateRequest, record: TemplateRecord) -> TemplateRecord:
    """The record with what the body gives."""
    return TemplateRecord.model_validate({**record.model_dump(), **_fields(body)})


def what_runs(template: TemplateRecord) -> dict[str, Any]:
    """What a template says, as sections of an endpoint document; its volume apart."""
    env = {name: value for name, value in template.env.items() if name != PORT}
    return {
        "image": {
            "image": template.image,
            "registry_auth_id": template.registry_auth_id,
            "entrypoint": shlex.join(template.entrypoint) or None,
            "command": shlex.join(template.command) or None,
            "http_port": _port(template),
        },
        "health": {"path": template.env.get(HEALTH_CHECK_PATH, DEFAULT_HEALTH)},
        "env": env,
    }


def template_change(template: TemplateRecord, spec: EndpointSpec) -> dict[str, Any]:
    """The merge patch that makes an endpoint run what its template says."""
    runs = what_runs(template)
    network = [volume.model_dump() for volume in spec.storage.network_volumes]
    return {
        **runs,
        "env": replacing(spec.env, runs["env"]),
        "storage": {
            "container_disk_gb": template.container_disk_gb,
            "volumes": [*_local(template), *network],
        },
    }


def template_document(record: TemplateRecord) -> RunpodTemplate:
    """A template in their form."""
    return RunpodTemplate(
        id=record.template_id,
        name=record.name,
        image_name=record.image,
        container_registry_auth_id=record.registry_auth_id or "",
        docker_entrypoint=record.entrypoint,
        docker_start_cmd=record.command,
        env=record.env,
        container_disk_in_gb=record.container_disk_gb or DEFAULT_CONTAINER_DISK_GB,
        volume_in_gb=record.volume_gb,
        volume_mount_path=record.volume_mount_path,
        ports=record.ports,
        readme=record.readme,
        is_serverless=record.serverless,
        is_public=record.public,
        category=record.category,
    )


def _fields(body: RunpodTemplateRequest) -> Mapping[str, object]:
    return given(
        name=unless_none(body.name),
        image=unless_none(body.image_name),
        registry_auth_id=cleared(body.container_registry_auth_id),
        entrypoint=unless_none(body.docker_entrypoint),
        command=unless_none(body.docker_start_cmd),
        container_disk_gb=disk(body.container_disk_in_gb),
        volume_gb=unless_none(body.volume_in_gb),
        volume_mount_path=body.volume_mount_path or ABSENT,
        ports=unless_none(body.ports),
        readme=unless_none(body.readme),
        serverless=unless_none(body.is_serverless),
        public=unless_none(body.is_public),
        category=unless_none(body.category),
    ) | ({} if body.env is None else {"env": body.env})


def _local(template: TemplateRecord) -> list[dict[str, Any]]:
    if not template.volume_gb:
        return []
    size, path = template.volume_gb, template.volume_mount_path
    return [{"type": "local", "size_gb": size, "mount_path": path}]


def _port(template: TemplateRecord) -> int | str:
    if PORT in template.env:
        return template.env[PORT]
    for port in template.ports:
        number, _, protocol = port.partition("/")
        if protocol == "http":
            return int(number)
    return DEFAULT_PORT
