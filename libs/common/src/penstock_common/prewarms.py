"""The document of a prewarm: an image that is to be on nodes ahead of need [pure]."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from penstock_common.document_parsing import parse_document

if TYPE_CHECKING:
    from penstock_common.messages import PrewarmRecord

_Name = Annotated[str, Field(min_length=1, max_length=100)]


class PrewarmSpec(BaseModel):
    """What a person writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: image reference
    image: Annotated[str, Field(min_length=1, max_length=500)]
    #: credentials to pull with, by id
    registry_auth_id: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    #: ids of nodes; empty = every node
    nodes: Annotated[tuple[_Name, ...], Field(max_length=1_000)] = ()
    #: only nodes with a GPU of one of these products; empty = whatever they have
    products: Annotated[tuple[_Name, ...], Field(max_length=100)] = ()


def parse_prewarm(document: object) -> PrewarmSpec:
    """The spec in this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(PrewarmSpec, document)


def is_for(record: "PrewarmRecord", node_id: str, products: Collection[str]) -> bool:
    """Whether an order is for this node.

    Args:
        record: the order.
        node_id: the node.
        products: of its GPUs, in lower case.
    """
    if record.nodes and node_id not in record.nodes:
        return False
    return not record.products or any(name.lower() in products for name in record.products)
