"""The document of a prewarm: an image that is to be on nodes ahead of need [pure]."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock_common.errors import InvalidDocumentError, Problem

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
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object")])
    try:
        return PrewarmSpec.model_validate(document)
    except ValidationError as error:
        texts = {"extra_forbidden": "is no known field; remove it", "missing": "is required"}
        raise InvalidDocumentError(
            [
                Problem(
                    "".join(f"/{part}" for part in found["loc"]),
                    texts.get(found["type"], found["msg"][:1].lower() + found["msg"][1:]),
                )
                for found in error.errors()
            ]
        ) from None


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
