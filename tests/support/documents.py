"""Answers of the api as a client gets them, for tests of what is made of them."""

from typing import Any

from penstock_client.documents import EndpointDocument, NodeDocument, WorkerDocument

NOW = "2030-01-01T00:00:00Z"


def endpoint_document(**fields: Any) -> EndpointDocument:
    """An endpoint that serves with no worker, unless told otherwise."""
    app_name = fields.get("app_name", "echo")
    return EndpointDocument.of(
        {
            "id": "ep-0000000000001",
            "name": app_name,
            "app_name": app_name,
            "url": f"http://127.0.0.1:8080/{app_name}",
            "state": "serving",
            "reason": None,
            "message": None,
            "revision": 1,
            "workers_running": 0,
            "workers_starting": 0,
            "workers_draining": 0,
            "workers_desired": 0,
            "load": {"waiting": 0, "in_flight": 0, "oldest_wait_s": 0.0},
            "image": {"image": "acme/echo"},
            "gpu": {},
            "workers": {},
            "scaling": {},
            "queue": {},
            "health": {},
            "storage": {},
            "env": {},
            "secrets": [],
            "public": False,
            "created_at": NOW,
            "updated_at": NOW,
            "deleted_at": None,
            "retry_at": None,
            "exit_code": None,
            "log_tail": [],
            **fields,
        }
    )


def worker_document(worker_id: str = "wk-1", **fields: Any) -> WorkerDocument:
    """A worker that is placed and no more, unless told otherwise."""
    return WorkerDocument.of(
        {
            "id": worker_id,
            "endpoint_id": "ep-0000000000001",
            "node_id": "node-a",
            "revision": 1,
            "desired": "running",
            "state": "pending",
            "reason": None,
            "message": None,
            "gpus": [],
            "driver": "rt-1",
            "host": None,
            "port": None,
            "decided_at": NOW,
            "phases_ms": {"decided": 0},
            "in_flight": None,
            "idle_s": None,
            "exit_code": None,
            "log_tail": [],
            **fields,
        }
    )


def gpu_document(uuid: str = "GPU-00000001", **fields: Any) -> dict[str, Any]:
    """A GPU of 24 GB that nobody holds, unless told otherwise."""
    return {
        "uuid": uuid,
        "product": "rtx-4090-24gb",
        "vram_bytes": 24 * 10**9,
        "healthy": True,
        "reason": None,
        "message": None,
        "parent": None,
        "link_group": 0,
        "numa_node": None,
        "memory_used_bytes": None,
        "utilization_ratio": None,
        "temperature_c": None,
        "power_w": None,
        "uncorrectable_errors": None,
        "xids": [],
        "worker_id": None,
        **fields,
    }


def node_document(node_id: str = "node-a", **fields: Any) -> NodeDocument:
    """A node that is ready and has no GPU, unless told otherwise."""
    gpus = fields.get("gpus", [])
    return NodeDocument.of(
        {
            "id": node_id,
            "state": "ready",
            "order": None,
            "hostname": node_id,
            "address": "10.0.0.1",
            "runtime": "docker",
            "engine_problem": None,
            "gpus": gpus,
            "gpus_total": len(gpus),
            "gpus_free": sum(gpu["worker_id"] is None for gpu in gpus),
            "static_gpus": False,
            "driver_version": None,
            "cuda_version": None,
            "cpu_count": 8,
            "load_1m": 2.0,
            "memory_bytes": 100 * 10**9,
            "memory_available_bytes": 75 * 10**9,
            "disk_bytes": None,
            "disk_free_bytes": None,
            "labels": {},
            "version": None,
            "started_at": None,
            "workers": [],
            **fields,
        }
    )
