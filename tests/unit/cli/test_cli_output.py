"""What a person reads."""

from typing import Any

import pytest

from penstock_cli.output import endpoints, workers
from penstock_cli.output.documents import Form, print_document
from penstock_client.documents import EndpointDocument, WorkerDocument
from tests.support.documents import worker_document

NOW = "2030-01-01T00:00:00Z"
ENDPOINT: dict[str, Any] = {
    "id": "ep-0000000000001",
    "name": "Llama [bold]",
    "app_name": "llama",
    "url": "http://127.0.0.1:8080/llama",
    "state": "failed",
    "reason": "crash_backoff",
    "message": "exited with 7\x1b[2J",
    "revision": 2,
    "workers_running": 0,
    "workers_starting": 1,
    "workers_draining": 0,
    "workers_desired": 1,
    "load": {"waiting": 3, "in_flight": 0, "oldest_wait_s": 1.25},
    "image": {"image": "acme/" + "x" * 150},
    "gpu": {"count": 2, "products": ["rtx-4090-24gb"]},
    "workers": {},
    "scaling": {},
    "queue": {},
    "health": {},
    "storage": {},
    "env": {"B": "1", "A": "2"},
    "secrets": ["TOKEN"],
    "public": False,
    "created_at": NOW,
    "updated_at": NOW,
    "deleted_at": None,
    "retry_at": NOW,
    "exit_code": 7,
    "log_tail": ["no model \x1b]0;here\x07"],
    "colour": "of a newer api",
}


def test_a_summary_is_plain_text_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    endpoints.print_endpoint(EndpointDocument.of(ENDPOINT))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "Llama [bold]" in out
    assert "acme/" + "x" * 150 in out
    assert "failed (crash_backoff)" in out
    assert "  | no model" in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_a_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    endpoints.print_endpoints([EndpointDocument.of(ENDPOINT)] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["APP", "STATE", "WORKERS"]
    assert len(lines) == 3
    assert lines[1].split()[:2] == ["llama", "failed"]


def test_nothing_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    endpoints.print_endpoints([])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "penstock endpoint create" in captured.err


def test_json_keeps_what_this_client_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_document(EndpointDocument.of(ENDPOINT).raw, Form.JSON)
    assert '"colour": "of a newer api"' in capsys.readouterr().out


def test_a_worker_shows_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    worker = WorkerDocument.of(
        {
            "id": "wk-1",
            "endpoint_id": "ep-1",
            "node_id": "node-a",
            "revision": 1,
            "desired": "running",
            "state": "running",
            "reason": None,
            "message": None,
            "gpus": ["GPU-1"],
            "driver": "rt-1",
            "host": "127.0.0.1",
            "port": 1,
            "decided_at": NOW,
            "phases_ms": {"healthy": 312.4},
            "in_flight": 0,
            "idle_s": None,
            "exit_code": None,
            "log_tail": [],
        }
    )
    workers.print_workers([("llama", worker)])
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert row == ["wk-1", "llama", "running", "node-a", "1", "1", "0", "-", "312", "ms"]


def test_a_worker_that_is_not_healthy_yet_says_why_and_since_when(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = "GET /health on port 8000 answered 404"
    problem = {"message": told, "fix": "set health.path", "since": "2030-01-01T12:34:56Z"}
    worker = worker_document(state="starting", health_problem=problem)
    sentence = f"{told}, since 12:34:56 UTC; set health.path"

    workers.print_workers([("llama", worker)])
    assert capsys.readouterr().out.splitlines()[-1] == f"{worker.id}: {sentence}"

    workers.print_worker(worker, "llama")
    assert sentence in capsys.readouterr().out
