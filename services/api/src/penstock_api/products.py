"""The GPU products of the nodes: how many there are, where, and what they cost [pure]."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from penstock_client.documents import NodeDocument, ProductDocument, ProductNode
from penstock_common.states import NodeState

#: Words of a product's id up to this long are models and numbers, and written in capitals.
_MODEL_LENGTH: Final = 4


def products_of(
    nodes: Iterable[NodeDocument], prices: Mapping[str, Decimal]
) -> tuple[ProductDocument, ...]:
    """The products of these nodes, by id.

    Args:
        nodes: those that do not report have no GPUs.
        prices: product → price of one GPU for an hour.
    """
    having: dict[str, list[NodeDocument]] = {}
    for node in nodes:
        for product in {gpu.product for gpu in node.gpus}:
            having.setdefault(product, []).append(node)
    return tuple(_product(name, having[name], prices.get(name)) for name in sorted(having))


def name_of(product: str) -> str:
    """A product's name for people: `rtx-4090-24gb` → `RTX 4090 24 GB`."""
    words = []
    for word in product.split("-"):
        size = word.removesuffix("gb")
        if size != word and size.isdigit():
            words.append(f"{size} GB")
        else:
            long = len(word) > _MODEL_LENGTH and word.isalpha()
            words.append(word.capitalize() if long else word.upper())
    return " ".join(words)


def by_version(versions: Iterable[str | None]) -> tuple[str, ...]:
    """These CUDA versions, each once, ascending by their numbers; those not known left out."""
    return tuple(sorted({v for v in versions if v is not None}, key=_numbers))


def _product(product: str, nodes: Sequence[NodeDocument], price: Decimal | None) -> ProductDocument:
    on = [_on(node, product) for node in sorted(nodes, key=lambda node: node.id)]
    return ProductDocument(
        id=product,
        name=name_of(product),
        vram_bytes=min(g.vram_bytes for node in nodes for g in node.gpus if g.product == product),
        gpus_total=sum(node.total for node in on),
        gpus_free=sum(node.free for node in on),
        gpus_unhealthy=sum(node.unhealthy for node in on),
        most_free_on_a_node=max(node.free for node in on),
        cpus_per_gpu=min((node.cpu_count or 0) // len(node.gpus) for node in nodes),
        memory_bytes_per_gpu=min((node.memory_bytes or 0) // len(node.gpus) for node in nodes),
        disk_bytes_per_gpu=min((node.disk_bytes or 0) // len(node.gpus) for node in nodes),
        cuda_versions=by_version(node.cuda_version for node in nodes),
        price_per_hour=None if price is None else float(price),
        nodes=tuple(on),
    )


def _on(node: NodeDocument, product: str) -> ProductNode:
    gpus = [gpu for gpu in node.gpus if gpu.product == product]
    takes = node.state is NodeState.READY and node.engine_problem is None
    return ProductNode(
        node_id=node.id,
        state=node.state,
        total=len(gpus),
        free=sum(takes and gpu.healthy and gpu.worker_id is None for gpu in gpus),
        unhealthy=sum(not gpu.healthy for gpu in gpus),
        cuda_version=node.cuda_version,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
