"""What the gate keeps of one request for the next never outlives what it was decided from."""

import hashlib

import pytest

from penstock_common.messages import ApiKeyRecord
from penstock_router.gate import Answer, Call
from penstock_router.headers import Client
from penstock_router.lanes import SlotLease
from penstock_router.proxy.heads import Limits, RequestHead, parse_request
from tests.support.http_rig import CLOCK, HttpRig

LIMITS = Limits(line_bytes=8192, head_bytes=65536, fields=100)
CLIENT = Client("192.0.2.7", "http")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def rig() -> HttpRig:
    rig = HttpRig()
    rig.put_endpoint(public=False)
    rig.put_worker(9)
    return rig


def put_key(rig: HttpRig, secret: str, *endpoint_ids: str, scope: str = "invoke") -> None:
    fields = {
        "key_id": f"key-{secret}",
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "scope": scope,
        "endpoint_ids": endpoint_ids,
        "created_at": CLOCK.utc(),
    }
    rig.catalogue.put_key(f"key-{secret}", ApiKeyRecord.model_validate(fields))


def head_of(key: str = "one", *lines: str, before: RequestHead | None = None) -> RequestHead:
    fields = ["GET /echo/x HTTP/1.1", "Host: h", f"Authorization: Bearer {key}", *lines]
    return parse_request("\r\n".join(fields).encode(), LIMITS, before)


def call_of(rig: HttpRig, head: RequestHead) -> Call:
    opened = rig.server._context.gate.open(head, CLIENT)
    assert isinstance(opened, Call)
    return opened


def status_of(rig: HttpRig, head: RequestHead) -> int:
    opened = rig.server._context.gate.open(head, CLIENT)
    assert isinstance(opened, Answer)
    return opened.status


def field(call: Call, name: str) -> str | None:
    for line in call.head.decode().split("\r\n"):
        if line.lower().startswith(f"{name}: "):
            return line.partition(": ")[2]
    return None


async def test_the_same_request_has_another_id_and_span(rig: HttpRig) -> None:
    put_key(rig, "one")
    head = head_of()
    again = head_of(before=head)
    assert again is head
    first, second = call_of(rig, head), call_of(rig, again)
    assert first.request_id != second.request_id
    assert field(second, "x-request-id") == second.request_id
    assert field(second, "authorization") is None


async def test_a_key_that_is_taken_away_ends_at_once(rig: HttpRig) -> None:
    put_key(rig, "one")
    head = head_of()
    call_of(rig, head)
    rig.catalogue.put_key("key-one", None)
    assert status_of(rig, head_of(before=head)) == 401
    put_key(rig, "one", "ep-other")
    assert status_of(rig, head_of(before=head)) == 403
    put_key(rig, "one", "ep-echo")
    call_of(rig, head_of(before=head))


async def test_another_key_in_the_same_request_is_another_client(rig: HttpRig) -> None:
    put_key(rig, "one")
    head = head_of()
    call_of(rig, head)
    assert status_of(rig, head_of("two", before=head)) == 401


async def test_a_changed_endpoint_is_decided_anew(rig: HttpRig) -> None:
    put_key(rig, "one")
    head = head_of()
    call_of(rig, head)
    rig.put_endpoint(public=True, workers={"request_timeout_s": 7})
    call = call_of(rig, head_of(before=head))
    assert call.timeout_s == 7
    assert field(call, "authorization") == "Bearer one"
    rig.put_endpoint(public=False)
    assert field(call_of(rig, head_of(before=head)), "authorization") is None
    rig.catalogue.put_endpoint("ep-echo", None)
    assert status_of(rig, head_of(before=head)) == 404


async def test_a_trace_goes_on_as_a_child(rig: HttpRig) -> None:
    put_key(rig, "one")
    lines = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-00", "TraceState: a=1", "tracestate: b=2"
    call = call_of(rig, head_of("one", *lines))
    assert field(call, "traceparent") == f"00-{TRACE}-0000000000000001-00"
    assert field(call, "tracestate") == "a=1, b=2"


async def test_a_trace_begins_where_none_is_given(rig: HttpRig) -> None:
    put_key(rig, "one")
    for lines in ((), ("traceparent: 00-x",), ("tracestate: a=1",)):
        call = call_of(rig, head_of("one", *lines, "tracestate: b=2"))
        assert field(call, "traceparent") == f"00-{'0000000000000001' * 2}-0000000000000001-01"
        assert field(call, "tracestate") is None


def test_requests_of_one_affinity_meet_at_one_worker(rig: HttpRig) -> None:
    put_key(rig, "one")
    for n in range(2, 6):
        rig.put_worker(9, worker_id=f"wk-{n}")
    gate = rig.server._context.gate
    met: dict[str, set[str]] = {}
    for key in ("alice", "bob", "carol", "dave"):
        for _ in range(8):
            call = call_of(rig, head_of("one", f"X-Penstock-Affinity: {key}"))
            assert field(call, "x-penstock-affinity") is None  # the router's own
            lease = gate.try_acquire(call)
            assert isinstance(lease, SlotLease)
            met.setdefault(key, set()).add(lease.worker_id)
            gate.finish(lease, "ok")
    assert all(len(workers) == 1 for workers in met.values())
    assert len(set.union(*met.values())) > 1


def test_an_affinity_that_is_no_name_is_ignored(rig: HttpRig) -> None:
    put_key(rig, "one")
    for value in ("", "x" * 129, "a b", "\xe9"):
        assert call_of(rig, head_of("one", f"X-Penstock-Affinity: {value}")).affinity is None
