"""A look at an installation as sums and rows."""

from typing import Any

import pytest

from penstock_cli.top.rows import Sample, endpoint_rows, node_rows, sums
from penstock_cli.top.wishes import Order
from penstock_client.documents import EndpointDocument
from tests.support.documents import endpoint_document, gpu_document, node_document


def endpoint(app_name: str, **fields: Any) -> EndpointDocument:
    load = {
        "waiting": fields.pop("waiting", 0),
        "in_flight": fields.pop("in_flight", 0),
        "oldest_wait_s": fields.pop("oldest_wait_s", 0.0),
        "arrivals_per_s": fields.pop("arrivals_per_s", 0.0),
        "service_p99_s": fields.pop("p99_s", None),
    }
    return endpoint_document(id=f"ep-{app_name}", app_name=app_name, load=load, **fields)


BUSY = endpoint(
    "busy",
    in_flight=7,
    waiting=3,
    oldest_wait_s=2.5,
    arrivals_per_s=4.5,
    p99_s=0.5,
    workers_running=1,
    workers_starting=2,
    workers_desired=3,
    workers={"max": 9, "max_concurrency": 8},
)
IDLE = endpoint("idle", oldest_wait_s=9.0)
BROKEN = endpoint("broken", state="failed", reason="crash_backoff", message="exited", p99_s=3.0)
FAST = endpoint("fast", arrivals_per_s=100.0, in_flight=1, workers_running=5, workers_draining=1)
NODES = (
    node_document(
        "node-a",
        gpus=[
            gpu_document(
                "GPU-a",
                worker_id="wk-1",
                utilization_ratio=0.9,
                temperature_c=70,
                power_w=300.0,
                memory_used_bytes=20 * 10**9,
            ),
            gpu_document("GPU-b", utilization_ratio=0.1, temperature_c=40),
            gpu_document("GPU-c", healthy=False, reason="xid"),
        ],
        workers=["wk-1"],
    ),
    node_document(
        "node-b",
        state="draining",
        order={
            "wish": "draining",
            "reason": "new disk",
            "at": "2030-01-01T00:00:00Z",
            "deadline_at": None,
        },
    ),
    node_document(
        "node-c",
        state="lost",
        cpu_count=None,
        load_1m=None,
        memory_bytes=None,
        engine_problem={"message": "x", "since": "2030-01-01T00:00:00Z", "full": True},
    ),
)
SAMPLE = Sample((BUSY, IDLE, BROKEN, FAST), NODES, at=10.0)


def names(order: Order, part: str = "") -> list[str]:
    return [row.app_name for row in endpoint_rows(SAMPLE, None, order, part)]


def test_the_header_sums_up() -> None:
    total = sums(SAMPLE)
    assert (total.nodes, total.nodes_by_state) == (3, (("draining", 1), ("lost", 1)))
    assert (total.gpus, total.gpus_held, total.gpus_unhealthy) == (3, 1, 1)
    assert (total.workers_running, total.workers_starting, total.workers_draining) == (6, 2, 1)
    assert (total.in_flight, total.waiting, total.arrivals_per_s) == (8, 3, 104.5)
    assert total.oldest_wait_s == 2.5  # of those that wait now
    assert (total.endpoints, total.endpoints_by_state) == (4, (("failed", 1),))


@pytest.mark.parametrize(
    ("order", "sorted_names"),
    [
        (Order.WAITING, ["busy", "broken", "fast", "idle"]),
        (Order.RATE, ["fast", "busy", "broken", "idle"]),
        (Order.IN_FLIGHT, ["busy", "fast", "broken", "idle"]),
        (Order.WORKERS, ["fast", "busy", "broken", "idle"]),
        (Order.SLOW, ["broken", "busy", "fast", "idle"]),
        (Order.STATE, ["broken", "busy", "fast", "idle"]),
        (Order.NAME, ["broken", "busy", "fast", "idle"]),
    ],
)
def test_each_order_brings_up_what_is_more(order: Order, sorted_names: list[str]) -> None:
    assert names(order) == sorted_names


def test_a_part_of_a_name_is_enough() -> None:
    assert names(Order.NAME, "US") == ["busy"]
    assert names(Order.NAME, "nothing") == []
    assert [row.node_id for row in node_rows(SAMPLE, "node-b")] == ["node-b"]
    assert len(node_rows(SAMPLE, "busy")) == 3  # it is an endpoint's


def test_an_endpoint_shows_its_slots_and_how_long_the_first_has_waited() -> None:
    busy, *_, idle = endpoint_rows(SAMPLE, None, Order.WAITING, "")
    assert (busy.running, busy.desired, busy.most, busy.in_flight, busy.slots) == (1, 3, 9, 7, 8)
    assert (busy.oldest_wait_s, idle.oldest_wait_s) == (2.5, None)


def test_another_state_than_before_is_seen_and_a_new_endpoint_is_none() -> None:
    before = Sample((endpoint("broken"), endpoint("fast")), (), at=9.0)
    changed = {row.app_name: row.changed for row in endpoint_rows(SAMPLE, before, Order.NAME, "")}
    assert changed == {"broken": True, "busy": False, "fast": False, "idle": False}


def test_a_node_has_its_gpus_together_and_one_by_one() -> None:
    a, b, c = node_rows(SAMPLE)
    assert a.together is not None
    assert (a.gpus_held, a.gpus, a.workers, a.load_ratio) == (1, 3, 1, 0.25)
    assert a.memory_used_ratio == 0.25
    assert a.together.utilization_ratio == 0.5
    assert (a.together.temperature_c, a.together.power_w) == (70, 300.0)
    assert (a.together.memory_used_bytes, a.together.memory_bytes) == (20 * 10**9, 72 * 10**9)
    assert [holder for _, holder, _ in a.each] == ["wk-1", "free", "unhealthy: xid"]
    assert (b.note, b.together) == ("new disk", None)
    assert (c.note, c.load_ratio, c.memory_used_ratio) == ("engine full", None, None)
