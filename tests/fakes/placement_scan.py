"""The same choice by looking at every node: the oracle of the index."""

from penstock_scheduler.placement.cluster import Key, Request, Search, group_score
from penstock_scheduler.placement.lacks import can_hold, unfit
from penstock_scheduler.placement.nodes import NO_GPU, Node


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
            if not can_hold(product, count) or len(node.free.get(product, ())) < count:
                continue
            least = request.spec.gpu.min_vram_gb or 0
            if count and min(gpu.vram_bytes for gpu in node.all[product]) < least * 10**9:
                continue
            if node.disk_left_bytes < request.spec.storage.kept_bytes:
                continue
            score = group_score(node.groups[product], count)
            keys.append(search.key(node, rank, score))
    return min(keys, default=None)
