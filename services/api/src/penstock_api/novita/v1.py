"""Novita's management API v1 as a dialect of ours [pure].

Theory of operation. `sections` makes the parts of an endpoint document from what a body gives;
a creation adds what Novita fixes (public, `app_name` = id), a change what a merge patch needs to
replace instead of merge. `endpoint` makes their answer from ours. Fields that only one side has
stand in `FIELDS`, which docs/novita.md shows.
"""

import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from penstock_api.dialects import (
    ABSENT,
    FieldRow,
    cleared,
    disk,
    given,
    keeping,
    number_text,
    replacing,
    unless_none,
)
from penstock_api.novita.states import ENDPOINT_STATES, WORKER_STATES
from penstock_api.novita.v1_documents import (
    RESERVED_PORTS,
    NovitaEndpoint,
    NovitaEndpointRequest,
    NovitaEnv,
    NovitaEnvShown,
    NovitaHealthy,
    NovitaImage,
    NovitaPolicy,
    NovitaPort,
    NovitaProductShown,
    NovitaState,
    NovitaUpdateFields,
    NovitaVolume,
    NovitaVolumeRequest,
    NovitaWorker,
    NovitaWorkerConfig,
    NovitaWorkerConfigRequest,
)
from penstock_client.documents import EndpointDocument, WorkerDocument
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.specs import (
    EndpointSpec,
    LocalVolume,
    NetworkVolume,
)
from penstock_common.states import WorkerState

#: Label of nodes that says in which cluster (v1) or region (v2) they stand.
REGION: Final = "region"
#: Cluster of the nodes without that label.
DEFAULT_CLUSTER: Final = "default"

POLICIES: Final = {"queue": "queue_delay", "concurrency": "request_count"}
_POLICIES_BACK: Final = {ours: theirs for theirs, ours in POLICIES.items()}

_MAYBE_TEXT: Final = "in answers as text, as there"
_READ_ONLY: Final = "only in answers"
FIELDS: Final[tuple[FieldRow, ...]] = (
    FieldRow("id", "id", "names the endpoint of a change"),
    FieldRow("name", "name", "left out or empty = the app name"),
    FieldRow("appName", "app_name", "left out or empty = the endpoint's id"),
    FieldRow("type", "", "`sync` only; never in answers, as there"),
    FieldRow("workerConfig.minNum", "workers.min"),
    FieldRow("workerConfig.maxNum", "workers.max"),
    FieldRow("workerConfig.freeTimeout", "workers.idle_timeout_s", _MAYBE_TEXT),
    FieldRow("workerConfig.maxConcurrent", "workers.max_concurrency", _MAYBE_TEXT),
    FieldRow("workerConfig.gpuNum", "gpu.count", "0 = none"),
    FieldRow(
        "workerConfig.requestTimeout",
        "workers.request_timeout_s",
        "left out or 0 = 600; whole in answers, rounded up",
    ),
    FieldRow("workerConfig.cudaVersion", "gpu.min_cuda_version", "the lowest; empty = any"),
    FieldRow("ports[].port", "image.http_port", "one, as number or text; a number in answers"),
    FieldRow(
        "policy.type", "scaling.type", "`queue` = `queue_delay`, `concurrency` = `request_count`"
    ),
    FieldRow("policy.value", "scaling.value", _MAYBE_TEXT),
    FieldRow("image.image", "image.image"),
    FieldRow("image.authId", "image.registry_auth_id", "empty = a public image"),
    FieldRow("image.command", "image.command", "empty = the image's own"),
    FieldRow("products[].id", "gpu.products", "ids of `/products`; several = any of them"),
    FieldRow(
        "rootfsSize",
        "storage.container_disk_gb",
        "left out, 0 or 100 = null: up to 100 GB, none of it kept free; 100 in answers",
    ),
    FieldRow("volumeMounts[].type", "storage.volumes[].type"),
    FieldRow("volumeMounts[].size", "storage.volumes[].size_gb", "of local ones; left out = 30"),
    FieldRow("volumeMounts[].id", "storage.volumes[].id", "of network ones"),
    FieldRow("volumeMounts[].mountPath", "storage.volumes[].mount_path"),
    FieldRow(
        "clusterID",
        f"placement.node_selector.{REGION}",
        f"only nodes with this label; empty or `{DEFAULT_CLUSTER}` = all",
    ),
    FieldRow("clusterIDs", f"placement.node_selector.{REGION}", "at most one; never in answers"),
    FieldRow("envs[].key", "env", "a name of it; `secrets` are kept by a change, and never shown"),
    FieldRow("envs[].value", "env", "its value"),
    FieldRow("healthy.path", "health.path", "left out or empty = null, the port is enough"),
    FieldRow("healthy.initialDelay", "", "0, only in answers"),
    FieldRow("healthy.period", "health.interval_s", f"{_READ_ONLY}, rounded up"),
    FieldRow("healthy.timeout", "health.timeout_s", f"{_READ_ONLY}, rounded up"),
    FieldRow("healthy.successThreshold", "", "1, only in answers"),
    FieldRow("healthy.failureThreshold", "health.failure_threshold", _READ_ONLY),
    FieldRow("state.state", "state", "only in answers; see the table of states"),
    FieldRow("state.error", "reason", f"{_READ_ONLY}; empty = nothing is wrong"),
    FieldRow("state.message", "message", f"{_READ_ONLY}; empty = nothing is wrong"),
    FieldRow("url", "url", _READ_ONLY),
    FieldRow("log", "", f"{_READ_ONLY}: path of the endpoint's log on this api"),
    FieldRow("createdAt", "created_at", _READ_ONLY),
    FieldRow("updatedAt", "updated_at", _READ_ONLY),
    FieldRow("workers[].id", "", f"{_READ_ONLY}: the worker's `id`"),
    FieldRow("workers[].state.state", "", "only in answers: `state`; see the table of states"),
    FieldRow("workers[].state.error", "", f"{_READ_ONLY}: `reason`, of one that failed"),
    FieldRow("workers[].state.message", "", f"{_READ_ONLY}: `message`"),
    FieldRow("workers[].log", "", f"{_READ_ONLY}: path of its log on this api"),
    FieldRow("workers[].metrics", "", "empty, only in answers"),
    FieldRow("workers[].healthy", "", f"{_READ_ONLY}: it runs"),
    FieldRow("workers[].drain", "", f"{_READ_ONLY}: it takes no new requests"),
    FieldRow("workers[].createdAt", "", f"{_READ_ONLY}: `decided_at`"),
    FieldRow("workers[].readyAt", "", f"{_READ_ONLY}: when it was healthy; empty = not yet"),
)


def creation(body: NovitaEndpointRequest, endpoint_id: str) -> dict[str, Any]:
    """The document of a new endpoint.

    Args:
        body: the `endpoint` of `endpoint/create`.
        endpoint_id: its id, which is its app name where the body gives none.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    parts = new_document(sections(body), endpoint_id)
    return {**parts, "public": True, "env": environment(body.envs or ())}


def change(body: NovitaUpdateFields, spec: EndpointSpec) -> dict[str, Any]:
    """The merge patch for what the body gives; what it leaves out stays.

    Args:
        body: of `endpoint/update`.
        spec: what the endpoint is now.

    Raises:
        InvalidDocumentError: what the body says beside the document's own rules is wrong.
    """
    patch = keeping(sections(body), spec)
    if body.envs is not None:
        patch["env"] = replacing(spec.env, environment(body.envs))
    return patch


def sections(body: NovitaUpdateFields) -> dict[str, Any]:
    """What the body gives, as sections of an endpoint document; `env` apart."""
    _check(body)
    workers, image, policy = body.worker_config, body.image, body.policy
    return given(
        name=body.name or ABSENT,
        app_name=body.app_name or ABSENT,
        image=given(
            image=image.image if image else ABSENT,
            registry_auth_id=cleared(image.auth_id) if image else ABSENT,
            command=cleared(image.command) if image else ABSENT,
            http_port=body.ports[0].port if body.ports else ABSENT,
        ),
        gpu=given(
            products=(
                ABSENT if body.products is None else [product.id for product in body.products]
            ),
            count=workers.gpu_num if workers else ABSENT,
            min_cuda_version=cleared(workers.cuda_version) if workers else ABSENT,
        ),
        workers=_workers(workers) if workers else ABSENT,
        scaling=given(type=POLICIES[policy.type], value=policy.value) if policy else ABSENT,
        placement=node_selector(*_clusters(body)),
        health=given(path=body.healthy.path or None) if body.healthy else ABSENT,
        storage=given(
            container_disk_gb=disk(body.rootfs_size),
            volumes=(
                ABSENT
                if body.volume_mounts is None
                else [_volume(mount) for mount in body.volume_mounts]
            ),
        ),
    )


def new_document(parts: dict[str, Any], endpoint_id: str) -> dict[str, Any]:
    """These sections with what Novita takes where a creation gives nothing."""
    selector = parts.get("placement", {}).get("node_selector", {})
    labels = {name: label for name, label in selector.items() if label is not None}
    return {
        "app_name": endpoint_id,
        "health": {"path": None},
        **parts,
        "placement": {"node_selector": labels},
    }


def node_selector(cluster: str | None = None) -> object:
    """The section `placement` for a cluster; `ABSENT` for none."""
    if cluster is None:
        return ABSENT
    label = None if cluster in {"", DEFAULT_CLUSTER} else cluster
    return {"node_selector": {REGION: label}}


def environment(envs: Iterable[NovitaEnv]) -> dict[str, str]:
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


def _workers(config: NovitaWorkerConfigRequest) -> dict[str, Any]:
    return given(
        min=config.min_num,
        max=config.max_num,
        idle_timeout_s=config.free_timeout,
        max_concurrency=config.max_concurrent,
        request_timeout_s=config.request_timeout or ABSENT,
    )


def _volume(mount: NovitaVolumeRequest) -> dict[str, Any]:
    if mount.type == "local":
        return given(type="local", size_gb=mount.size or ABSENT, mount_path=mount.mount_path)
    return given(type="network", id=unless_none(mount.id), mount_path=mount.mount_path)


def _clusters(body: NovitaUpdateFields) -> tuple[str, ...]:
    if body.cluster_id is not None:
        return (body.cluster_id,)
    return body.cluster_ids or ()


def _check(body: NovitaUpdateFields) -> None:
    problems = []
    if body.type == "async":
        problems.append(Problem("/type", "takes 'sync': requests are answered as they come"))
    if body.ports is not None and len(body.ports) != 1:
        problems.append(Problem("/ports", "takes exactly one port"))
    if body.ports and body.ports[0].port in RESERVED_PORTS:
        problems.append(Problem("/ports/0/port", "2222, 2223 and 2224 are kept; choose another"))
    if len(_clusters(body)) > 1:
        problems.append(Problem("/clusterIDs", "takes one cluster at most"))
    if problems:
        raise InvalidDocumentError(problems)


# ---- answers


def endpoint(document: EndpointDocument, workers: Iterable[WorkerDocument]) -> NovitaEndpoint:
    """An endpoint in their form, with its workers."""
    return NovitaEndpoint(
        id=document.id,
        name=document.name,
        app_name=document.app_name,
        state=NovitaState(
            state=ENDPOINT_STATES[document.state],
            error=document.reason or "",
            message=document.message or "",
        ),
        url=document.url,
        worker_config=NovitaWorkerConfig(
            min_num=document.workers.min,
            max_num=document.workers.max,
            free_timeout=number_text(document.workers.idle_timeout_s),
            max_concurrent=number_text(document.workers.max_concurrency),
            gpu_num=document.gpu.count,
            request_timeout=math.ceil(document.workers.request_timeout_s),
            cuda_version=document.gpu.min_cuda_version or "",
        ),
        policy=NovitaPolicy(
            type=_POLICIES_BACK[document.scaling.type], value=number_text(document.scaling.value)
        ),
        image=NovitaImage(
            image=document.image.image or "",
            auth_id=document.image.registry_auth_id or "",
            command=document.image.command or "",
        ),
        rootfs_size=document.storage.container_limit_gb,
        volume_mounts=tuple(_shown_volume(volume) for volume in document.storage.volumes),
        envs=tuple(NovitaEnvShown(key=key, value=value) for key, value in document.env.items()),
        ports=(NovitaPort(port=document.image.http_port),),
        workers=tuple(worker(shown) for shown in workers),
        products=tuple(NovitaProductShown(id=product) for product in document.gpu.products),
        healthy=NovitaHealthy(
            path=document.health.path or "",
            period=math.ceil(document.health.interval_s),
            timeout=math.ceil(document.health.timeout_s),
            failure_threshold=document.health.failure_threshold,
        ),
        cluster_id=document.placement.node_selector.get(REGION, ""),
        log=f"/v1/endpoints/{document.id}/logs",
        created_at=instant(document.created_at),
        updated_at=instant(document.updated_at),
    )


def worker(document: WorkerDocument) -> NovitaWorker:
    """A worker in their form."""
    failed = document.state is WorkerState.FAILED
    healthy_ms = document.phases_ms.get("healthy")
    return NovitaWorker(
        id=document.id,
        state=NovitaState(
            state=WORKER_STATES[document.state],
            error=(document.reason or "") if failed else "",
            message=document.message or "",
        ),
        log=f"/v1/endpoints/{document.endpoint_id}/workers/{document.id}/logs",
        healthy=document.state is WorkerState.RUNNING,
        drain=document.state is WorkerState.DRAINING,
        created_at=instant(document.decided_at),
        ready_at=(
            ""
            if healthy_ms is None
            else instant(document.decided_at + timedelta(milliseconds=healthy_ms))
        ),
    )


def instant(at: datetime) -> str:
    """An instant as text, in UTC to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown_volume(volume: LocalVolume | NetworkVolume) -> NovitaVolume:
    if isinstance(volume, NetworkVolume):
        return NovitaVolume(type="network", id=volume.id, size=0, mount_path=volume.mount_path)
    return NovitaVolume(type="local", id="", size=volume.size_gb, mount_path=volume.mount_path)
