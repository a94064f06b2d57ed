"""Prewarms: orders to have an image on nodes ahead of need, and how far each node is."""

from typing import ClassVar

from penstock_api.store import Store
from penstock_client.documents import PrewarmDocument, PrewarmProgress
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem
from penstock_common.messages import NodeRecord, PrewarmRecord, PrewarmState, PrewarmStatus
from penstock_common.prewarms import PrewarmSpec, is_for
from penstock_common.subjects import PREWARMS, prewarm_status_key


class PrewarmNotFoundError(PenstockError):
    """There is no such prewarm."""

    error_type: ClassVar[str] = "prewarm_not_found"
    status_hint: ClassVar[int] = 404


def find_prewarm(store: Store, prewarm_id: str) -> PrewarmRecord:
    """The prewarm with this id.

    Raises:
        PrewarmNotFoundError: there is none.
    """
    row = store.prewarms.rows.get(prewarm_id)
    if row is None:
        raise PrewarmNotFoundError(f"there is no prewarm '{prewarm_id}'")
    return row.value


def check_registry_auth(store: Store, spec: PrewarmSpec) -> None:
    """Nothing, when the registry auth that the document names exists.

    Raises:
        InvalidDocumentError: it does not.
    """
    auth_id = spec.registry_auth_id
    if auth_id is not None and auth_id not in store.registry_auths.rows:
        told = "no such registry auth; make it first, or use null"
        raise InvalidDocumentError([Problem("/registry_auth_id", told)])


async def remove_prewarm(store: Store, prewarm_id: str) -> PrewarmRecord:
    """Remove a prewarm; gives what it was.

    Raises:
        PenstockError: `PrewarmNotFoundError`; NATS is away or timed out, in which case it may or
            may not be gone.
    """
    removed: list[PrewarmRecord] = []

    def check() -> None:
        removed[:] = [find_prewarm(store, prewarm_id)]

    await store.remove_record(PREWARMS, prewarm_id, check)
    return removed[0]


def prewarm_document(store: Store, record: PrewarmRecord) -> PrewarmDocument:
    """A prewarm as the api shows it, with every node that it is for."""
    progress = []
    for node_id, row in sorted(store.nodes.rows.items()):
        status = store.prewarm_status.rows.get(prewarm_status_key(node_id, record.prewarm_id))
        if status is not None or _is_for_node(record, row.value):
            progress.append(_progress(node_id, status.value if status else None))
    return PrewarmDocument(
        id=record.prewarm_id,
        image=record.image,
        registry_auth_id=record.registry_auth_id,
        nodes=record.nodes,
        products=record.products,
        state=overall([item.state for item in progress]),
        progress=tuple(progress),
        created_at=record.created_at,
    )


def overall(states: list[PrewarmState]) -> PrewarmState:
    """One word for all nodes: what is still to be expected, else how it went."""
    if PrewarmState.PULLING in states:
        return PrewarmState.PULLING
    if not states or PrewarmState.PENDING in states:
        return PrewarmState.PENDING
    return PrewarmState.FAILED if PrewarmState.FAILED in states else PrewarmState.DONE


def _is_for_node(record: PrewarmRecord, node: NodeRecord) -> bool:
    products = {gpu.product.lower() for gpu in node.gpus}
    return node.runtime == "docker" and is_for(record, node.node_id, products)


def _progress(node_id: str, status: PrewarmStatus | None) -> PrewarmProgress:
    if status is None:
        return PrewarmProgress(node_id=node_id, state=PrewarmState.PENDING)
    return PrewarmProgress(
        node_id=node_id,
        state=status.state,
        reason=status.reason,
        message=status.message,
        pull_bytes=status.pull_bytes,
        pull_total_bytes=status.pull_total_bytes,
        image_digest=status.image_digest,
        updated_at=status.updated_at,
    )
