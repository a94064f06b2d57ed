"""What there is to ask for: the GPU products of the nodes, and the limits of documents and callers."""

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from penstock_client.documents.base import Document
from penstock_common.messages import KeyScope
from penstock_common.states import NodeState


class ProductNode(Document):
    """How many GPUs of a product one node has."""

    node_id: str
    state: NodeState
    total: int
    #: a worker would be given these: healthy, held by nobody, and the node takes workers
    free: int
    unhealthy: int
    #: highest that its driver supports; null = not known
    cuda_version: str | None


class ProductDocument(Document):
    """A kind of GPU that nodes have."""

    #: as `gpu.products` of an endpoint names it, e.g. `rtx-4090-24gb`
    id: str
    #: for people, e.g. `RTX 4090 24 GB`
    name: str
    #: memory of the smallest of them
    vram_bytes: int
    gpus_total: int
    #: a worker would be given these
    gpus_free: int
    gpus_unhealthy: int
    #: most that are free on one node: the largest `gpu.count` that finds a place now
    most_free_on_a_node: int
    #: CPU cores, memory and disk of a node for each of its GPUs, the least of the nodes
    cpus_per_gpu: int
    memory_bytes_per_gpu: int
    disk_bytes_per_gpu: int
    #: highest versions that the nodes' drivers support, ascending
    cuda_versions: tuple[str, ...]
    #: price of one GPU for an hour, as set in the api; null = it has none
    price_per_hour: float | None
    #: by id
    nodes: tuple[ProductNode, ...]


class ProductList(Document):
    """The GPU products of the nodes that report, by id."""

    products: tuple[ProductDocument, ...]


class FieldLimits(Document):
    """What one field of a document takes; null = no such bound."""

    type: Literal["integer", "number", "string"]
    minimum: int | float | None = None
    #: it must be more than this
    exclusive_minimum: int | float | None = None
    maximum: int | float | None = None
    #: characters
    min_length: int | None = None
    max_length: int | None = None
    #: regular expression (ECMA 262)
    pattern: str | None = None
    #: nothing but these
    one_of: tuple[str, ...] | None = None
    #: the value when it is left out; null = none, or null itself
    default: JsonValue = None


class QuotaDocument(Document):
    """What the caller's endpoints may hold, all together, and hold now."""

    api_key: str
    scope: KeyScope
    #: null = any number
    max_workers: int | None
    max_gpus: int | None
    workers: int
    gpus: int
    #: endpoints that it has made
    endpoints: int


class RequestLimits(Document):
    """What a request to the api may be."""

    #: requests a second that a key may send, and so many at once before that counts
    rate_per_s: float
    burst: int
    max_body_bytes: int
    #: how long a body may take to arrive
    body_timeout_s: float
    #: levels of a JSON document
    max_depth: int
    #: items of a list in one answer
    max_page: int


class LimitsDocument(Document):
    """What an endpoint document may contain, and its sender may do."""

    #: of an endpoint document: `section.field` → what it takes; `[]` = of each item of a list
    fields: Mapping[str, FieldLimits]
    #: largest endpoint document, as it is stored
    max_document_bytes: int
    #: names that no endpoint may have as its `app_name`
    reserved_app_names: tuple[str, ...]
    quota: QuotaDocument
    requests: RequestLimits
