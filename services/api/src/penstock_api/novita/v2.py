"""Novita's management API v2 as a dialect of ours [pure]; the theory is that of `v1`."""

import math
from collections.abc import Iterable
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
from penstock_api.novita.states import ENDPOINT_STATES
from penstock_api.novita.v1 import (
    DEFAULT_CLUSTER,
    POLICIES,
    REGION,
    instant,
    new_document,
    node_selector,
)
from penstock_api.novita.v1 import worker as v1_worker
from penstock_api.novita.v1_documents import RESERVED_PORTS
from penstock_api.novita.v2_documents import (
    NovitaV2ChangeRequest,
    NovitaV2CreateRequest,
    NovitaV2Endpoint,
    NovitaV2Env,
    NovitaV2EnvRequest,
    NovitaV2HealthCheck,
    NovitaV2Policy,
    NovitaV2Status,
    NovitaV2Volume,
    NovitaV2VolumeRequest,
    NovitaV2Worker,
    NovitaV2WorkerConfig,
    NovitaV2WorkerConfigRequest,
)
from penstock_client.documents import EndpointDocument, WorkerDocument
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.specs import (
    EndpointSpec,
    LocalVolume,
    NetworkVolume,
)

_POLICIES_BACK: Final = {ours: theirs for theirs, ours in POLICIES.items()}

_READ_ONLY: Final = "only in answers"
_ROUNDED: Final = "whole in answers, rounded up"
FIELDS: Final[tuple[FieldRow, ...]] = (
    FieldRow("id", "id", "in the path"),
    FieldRow("type", "", "`sync` only"),
    FieldRow("name", "name"),
    FieldRow("app_name", "app_name", "left out or empty = the endpoint's id"),
    FieldRow("product_id", "gpu.products", "empty = any; in answers the first"),
    FieldRow("registry_auth_id", "image.registry_auth_id", "empty = a public image"),
    FieldRow("entrypoint", "image.entrypoint", "empty = the image's own"),
    FieldRow("command", "image.command", "empty = the image's own"),
    FieldRow("ports[]", "image.http_port", "one; left out = that of `health_check`, else 8000"),
    FieldRow("health_check.port", "image.http_port", "the same as in `ports`"),
    FieldRow("image", "image.image"),
    FieldRow("worker_config.min_replicas", "workers.min", "left out = 0"),
    FieldRow("worker_config.max_replicas", "workers.max"),
    FieldRow("worker_config.idle_timeout", "workers.idle_timeout_s", f"left out = 60; {_ROUNDED}"),
    FieldRow("worker_config.max_concurrent_per_worker", "workers.max_concurrency", "left out = 1"),
    FieldRow(
        "worker_config.request_timeout",
        "workers.request_timeout_s",
        f"left out or 0 = 600; {_ROUNDED}",
    ),
    FieldRow("worker_config.gpu_num", "gpu.count", "left out = 1; 0 = none"),
    FieldRow("worker_config.min_cuda_version", "gpu.min_cuda_version", "empty = any"),
    FieldRow(
        "worker_config.rootfs_size_gb",
        "storage.container_disk_gb",
        "left out, 0 or 100 = null: up to 100 GB, none of it kept free; 100 in answers",
    ),
    FieldRow(
        "policy.type", "scaling.type", "`queue` = `queue_delay`, `concurrency` = `request_count`"
    ),
    FieldRow("policy.value", "scaling.value", "left out = 4"),
    FieldRow("volumes[].type", "storage.volumes[].type", "left out = `network` with an `id`"),
    FieldRow("volumes[].size", "storage.volumes[].size_gb", "of local ones; left out = 30"),
    FieldRow("volumes[].id", "storage.volumes[].id", "of network ones"),
    FieldRow("volumes[].mount_point", "storage.volumes[].mount_path"),
    FieldRow("envs[].key", "env", "a name of it; `secrets` are kept by a change, and never shown"),
    FieldRow("envs[].value", "env", "its value"),
    FieldRow("health_check.path", "health.path", "left out or empty = null, the port is enough"),
    FieldRow(
        "region_id",
        f"placement.node_selector.{REGION}",
        f"only nodes with this label; empty or `{DEFAULT_CLUSTER}` = all",
    ),
    FieldRow("status.status", "state", "only in answers; see the table of states"),
    FieldRow("status.error", "reason", f"{_READ_ONLY}; empty = nothing is wrong"),
    FieldRow("status.message", "message", f"{_READ_ONLY}; empty = nothing is wrong"),
    FieldRow("url", "url", _READ_ONLY),
    FieldRow("created_at", "created_at", _READ_ONLY),
    FieldRow("updated_at", "updated_at", _READ_ONLY),
    FieldRow("workers[].id", "", f"{_READ_ONLY}: the worker's `id`"),
    FieldRow("workers[].status.status", "", "only in answers: `state`; see the table of states"),
    FieldRow("workers[].status.error", "", f"{_READ_ONLY}: `reason`, of one that failed"),
    FieldRow("workers[].status.message", "", f"{_READ_ONLY}: `message`"),
    FieldRow("workers[].healthy", "", f"{_READ_ONLY}: it runs"),
    FieldRow("workers[].created_at", "", f"{_READ_ONLY}: `decided_at`"),
)


def creation(body: NovitaV2CreateRequest, endpoint_id: str) -> dict[str, Any]:
    """The document of a new endpoint.

    Args:
        body: of `POST /gpus/v2/endpoints`.
        endpoint_id: its id, which is its app name where the body gives none.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    parts = new_document(sections(body), endpoint_id)
    return {**parts, "public": True, "env": environment(body.envs or ())}


def change(body: NovitaV2ChangeRequest, spec: EndpointSpec) -> dict[str, Any]:
    """The merge patch for what the body gives; what it leaves out stays.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    patch = keeping(sections(body), spec)
    if body.envs is not None:
        patch["env"] = replacing(spec.env, environment(body.envs))
    return patch


def sections(body: NovitaV2ChangeRequest) -> dict[str, Any]:
    """What the body gives, as sections of an endpoint document; `env` apart."""
    _check(body)
    workers, health, policy = body.worker_config, body.health_check, body.policy
    return given(
        name=body.name or ABSENT,
        app_name=body.app_name or ABSENT,
        image=given(
            image=unless_none(body.image),
            registry_auth_id=cleared(body.registry_auth_id),
            entrypoint=cleared(body.entrypoint),
            command=cleared(body.command),
            http_port=_port(body),
        ),
        gpu=given(
            products=(
                ABSENT if body.product_id is None else [body.product_id] if body.product_id else []
            ),
            count=unless_none(workers.gpu_num) if workers else ABSENT,
            min_cuda_version=cleared(workers.min_cuda_version) if workers else ABSENT,
        ),
        workers=_workers(workers) if workers else ABSENT,
        scaling=(
            given(type=POLICIES[policy.type], value=unless_none(policy.value)) if policy else ABSENT
        ),
        placement=node_selector(body.region_id),
        health=given(path=cleared(health.path)) if health else ABSENT,
        storage=given(
            container_disk_gb=disk(workers.rootfs_size_gb) if workers else ABSENT,
            volumes=ABSENT if body.volumes is None else [_volume(one) for one in body.volumes],
        ),
    )


def environment(envs: Iterable[NovitaV2EnvRequest]) -> dict[str, str]:
    """The variables by name.

    Raises:
        InvalidDocumentError: a name stands twice.
    """
    found: dict[str, str] = {}
    for place, env in enumerate(envs):
        if env.key in found:
            raise InvalidDocumentError([Problem(f"/envs/{place}/key", f"'{env.key}' stands twice")])
        found[env.key] = env.value
    return found


def _workers(config: NovitaV2WorkerConfigRequest) -> dict[str, Any]:
    return given(
        min=unless_none(config.min_replicas),
        max=unless_none(config.max_replicas),
        idle_timeout_s=unless_none(config.idle_timeout),
        max_concurrency=unless_none(config.max_concurrent_per_worker),
        request_timeout_s=config.request_timeout or ABSENT,
    )


def _port(body: NovitaV2ChangeRequest) -> object:
    if body.ports:
        return body.ports[0]
    return unless_none(body.health_check.port) if body.health_check else ABSENT


def _volume(volume: NovitaV2VolumeRequest) -> dict[str, Any]:
    kind = volume.type or ("network" if volume.id else "local")
    if kind == "local":
        return given(type="local", size_gb=volume.size or ABSENT, mount_path=volume.mount_point)
    return given(type="network", id=unless_none(volume.id), mount_path=volume.mount_point)


def _check(body: NovitaV2ChangeRequest) -> None:
    problems = []
    if body.type == "async":
        problems.append(Problem("/type", "takes 'sync': requests are answered as they come"))
    if body.ports is not None and len(body.ports) > 1:
        problems.append(Problem("/ports", "takes one port at most"))
    port = _port(body)
    if port in RESERVED_PORTS:
        problems.append(Problem("/ports", "2222, 2223 and 2224 are kept; choose another"))
    probed = body.health_check.port if body.health_check else None
    if probed is not None and probed != port:
        problems.append(
            Problem("/health_check/port", f"is the port that takes requests, {port}: leave it out")
        )
    if problems:
        raise InvalidDocumentError(problems)


# ---- answers


def endpoint(document: EndpointDocument, workers: Iterable[WorkerDocument]) -> NovitaV2Endpoint:
    """An endpoint in their form, with its workers."""
    return NovitaV2Endpoint(
        id=document.id,
        name=document.name,
        app_name=document.app_name,
        status=NovitaV2Status(
            status=ENDPOINT_STATES[document.state],
            error=document.reason or "",
            message=document.message or "",
        ),
        url=document.url,
        product_id=next(iter(document.gpu.products), ""),
        image=document.image.image or "",
        registry_auth_id=document.image.registry_auth_id or "",
        entrypoint=document.image.entrypoint or "",
        command=document.image.command or "",
        worker_config=NovitaV2WorkerConfig(
            max_replicas=document.workers.max,
            min_replicas=document.workers.min,
            idle_timeout=math.ceil(document.workers.idle_timeout_s),
            max_concurrent_per_worker=document.workers.max_concurrency,
            gpu_num=document.gpu.count,
            rootfs_size_gb=document.storage.container_limit_gb,
            min_cuda_version=document.gpu.min_cuda_version or "",
            request_timeout=math.ceil(document.workers.request_timeout_s),
        ),
        policy=NovitaV2Policy(
            type=_POLICIES_BACK[document.scaling.type], value=_whole(document.scaling.value)
        ),
        volumes=tuple(_shown_volume(volume) for volume in document.storage.volumes),
        envs=tuple(NovitaV2Env(key=key, value=value) for key, value in document.env.items()),
        ports=(document.image.http_port,),
        health_check=NovitaV2HealthCheck(
            path=document.health.path or "", port=document.image.http_port
        ),
        region_id=document.placement.node_selector.get(REGION, ""),
        workers=tuple(worker(shown) for shown in workers),
        created_at=instant(document.created_at),
        updated_at=instant(document.updated_at),
    )


def _whole(value: float) -> int | float:
    """Whole numbers as such: clients whose field is an integer do not take 4.0."""
    return int(value) if value == int(value) else value


def worker(document: WorkerDocument) -> NovitaV2Worker:
    """A worker in their form."""
    shown = v1_worker(document)
    state = shown.state
    return NovitaV2Worker(
        id=shown.id,
        status=NovitaV2Status(status=state.state, error=state.error, message=state.message),
        healthy=shown.healthy,
        created_at=shown.created_at,
    )


def _shown_volume(volume: LocalVolume | NetworkVolume) -> NovitaV2Volume:
    if isinstance(volume, NetworkVolume):
        return NovitaV2Volume(type="network", id=volume.id, size=0, mount_point=volume.mount_path)
    return NovitaV2Volume(type="local", id="", size=volume.size_gb, mount_point=volume.mount_path)
