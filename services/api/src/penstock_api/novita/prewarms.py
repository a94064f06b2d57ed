"""Image prewarms of Novita's management API v1 as a dialect of ours [pure]."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from penstock_api.dialects import CamelDocument, CamelRequest, FieldRow
from penstock_api.novita.catalog import cluster_of
from penstock_api.novita.v1 import DEFAULT_CLUSTER
from penstock_client.documents import NodeDocument, PrewarmDocument
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import PrewarmState

PrewarmWord = Literal["Pending", "Running", "Succeeded", "Failed"]
STATES: Final[Mapping[PrewarmState, PrewarmWord]] = {
    PrewarmState.PENDING: "Pending",
    PrewarmState.PULLING: "Running",
    PrewarmState.DONE: "Succeeded",
    PrewarmState.FAILED: "Failed",
}
#: There is no bound of ours: more than anybody asks for.
NO_LIMIT: Final = 1_000_000

_READ_ONLY: Final = "only in answers"
FIELDS: Final[tuple[FieldRow, ...]] = (
    FieldRow("id", "id", "names the prewarm of a change"),
    FieldRow("imageUrl", "image"),
    FieldRow("repositoryAuth", "registry_auth_id", "empty = a public image"),
    FieldRow(
        "clusterId",
        "nodes",
        f"the nodes that have this `region` when the prewarm is made; empty or `{DEFAULT_CLUSTER}` "
        "= every node, later ones too",
    ),
    FieldRow("productIds", "products", "in answers `products`"),
    FieldRow("note", "", "kept"),
    FieldRow("imageName", "", f"{_READ_ONLY}: the last part of the image, without tag"),
    FieldRow("clusterName", "", f"{_READ_ONLY}: as `clusterId`"),
    FieldRow("products.productId", "products", _READ_ONLY),
    FieldRow("products.productName", "products", f"{_READ_ONLY}: the id again"),
    FieldRow("imageSize", "", f"{_READ_ONLY}: bytes to pull on a node, as text; empty = not known"),
    FieldRow("createTime", "created_at", f"{_READ_ONLY}: seconds since 1970, as text"),
    FieldRow("completeTime", "", f"{_READ_ONLY}: of the last node, likewise; empty = not done"),
    FieldRow("state", "state", "only in answers; see the table of states"),
    FieldRow("reason", "", f"{_READ_ONLY}: what the nodes say that failed"),
)


class NovitaPrewarmRequest(CamelRequest):
    """A new prewarm."""

    image_url: str
    #: of `repository/auths`; empty = a public image
    repository_auth: str | None = None
    #: of `/clusters`
    cluster_id: str
    #: of `/products`; empty = whatever the nodes have
    product_ids: tuple[str, ...] | None = None
    note: Annotated[str, Field(max_length=1_000)] | None = None


class NovitaPrewarmNote(CamelRequest):
    """Another note of a prewarm."""

    id: str
    note: Annotated[str, Field(max_length=1_000)] = ""


class NovitaIds(CamelRequest):
    """Which ones."""

    ids: Annotated[tuple[str, ...], Field(max_length=100)]


class NovitaPrewarmProduct(CamelDocument):
    """A product that it is for."""

    product_id: str
    product_name: str


class NovitaPrewarm(CamelDocument):
    """An image that is to be on nodes ahead of need."""

    id: str
    image_name: str
    image_url: str
    repository_auth: str
    cluster_id: str
    cluster_name: str
    products: tuple[NovitaPrewarmProduct, ...]
    image_size: str
    create_time: str
    state: PrewarmWord
    complete_time: str
    note: str
    reason: tuple[str, ...]


class NovitaPrewarms(CamelDocument):
    """A page of the prewarms, oldest first."""

    data: tuple[NovitaPrewarm, ...]
    #: of all pages
    total: int


class NovitaPrewarmQuota(CamelDocument):
    """How many there are, and may be."""

    total: int
    limit: int = NO_LIMIT
    #: GB
    per_image_size: int = NO_LIMIT


def creation(body: NovitaPrewarmRequest, nodes: Iterable[NodeDocument]) -> dict[str, Any]:
    """The document of a new prewarm.

    Raises:
        InvalidDocumentError: no node is in the cluster.
    """
    wanted: list[str] = []
    if body.cluster_id not in {"", DEFAULT_CLUSTER}:
        wanted = [node.id for node in nodes if cluster_of(node) == body.cluster_id]
        if not wanted:
            told = f"no node has the label region={body.cluster_id}; see /clusters"
            raise InvalidDocumentError([Problem("/clusterId", told)])
    return {
        "image": body.image_url,
        "registry_auth_id": body.repository_auth or None,
        "nodes": wanted,
        "products": list(body.product_ids or ()),
    }


def prewarm(document: PrewarmDocument, note: str, nodes: Iterable[NodeDocument]) -> NovitaPrewarm:
    """A prewarm in their form.

    Args:
        document: as it is shown.
        note: kept for it.
        nodes: all that there are, which tell the cluster.
    """
    clusters = {cluster_of(node) for node in nodes if node.id in document.nodes}
    cluster = min(clusters, default=DEFAULT_CLUSTER)
    sizes = [one.pull_total_bytes for one in document.progress if one.pull_total_bytes is not None]
    ends = [one.updated_at for one in document.progress if one.updated_at is not None]
    state = STATES[document.state]
    over = state in {"Succeeded", "Failed"} and ends
    return NovitaPrewarm(
        id=document.id,
        image_name=document.image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0],
        image_url=document.image,
        repository_auth=document.registry_auth_id or "",
        cluster_id=cluster,
        cluster_name=cluster,
        products=tuple(
            NovitaPrewarmProduct(product_id=one, product_name=one) for one in document.products
        ),
        image_size=str(max(sizes)) if sizes else "",
        create_time=_seconds(document.created_at),
        state=state,
        complete_time=_seconds(max(ends)) if over else "",
        note=note,
        reason=tuple(
            f"{one.node_id}: {one.message or one.reason}"
            for one in document.progress
            if one.state is PrewarmState.FAILED
        ),
    )


def matches(shown: NovitaPrewarm, *, state: str, cluster: str, name: str) -> bool:
    """Whether a list that is asked for these has it; empty = whatever it is."""
    named = name.lower() in shown.image_name.lower() or name.lower() in shown.note.lower()
    return named and state in {"", shown.state} and cluster in {"", shown.cluster_id}


def _seconds(at: datetime) -> str:
    return str(int(at.timestamp()))
