"""Wire types: each survives its encoding, ignores what a newer Penstock adds, and is immutable."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock_common import messages
from penstock_common.messages import (
    Attempt,
    AuditChange,
    AuditTarget,
    Canary,
    EarlierFilter,
    EndpointNews,
    EndpointRecord,
    EngineProblem,
    Gpu,
    GpuReading,
    HealthProblem,
    JoinedHost,
    LentSlot,
    LogGap,
    LogLine,
    Message,
    ScaleDecision,
    ScaleInputs,
    Ticket,
    VolumeRecord,
    WebhookFilter,
    WorkerLoad,
)
from penstock_common.specs import parse_endpoint
from tests.support.message_examples import AT, EXAMPLES


def test_every_wire_type_has_an_example() -> None:
    """So that a type that is added is tested as well; parts of others count with them."""
    parts = {
        Attempt,
        EarlierFilter,
        WebhookFilter,
        EngineProblem,
        Gpu,
        GpuReading,
        HealthProblem,
        LentSlot,
        LogGap,
        LogLine,
        WorkerLoad,
        ScaleDecision,
        ScaleInputs,
        Canary,
        AuditChange,
        AuditTarget,
        JoinedHost,
    }
    types = {
        value
        for name, value in vars(messages).items()
        if isinstance(value, type)
        and issubclass(value, Message)
        and value is not Message
        and not name.startswith("_")
    }
    assert types - parts <= {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_the_round_trip(example: Message) -> None:
    assert type(example).decode(example.encode()) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_what_a_newer_penstock_adds_is_ignored(example: Message) -> None:
    document: dict[str, Any] = example.model_dump(mode="json") | {"newer": {"a": [1]}}
    if "spec" in document:
        document["spec"] |= {"newer": 1, "gpu": document["spec"]["gpu"] | {"newer": 1}}
    assert type(example).model_validate(document) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_it_cannot_be_changed(example: Message) -> None:
    field = next(iter(type(example).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(example, field, None)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_message_is_an_error_that_callers_expect(example: Message, cut: float) -> None:
    data = example.encode()
    with pytest.raises(ValidationError):
        type(example).decode(data[: int(len(data) * cut)])


def test_what_a_newer_penstock_says_of_a_volumes_source_is_ignored() -> None:
    record = next(e for e in EXAMPLES if isinstance(e, VolumeRecord))
    document = record.model_dump(mode="json")
    document["source"] |= {"newer": 1}
    assert VolumeRecord.decode(json.dumps(document).encode()) == record


def test_what_a_newer_penstock_says_in_a_section_of_an_event_is_ignored() -> None:
    news = next(e for e in EXAMPLES if isinstance(e, EndpointNews))
    document = news.model_dump(mode="json")
    document["gpu"] |= {"newer": 1}
    assert EndpointNews.decode(json.dumps(document).encode()) == news


def test_an_event_tells_of_environment_and_secrets_the_names_alone() -> None:
    spec = parse_endpoint(
        {
            "name": "n",
            "app_name": "a",
            "image": {"command": "x"},
            "env": {"MODE": "fast"},
            "secrets": {"TOKEN": "gAAA"},
        }
    )
    news = EndpointNews.of(
        EndpointRecord(endpoint_id="ep-1", revision=1, created_at=AT, updated_at=AT, spec=spec)
    )
    assert (news.env, news.secrets) == (("MODE",), ("TOKEN",))
    assert b"fast" not in news.encode()
    assert b"gAAA" not in news.encode()


def test_instants_without_a_zone_are_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Ticket(
            ticket_id="t",
            router_id="r",
            endpoint_id="e",
            enqueued_at=datetime(2030, 1, 1),  # noqa: DTZ001  # that is the point
            deadline_at=AT,
        )


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_keep_their_microseconds(at: datetime) -> None:
    ticket = Ticket(ticket_id="t", router_id="r", endpoint_id="e", enqueued_at=at, deadline_at=at)
    assert Ticket.decode(ticket.encode()).enqueued_at == at
