"""Endpoints and nodes as the api and the node agents would write them."""

from collections.abc import Mapping

from penstock_common.messages import EndpointRecord, Gpu, NodeRecord
from penstock_common.specs import parse_endpoint
from penstock_common.states import GpuReason
from tests.fakes.clock import EPOCH


def make_record(
    endpoint_id: str = "ep-1",
    *,
    revision: int = 1,
    paused: bool = False,
    deleted: bool = False,
    gpu: dict[str, object] | None = None,
    workers: dict[str, object] | None = None,
    scaling: dict[str, object] | None = None,
    image: dict[str, object] | None = None,
    placement: dict[str, object] | None = None,
    storage: dict[str, object] | None = None,
    owner: str | None = None,
) -> EndpointRecord:
    """An endpoint as the api would write it."""
    spec = parse_endpoint(
        {
            "name": endpoint_id,
            "app_name": endpoint_id,
            "image": image or {"image": "echo:1", "command": "serve"},
            "gpu": gpu or {},
            "workers": workers or {},
            "scaling": scaling or {},
            "placement": placement or {},
            "storage": storage or {},
        }
    )
    return EndpointRecord(
        endpoint_id=endpoint_id,
        owner=owner,
        spec=spec,
        revision=revision,
        created_at=EPOCH,
        updated_at=EPOCH,
        deleted_at=EPOCH if deleted else None,
        paused=paused,
    )


def make_node(
    node_id: str = "node-a",
    *,
    n_gpus: int = 2,
    product: str = "rtx-4090-24gb",
    runtime: str = "docker",
    cuda: str | None = "12.8",
    images: tuple[str, ...] = (),
    groups: tuple[int, ...] | None = None,
    faults: Mapping[int, GpuReason] | None = None,
) -> NodeRecord:
    """A node's heartbeat; `faults`: which of its GPUs went bad."""
    vram_gb = int(product.lower().rpartition("-")[2].removesuffix("gb"))
    gpus = tuple(
        Gpu(
            uuid=f"GPU-{node_id}-{i}",
            product=product,
            vram_bytes=vram_gb * 10**9,
            reason=(faults or {}).get(i),
            link_group=groups[i] if groups else 0,
        )
        for i in range(n_gpus)
    )
    return NodeRecord.model_validate(
        {
            "node_id": node_id,
            "hostname": node_id,
            "address": "127.0.0.1",
            "runtime": runtime,
            "gpus": gpus,
            "cuda_version": cuda,
            "cpu_count": 8,
            "memory_bytes": 64 * 10**9,
            "disk_free_bytes": 10**12,
            "images": images,
            "version": "0",
            "started_at": EPOCH,
            "beat": 1,
        }
    )
