"""The table of what lies and travels on NATS."""

from penstock_api import idempotency
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE
from penstock_common.nats import layout
from penstock_node_agent.node import heartbeat as node_heartbeat
from penstock_router import heartbeat as router_heartbeat


def constants() -> set[str]:
    return {
        value
        for name, value in vars(subjects).items()
        if name.isupper() and isinstance(value, str) and value.startswith("PENSTOCK_")
    }


def test_every_bucket_and_stream_stands_in_it_once() -> None:
    named = [row.name for row in (*layout.BUCKETS, *layout.STREAMS)]
    assert sorted(named) == sorted(constants())


def test_who_writes_a_bucket_is_not_among_its_readers() -> None:
    for bucket in layout.BUCKETS:
        assert bucket.writer not in bucket.readers
        assert bucket.meaning


def test_forms_become_the_patterns_that_services_use() -> None:
    patterns = {stream.name: stream.patterns for stream in layout.STREAMS}
    assert patterns == {
        subjects.TICKETS: (subjects.TICKETS_ALL,),
        subjects.USAGE: (subjects.USAGE_ALL,),
        subjects.EVENTS: (subjects.EVENTS_ALL, subjects.WEBHOOK_EVENTS_ALL),
        subjects.DELIVERIES: (subjects.delivery("*", "*"),),
        subjects.LOGS: (subjects.LOGS_ALL,),
        subjects.AUDIT: (subjects.AUDIT_ALL,),
    }
    assert subjects.QUEUE_METRICS_ALL in {row.pattern for row in layout.CORE}


def test_every_core_subject_between_routers_stands_in_it() -> None:
    made = {
        function("<router_id>")
        for name, function in vars(subjects).items()
        if name.startswith("router_") and name != "router_granted"
    }
    rows = [row for row in layout.CORE if ".router." in row.subject]
    assert {row.subject for row in rows} == made
    assert subjects.router_granted("<router_id>", "<lease_id>") in {r.answer_subject for r in rows}


def test_the_publishers_of_events_may_write_their_stream() -> None:
    (events,) = (s for s in layout.STREAMS if s.name == subjects.EVENTS)
    assert {row.publisher for row in CATALOGUE.values()} == set(events.writers)


def test_keys_expire_when_their_writers_say_so() -> None:
    expiring = {b.name: b.expires_s for b in layout.BUCKETS if b.expires_s is not None}
    assert expiring == {
        subjects.NODES: node_heartbeat.TTL_S,
        subjects.ROUTERS: router_heartbeat.TTL_S,
        subjects.REPEATS: idempotency.ANSWER_TTL_S,
    }
