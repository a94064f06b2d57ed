"""The catalogue of events, and their envelope."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from penstock_common import subjects
from penstock_common.events.catalogue import (
    CATALOGUE,
    NODE_DRAINED,
    WORKER_ASSIGNED,
    EventType,
    Ids,
    Service,
    source,
)
from penstock_common.events.cloud_event import CloudEvent, NoCloudEventError
from penstock_common.events.examples import EXAMPLES
from penstock_common.messages import NodeLost, WorkerAssigned

ROOT = Path(__file__).parents[3]
SERVICES = {
    Service.API: ROOT / "services/api/src",
    Service.SCHEDULER: ROOT / "services/scheduler/src",
    Service.NODE_AGENT: ROOT / "services/node-agent/src",
}
ASSIGNED = WORKER_ASSIGNED.of(
    WorkerAssigned(worker_id="wk-1", endpoint_id="ep-1", node_id="node-a", revision=1)
)


# ---- the catalogue


def test_an_event_knows_its_subject_and_what_it_concerns() -> None:
    assert ASSIGNED.type.name == "penstock.worker.assigned"
    assert ASSIGNED.subject == "penstock.v1.events.worker.ep-1.wk-1.assigned"
    assert ASSIGNED.about == "wk-1"
    assert ASSIGNED.extensions == {"endpointid": "ep-1", "nodeid": "node-a"}


def test_data_of_another_model_are_refused_by_mypy_and_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"penstock\.node\.drained carries NodeDrained, not NodeLo"):
        NODE_DRAINED.of(NodeLost(node_id="node-a", workers=1))  # type: ignore[arg-type]  # the test


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=CATALOGUE)
def test_each_row_is_whole(row: EventType[Any]) -> None:
    assert row.meaning.endswith(".")
    pattern = row.family.subject(Ids(), row.verb)
    assert pattern.startswith(subjects.EVENTS_ALL.removesuffix(">"))
    assert row.name.split(".") == ["penstock", pattern.split(".")[3], pattern.split(".")[-1]]


def test_what_concerns_an_endpoint_has_its_id_at_one_place() -> None:
    """So that one NATS filter finds all of it."""
    for row in CATALOGUE.values():
        event = row.of(EXAMPLES[row.name])
        tokens = event.subject.split(".")
        assert ("endpointid" in event.extensions) is (row.family.name != "node")
        assert tokens[4] == event.extensions.get("endpointid", event.extensions.get("nodeid"))


def test_each_service_tells_the_events_that_are_its_own() -> None:
    """Every row is used where the catalogue says that it is published, and nowhere else."""
    constants = {
        name: value
        for name, value in vars(
            __import__("penstock_common.events.catalogue", fromlist=["catalogue"])
        ).items()
        if isinstance(value, EventType)
    }
    assert set(constants.values()) == set(CATALOGUE.values())
    for service, folder in SERVICES.items():
        named = {
            node.id
            for path in folder.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Name)
        }
        own = {name for name, row in constants.items() if row.publisher is service}
        assert named & constants.keys() == own


def test_only_the_publisher_of_common_makes_events() -> None:
    """Nobody else spells a `ce-` header or publishes to the subjects of events."""
    words = ("ce-", "endpoint_event", "worker_event", "node_event", "scale_event")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("services", "libs", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if any(word in path.read_text() for word in ('"ce-', *words[1:]))
    }
    common = "libs/common/src/penstock_common/"
    assert found == {
        f"{common}subjects.py",
        f"{common}events/catalogue.py",
        f"{common}events/cloud_event.py",
    }


def test_sources_name_the_service_and_which_of_several() -> None:
    assert source(Service.API) == "/penstock/api"
    assert source(Service.NODE_AGENT, "node-a") == "/penstock/node-agent/node-a"


# ---- the envelope

ATTRIBUTES = {"specversion": "1.0", "id": "ev-1", "source": "/penstock/api", "type": "a.b"}


def test_the_binary_mode_has_each_attribute_in_a_header() -> None:
    event = CloudEvent({**ATTRIBUTES, "datacontenttype": "application/json"}, b"{}")
    assert event.headers == {
        "ce-specversion": "1.0",
        "ce-id": "ev-1",
        "ce-source": "/penstock/api",
        "ce-type": "a.b",
        "ce-datacontenttype": "application/json",
    }


def test_what_is_no_printable_ascii_is_percent_encoded_in_headers() -> None:
    """The example of the NATS protocol binding, §3.1.3.2."""
    event = CloudEvent({**ATTRIBUTES, "subject": "Euro € 😀"}, b"")
    assert event.headers["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    assert event.headers["ce-source"] == "/penstock/api"


@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc")),
        min_size=1,
    )
)
def test_any_text_comes_back_from_a_header(text: str) -> None:
    headers = CloudEvent({**ATTRIBUTES, "subject": text}, b"1").headers
    assert headers["ce-subject"].isascii()
    assert CloudEvent.of_message(headers, b"1").attributes["subject"] == text


def test_names_of_headers_are_read_in_any_case_and_others_are_left_out() -> None:
    headers = {f"Ce-{name.title()}": value for name, value in ATTRIBUTES.items()}
    read = CloudEvent.of_message({**headers, "Nats-Msg-Id": "x"}, b"{}")
    assert read.attributes == ATTRIBUTES


@pytest.mark.parametrize("lacking", ATTRIBUTES)
def test_without_a_required_attribute_it_is_no_event(lacking: str) -> None:
    headers = CloudEvent({k: v for k, v in ATTRIBUTES.items() if k != lacking}, b"").headers
    with pytest.raises(NoCloudEventError, match=lacking):
        CloudEvent.of_message(headers, b"")


def test_an_event_of_another_version_is_none_of_ours() -> None:
    headers = CloudEvent({**ATTRIBUTES, "specversion": "2.0"}, b"").headers
    with pytest.raises(NoCloudEventError, match=r"of version 2\.0"):
        CloudEvent.of_message(headers, b"")


def test_the_json_format_has_attributes_and_data_side_by_side() -> None:
    event = CloudEvent(ATTRIBUTES, b'{"a":\n1}')
    assert event.document == {**ATTRIBUTES, "data": {"a": 1}}
    assert "\n" not in json.dumps(event.document)


def test_data_that_are_no_json_stand_in_base64() -> None:
    assert CloudEvent(ATTRIBUTES, b"\xff").document == {**ATTRIBUTES, "data_base64": "/w=="}


def test_the_time_is_read_if_there_is_one() -> None:
    at = datetime(2030, 1, 1, 12, 30, tzinfo=UTC)
    assert CloudEvent({**ATTRIBUTES, "time": "2030-01-01T12:30:00Z"}, b"").time == at
    assert CloudEvent(ATTRIBUTES, b"").time is None


def test_the_example_of_each_type_is_of_its_model() -> None:
    assert EXAMPLES.keys() == CATALOGUE.keys()
    assert {name: type(data) for name, data in EXAMPLES.items()} == {
        name: row.data for name, row in CATALOGUE.items()
    }
