"""Placement: its time and memory from 100 to 100,000 nodes, and how it fragments a cluster.

make bench-placement             # python -m benchmarks.placement --largest 100000
"""

import argparse
import gc
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Final

from penstock_common.clock import SystemClock
from penstock_common.messages import Gpu, NodeRecord
from penstock_common.specs import parse_endpoint
from penstock_scheduler.placement.cluster import Cluster, Request
from penstock_scheduler.placement.nodes import Booking

RESULTS: Final = Path(__file__).parents[1] / "results"
CLOCK: Final = SystemClock()
SIZES: Final = (100, 1_000, 10_000, 100_000)
ENDPOINTS: Final = 1_000
PRODUCTS: Final = ("rtx-4090-24gb", "l40s-48gb", "h100-80gb")
IMAGES: Final = tuple(f"models/{n}:1" for n in range(20))
GPUS: Final = 8


def make_nodes(n: int, *, products: tuple[str, ...] = PRODUCTS) -> list[NodeRecord]:
    """Nodes of 8 GPUs in two link groups, of three products and two CUDA versions, some images."""
    chance = random.Random(1)
    started_at = CLOCK.utc()
    return [
        NodeRecord(
            node_id=f"node-{i:06}",
            hostname=f"node-{i:06}",
            address="10.0.0.1",
            runtime="docker",
            gpus=tuple(
                Gpu(
                    uuid=f"GPU-{i}-{g}",
                    product=products[i % len(products)],
                    vram_bytes=24 * 10**9,
                    link_group=g // 4,
                )
                for g in range(GPUS)
            ),
            cuda_version=("12.4", "12.8")[i % 2],
            cpu_count=64,
            memory_bytes=512 * 10**9,
            disk_free_bytes=10**12,
            images=tuple(chance.sample(IMAGES, 3)),
            version="0",
            started_at=started_at,
            beat=1,
        )
        for i in range(n)
    ]


def make_request(number: int, count: int, products: tuple[str, ...] = PRODUCTS) -> Request:
    """An endpoint's wish for a worker."""
    spec = parse_endpoint(
        {
            "name": f"e{number}",
            "app_name": f"e{number}",
            "image": {"image": IMAGES[number % len(IMAGES)]},
            "gpu": {"count": count, "products": list(products[number % len(products) :])},
        }
    )
    return Request(f"ep-{number}", spec)


@dataclass(frozen=True, slots=True)
class Scale:
    """One size of the fleet; times in seconds."""

    nodes: int
    #: reading all nodes into the index
    build_s: float
    #: as many workers as nodes, of 1,000 endpoints with 1, 2 or 4 GPUs each
    place_all_s: float
    #: as many workers as nodes, all of one endpoint with one GPU each
    place_one_endpoint_s: float
    #: one more worker in the full fleet of 1,000 endpoints: median and 99th percentile
    one_more_p50_s: float
    one_more_p99_s: float
    #: the sentence that says why nothing fits
    refuse_s: float
    index_bytes: int


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = CLOCK.monotonic()
    action()
    return CLOCK.monotonic() - began


def measure(n: int) -> Scale:
    """Everything about a fleet of `n` nodes."""
    nodes = make_nodes(n)
    gc.collect()
    gc.freeze()  # the records are not what is measured
    build_s = timed(lambda: Cluster(nodes, ()))
    cluster = Cluster(nodes, ())
    requests = [make_request(i, (1, 1, 2, 4)[i % 4]) for i in range(min(ENDPOINTS, n))]

    def place_all() -> None:
        for request in requests:
            _, lack = cluster.place(request, n // len(requests))
            assert lack is None, lack

    place_all_s = timed(place_all)
    more = sorted(timed(lambda r=request: cluster.place(r)) for request in requests[:200])  # type: ignore[misc]  # a default argument binds the loop's variable
    refuse_s = timed(lambda: cluster.place(make_request(0, 64)))
    cluster = Cluster(nodes, ())
    place_one_s = timed(lambda: cluster.place(make_request(0, 1), n))
    tracemalloc.start()
    cluster = Cluster(nodes, ())
    index_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Scale(
        n,
        build_s,
        place_all_s,
        place_one_s,
        median(more),
        more[int(0.99 * len(more))],
        refuse_s,
        index_bytes,
    )


# ---- fragmentation

#: (gives a node for a worker of so many GPUs, frees it)
Policy = tuple[Callable[[int], Booking | None], Callable[[Booking], None]]


def penstock(nodes: list[NodeRecord]) -> Policy:
    """The placement that is measured."""
    cluster = Cluster(nodes, ())
    numbers = iter(range(10**9))

    def place(count: int) -> Booking | None:
        request = make_request(next(numbers), count, ("h100-80gb",))
        placements, _ = cluster.place(request)
        if not placements:
            return None
        return Booking(placements[0].node_id, request.endpoint_id, placements[0].gpus)

    return place, cluster.release


def by_free(nodes: list[NodeRecord], choose: Callable[[list[int], dict[int, int]], int]) -> Policy:
    """A policy that only counts free GPUs: `choose` among nodes that have enough."""
    free = dict.fromkeys(range(len(nodes)), GPUS)

    def place(count: int) -> Booking | None:
        able = [i for i, n in free.items() if n >= count]
        if not able:
            return None
        chosen = choose(able, free)
        free[chosen] -= count
        return Booking(str(chosen), "", ("",) * count)

    def release(booking: Booking) -> None:
        free[int(booking[0])] += len(booking[2])

    return place, release


def policies(nodes: list[NodeRecord]) -> Iterator[tuple[str, Policy]]:
    """Ours and the usual ones."""
    chance = random.Random(2)
    yield "penstock", penstock(nodes)
    yield "best fit", by_free(nodes, lambda able, free: min(able, key=free.__getitem__))
    yield "first fit", by_free(nodes, lambda able, _: able[0])
    yield "random", by_free(nodes, lambda able, _: chance.choice(able))
    yield "spread", by_free(nodes, lambda able, free: max(able, key=free.__getitem__))


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """What a policy leaves of a cluster that is about 80 % in use."""

    policy: str
    #: share of wishes for 8 GPUs that found no node
    refused_8_ratio: float
    refused_4_ratio: float
    #: nodes with all 8 GPUs free, on average
    whole_nodes: float


def fragment(n_nodes: int, steps: int) -> list[Fragmentation]:
    """Workers of 1, 1, 2, 4 and 8 GPUs come and go; the same ones for every policy."""
    rows = []
    for name, (place, release) in policies(make_nodes(n_nodes, products=("h100-80gb",))):
        chance = random.Random(3)
        held: list[Booking] = []
        used = 0
        wished, refused = {4: 0, 8: 0}, {4: 0, 8: 0}
        whole: list[int] = []
        by_node: dict[str, int] = {}
        for step in range(steps):
            while used > 0.8 * GPUS * n_nodes:
                gone = held.pop(chance.randrange(len(held)))
                release(gone)
                used -= len(gone[2])
                by_node[gone[0]] -= len(gone[2])
            count = chance.choices((1, 2, 4, 8), (4, 3, 2, 1))[0]
            booking = place(count)
            if step > steps // 2 and count in wished:
                wished[count] += 1
                refused[count] += booking is None
            if booking is not None:
                held.append(booking)
                used += count
                by_node[booking[0]] = by_node.get(booking[0], 0) + count
            if step > steps // 2 and step % 50 == 0:
                whole.append(n_nodes - sum(n > 0 for n in by_node.values()))
        rows.append(
            Fragmentation(
                name,
                refused[8] / wished[8],
                refused[4] / wished[4],
                fmean(whole),
            )
        )
    return rows


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    arguments = parser.parse_args()
    scales = [measure(n) for n in SIZES if n <= arguments.largest]
    print(
        "| nodes | GPUs | index made | workers = nodes, 1,000 endpoints | the same, one endpoint | "
        "one more, p50 / p99 | refused with reasons | index |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for s in scales:
        print(
            f"| {s.nodes:,} | {s.nodes * GPUS:,} | {s.build_s:.2f} s | {s.place_all_s:.2f} s | "
            f"{s.place_one_endpoint_s:.2f} s | "
            f"{s.one_more_p50_s * 1e3:.2f} / {s.one_more_p99_s * 1e3:.2f} ms | "
            f"{s.refuse_s * 1e3:.2f} ms | {s.index_bytes / 2**20:.0f} MiB |"
        )
    fragments = fragment(200, 20_000)
    print("\n| policy | 8 GPUs refused | 4 GPUs refused | whole nodes free |")
    print("|---|---|---|---|")
    for f in fragments:
        print(
            f"| {f.policy} | {f.refused_8_ratio:.1%} | {f.refused_4_ratio:.1%} | "
            f"{f.whole_nodes:.1f} |"
        )
    RESULTS.mkdir(exist_ok=True)
    result = {"scale": [asdict(s) for s in scales], "fragmentation": [asdict(f) for f in fragments]}
    (RESULTS / "placement.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
