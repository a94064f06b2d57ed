"""Answers of the api as a client gets them, for tests of what is made of them."""

from typing import Any

from penstock_client.documents import EndpointDocument, WorkerDocument

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
