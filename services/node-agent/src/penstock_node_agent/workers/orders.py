"""From an assignment to what a runtime needs, secrets opened."""

import functools
import shlex
from collections.abc import Mapping

from penstock_common.messages import RuntimeKind, WorkerAssignment
from penstock_common.sealing import SealBrokenError, Sealer
from penstock_common.states import WorkerReason
from penstock_node_agent.records.registry_auths import OpenAuth
from penstock_node_agent.runtimes.protocol import StartFailedError, StartOrder, VolumeMount


def start_order(
    assignment: WorkerAssignment,
    kind: RuntimeKind,
    sealer: Sealer | None,
    open_auth: OpenAuth,
    mounts: tuple[VolumeMount, ...] = (),
) -> StartOrder:
    """What to start.

    A process worker gets no volumes of its own: it sees the node's disk.

    Args:
        assignment: the worker.
        kind: what this node runs.
        sealer: opens secrets; None = the node has no key.
        open_auth: gives the credentials that a pull needs.
        mounts: the network volumes of its document.

    Raises:
        StartFailedError: this node can never run it; the reason and message say why.
    """
    spec = assignment.spec
    auth_id = spec.image.registry_auth_id
    if kind == "docker" and not spec.image.image:
        raise _not_runnable("this node runs containers: set image.image")
    if kind == "process" and not (spec.image.command or "").strip():
        raise _not_runnable("this node runs processes: set image.command")
    if kind == "process" and mounts:
        raise _not_runnable(
            f"this node runs processes, which cannot mount the network volume {mounts[0].volume_id}"
        )
    return StartOrder(
        worker_id=assignment.worker_id,
        endpoint_id=assignment.endpoint_id,
        revision=assignment.revision,
        image=spec.image.image,
        entrypoint=tuple(shlex.split(spec.image.entrypoint or "")),
        command=tuple(shlex.split(spec.image.command or "")),
        http_port=spec.image.http_port,
        env={**spec.env, **_open(spec.secrets, sealer)},
        image_digest=assignment.image_digest,
        gpus=assignment.gpus,
        volumes=spec.storage.local_volumes,
        mounts=mounts,
        disk_bytes=spec.storage.container_limit_gb * 1_000_000_000,
        credentials=None if auth_id is None else functools.partial(open_auth, auth_id),
    )


def _open(secrets: Mapping[str, str], sealer: Sealer | None) -> dict[str, str]:
    if not secrets:
        return {}
    if sealer is None:
        raise StartFailedError(
            WorkerReason.START_FAILED,
            "the endpoint has secrets, and this node has no key: set secret_key_file",
        )
    try:
        return sealer.open(secrets)
    except SealBrokenError as error:
        raise StartFailedError(WorkerReason.START_FAILED, str(error)) from error


def _not_runnable(message: str) -> StartFailedError:
    return StartFailedError(WorkerReason.NOT_RUNNABLE, message)
