"""Filters of webhooks: the subjects that NATS is told, and the exact second look."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock_api.webhooks.filters import (
    MAX_SUBJECTS,
    change_filter,
    matches,
    subjects_of,
    wants,
)
from penstock_api.webhooks.records import Instants, change_webhook, new_webhook, spec_of
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, EventType, Ids
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.messages import WebhookFilter
from penstock_common.webhooks import WebhookSpec

NOW = datetime(2030, 1, 2, tzinfo=UTC)
AT = Instants(NOW, NOW)
ENDPOINTS = ("ep-1", "ep-2", "ep-3")
PATTERNS = st.sampled_from(
    [*CATALOGUE, "penstock.", *(f"penstock.{f}." for f in ("endpoint", "worker", "node"))]
)
FILTERS = st.builds(
    WebhookFilter,
    event_types=st.lists(PATTERNS, max_size=6).map(tuple),
    endpoints=st.lists(st.sampled_from(ENDPOINTS), max_size=3, unique=True).map(tuple),
)


def event_of(row: EventType[Any], ids: Ids) -> CloudEvent:
    return CloudEvent({"id": "ev-1", "type": row.name, **row.family.extensions(ids)}, b"{}")


def covered(pattern: str, subject: str) -> bool:
    """Whether a NATS subject matches a pattern, by the rules of NATS."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > place
        if place >= len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(wanted) == len(tokens)


@given(FILTERS, st.sampled_from(list(CATALOGUE.values())), st.sampled_from(ENDPOINTS))
def test_nothing_that_is_wanted_is_left_out(
    wanted: WebhookFilter, row: EventType[Any], endpoint_id: str
) -> None:
    ids = Ids(endpoint_id=endpoint_id, worker_id="wk-1", node_id="node-1")
    subject = row.family.subject(ids, row.verb)
    found = [pattern for pattern in subjects_of(wanted) if covered(pattern, subject)]
    assert len(found) <= 1, "NATS refuses subjects that overlap"
    if matches(wanted, event_of(row, ids)):
        assert found
    else:
        assert not found, "of few endpoints the subjects are exact"


@given(FILTERS)
def test_a_consumer_gets_no_more_subjects_than_it_bears(wanted: WebhookFilter) -> None:
    found = subjects_of(wanted)
    assert len(found) == len(set(found)) <= MAX_SUBJECTS


def test_many_endpoints_are_left_to_the_second_look() -> None:
    wanted = WebhookFilter(
        event_types=("penstock.endpoint.created", "penstock.worker.failed", "penstock.scale."),
        endpoints=tuple(f"ep-{n}" for n in range(50)),
    )
    assert subjects_of(wanted) == (
        f"{subjects.PREFIX}.events.endpoint.*.created",
        f"{subjects.PREFIX}.events.scale.*.*",
        f"{subjects.PREFIX}.events.worker.*.*.failed",
    )


def test_everything_about_an_endpoint_is_one_subject() -> None:
    assert subjects_of(WebhookFilter()) == (subjects.EVENTS_ALL,)
    found = subjects_of(WebhookFilter(endpoints=("ep-1",)))
    assert found == (f"{subjects.PREFIX}.events.*.ep-1.>",)


def test_nodes_concern_no_endpoint() -> None:
    assert subjects_of(WebhookFilter(event_types=("penstock.node.",), endpoints=("ep-1",))) == ()


def test_an_edited_filter_says_nothing_about_what_was() -> None:
    failed = event_of(CATALOGUE["penstock.worker.failed"], Ids("ep-1", "wk-1", "node-1"))
    spec = WebhookSpec(url="https://a.example/", event_types=("penstock.node.",))
    record = new_webhook(spec, webhook_id="wh-1", sealed_secret="x", at=AT)
    edited = NOW + timedelta(hours=1)
    record = change_filter(record, WebhookFilter(), at=edited)
    assert not wants(record, failed, edited - timedelta(seconds=1))
    assert wants(record, failed, edited)
    narrow = change_filter(record, WebhookFilter(endpoints=("ep-2",)), at=edited)
    assert not wants(narrow, failed, edited), "narrowing holds for what waits as well"


def test_filters_of_long_ago_are_forgotten() -> None:
    spec = WebhookSpec(url="https://a.example/")
    record = new_webhook(spec, webhook_id="wh-1", sealed_secret="x", at=AT)
    for day in range(30):
        wanted = WebhookFilter(endpoints=(f"ep-{day}",))
        record = change_filter(record, wanted, at=NOW + timedelta(days=day))
    assert [item.filter.endpoints for item in record.earlier] == [
        (f"ep-{day}",) for day in range(28, 21, -1)
    ]
    for _ in range(2):
        for name in ("ep-a", "ep-b") * 20:
            record = change_filter(record, WebhookFilter(endpoints=(name,)), at=NOW)
    assert len(record.earlier) <= 20


def test_a_webhook_that_is_enabled_again_begins_anew() -> None:
    spec = WebhookSpec(url="https://a.example/")
    record = new_webhook(spec, webhook_id="wh-1", sealed_secret="x", at=AT)
    later = Instants(NOW + timedelta(hours=1), NOW + timedelta(hours=1))
    assert change_webhook(record, spec_of(record), at=later) is record
    off = change_webhook(record, spec.model_copy(update={"enabled": False}), at=later)
    assert (off.enabled, off.disabled_reason, off.epoch) == (False, "by_hand", 1)
    on = change_webhook(off, spec, at=later)
    assert (on.enabled, on.disabled_reason, on.epoch) == (True, None, 2)
    assert on.since == later.stored
