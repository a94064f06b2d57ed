"""What the router counts, and how Prometheus reads it."""

import hashlib

from penstock_common.messages import ApiKeyRecord
from penstock_router.gate import Answer
from penstock_router.headers import Client
from penstock_router.metrics import Metrics
from penstock_router.proxy.heads import Limits, parse_request
from tests.support.http_rig import CLOCK, HttpRig

LIMITS = Limits(line_bytes=8192, head_bytes=65536, fields=100)
NAME = "http_server_request_duration_seconds"


def test_durations_are_counted_in_buckets_that_grow() -> None:
    metrics = Metrics()
    for duration_s in (0.005, 0.006, 3.0, 9999.0):
        metrics.request("GET", "echo", 200, duration_s)
    labels = 'http_request_method="GET",penstock_endpoint="echo",http_response_status_class="2xx"'
    lines = metrics.text().splitlines()
    assert lines[:2] == [
        f"# HELP {NAME} Seconds from a request's head to the end of its response.",
        f"# TYPE {NAME} histogram",
    ]
    assert f'{NAME}_bucket{{{labels},le="0.005"}} 1' in lines
    assert f'{NAME}_bucket{{{labels},le="0.01"}} 2' in lines
    assert f'{NAME}_bucket{{{labels},le="600.0"}} 3' in lines
    assert f'{NAME}_bucket{{{labels},le="+Inf"}} 4' in lines
    assert f"{NAME}_count{{{labels}}} 4" in lines
    assert f"{NAME}_sum{{{labels}}} 10002.011000" in lines


def test_nobody_can_make_series_without_end() -> None:
    metrics = Metrics()
    for number in range(2_000):
        metrics.request(f"M{number}", "", 404, 0.0)
        metrics.request("GET", f"app-{number}", 200, 0.1)
    counts = [line for line in metrics.text().splitlines() if "_count" in line]
    assert 1_000 <= len(counts) <= 1_002
    assert (
        f'{NAME}_count{{http_request_method="_OTHER",http_response_status_class="4xx"}} 2000'
        in (counts)
    )


def test_a_request_that_broke_off_has_no_status() -> None:
    metrics = Metrics()
    metrics.request("POST", "echo", 0, 1.0)
    assert 'error_type="broken_off"' in metrics.text()
    assert "http_response_status_class" not in metrics.text()


def test_waits_are_counted_by_how_they_end() -> None:
    metrics = Metrics()
    metrics.wait("dispatched", 0.2)
    name = "penstock_queue_wait_duration_seconds_count"
    assert f'{name}{{penstock_ticket_outcome="dispatched"}} 1' in metrics.text()


async def test_the_page_is_for_those_who_may_read() -> None:
    rig = HttpRig()
    gate = rig.server._context.gate
    for scope in ("read", "invoke"):
        fields = {
            "key_id": f"key-{scope}",
            "sha256": hashlib.sha256(scope.encode()).hexdigest(),
            "scope": scope,
            "endpoint_ids": (),
            "created_at": CLOCK.utc(),
        }
        rig.catalogue.put_key(f"key-{scope}", ApiKeyRecord.model_validate(fields))
    gate.metrics.request("GET", "echo", 200, 0.1)
    seen = {}
    for key in ("read", "invoke", "wrong", ""):
        raw = f"GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}".encode()
        answer = gate.open(parse_request(raw, LIMITS), Client("192.0.2.7", "http"))
        assert isinstance(answer, Answer)
        seen[key] = answer.status
        assert (b'penstock_endpoint="echo"' in answer.body) == (key == "read")
    assert seen == {"read": 200, "invoke": 403, "wrong": 401, "": 401}
