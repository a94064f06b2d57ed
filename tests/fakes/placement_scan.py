"""The same choice by looking at every node: the oracle of the index."""

from penstock_scheduler.fleet import NO_GPU, Node
from penstock_scheduler.lacks import unfit
from penstock_scheduler.placement import Key, Request, Search, group_score


def scan(search: Search, nodes: list[Node], request: Request) -> Key | None:
    """The lowest key over all nodes and products; None = no node has room."""
    count = request.spec.gpu.count
    names = [name for _, name in request.products]
    keys = []
    for node in nodes:
        if unfit(node.kind, request.spec, names, request.volumes) is not None:
            continue
        ranked = request.products or tuple((0, product) for product in node.all)
        for rank, product in ranked if count else ((0, NO_GPU),):
            if len(node.free.get(product, ())) < count:
                continue
            score = group_score(node.groups[product], count)
            keys.append(search.key(node, rank, score))
    return min(keys, default=None)
