"""A whole document in the place of another: defaults come back, secrets stay, twice is once."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.endpoint_changes import EndpointDeletingError, plan_creation, plan_deletion
from penstock_api.replacements import plan_document, plan_replacement, whole_document
from penstock_common.errors import InvalidDocumentError
from penstock_common.messages import EndpointRecord
from penstock_common.specs import changes_what_runs

MADE = datetime(2030, 1, 1, tzinfo=UTC)
LATER = MADE + timedelta(hours=1)
ID = "ep-0000000000000"
ECHO: dict[str, Any] = {"app_name": "echo", "image": {"image": "acme/echo"}}


def seal(secrets: Mapping[str, str]) -> dict[str, str]:
    return {name: f"sealed({value})" for name, value in secrets.items()}


def holds(token: str, value: str) -> bool:
    return token == f"sealed({value})"


def endpoint(**changes: Any) -> EndpointRecord:
    document = whole_document({**ECHO, **changes}, "echo")
    return plan_creation(document, endpoint_id=ID, suffix="xxxxx", seal=seal, now=MADE)


def replaced(record: EndpointRecord, document: object) -> EndpointRecord:
    return plan_replacement(record, document, seal=seal, holds=holds, now=LATER)


def test_what_the_document_leaves_out_has_its_default_again() -> None:
    record = endpoint(
        name="Echo", workers={"max": 9}, env={"A": "1"}, health={"path": None}, public=True
    )
    after = replaced(record, ECHO)
    assert after.spec == endpoint().spec
    assert (after.revision, after.updated_at) == (2, LATER)


def test_null_is_as_left_out_but_for_the_health_path() -> None:
    document = {**ECHO, "workers": None, "env": None, "secrets": None, "health": {"path": None}}
    record = replaced(endpoint(), document)
    assert record.spec.health.path is None
    assert record.spec.workers == endpoint().spec.workers
    assert record.spec.secrets == {}


def test_only_limits_change_no_worker() -> None:
    after = replaced(endpoint(), {**ECHO, "workers": {"max": 9}})
    assert (after.revision, after.spec.workers.max) == (1, 9)


def test_the_app_name_stays_where_the_document_names_none() -> None:
    after = replaced(endpoint(), {"image": {"image": "acme/echo:2"}})
    assert (after.spec.app_name, after.spec.name) == ("echo", "echo")
    assert replaced(endpoint(), {**ECHO, "app_name": "other"}).spec.app_name == "other"


@given(
    st.dictionaries(st.sampled_from("ABCD"), st.sampled_from("123"), max_size=4),
    st.none()
    | st.dictionaries(st.sampled_from("ABCD"), st.none() | st.sampled_from("123"), max_size=4),
)
def test_a_secret_stays_is_set_or_goes_as_the_document_says(
    before: dict[str, str], secrets: dict[str, str | None] | None
) -> None:
    record = endpoint(secrets=before)
    document = {**ECHO, "secrets": secrets}
    after = replaced(record, document)
    wanted = {k: v for k, v in {**before, **(secrets or {})}.items() if v is not None}
    assert after.spec.secrets == seal(wanted)
    assert (after is record) == (wanted == before)
    assert replaced(after, document) is after


def test_a_secret_that_becomes_a_plain_variable_is_none_any_more() -> None:
    after = replaced(endpoint(secrets={"A": "1", "B": "2"}), {**ECHO, "env": {"A": "open"}})
    assert after.spec.env == {"A": "open"}
    assert after.spec.secrets == {"B": "sealed(2)"}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ({**ECHO, "secrets": ["A"]}, "/secrets"),
        ({**ECHO, "state": "serving"}, "/state"),
        ({"app_name": "echo"}, "/image"),
    ],
)
def test_a_wrong_document_says_where(document: object, pointer: str) -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        replaced(endpoint(secrets={"A": "1"}), document)
    assert [problem.pointer for problem in caught.value.problems] == [pointer]


def test_an_endpoint_that_is_being_deleted_takes_no_document() -> None:
    with pytest.raises(EndpointDeletingError):
        replaced(plan_deletion(endpoint(), now=LATER), ECHO)


def test_a_plan_of_a_change_says_what_replaces_workers_and_hides_secrets() -> None:
    before = endpoint(secrets={"A": "old", "B": "same", "C": "goes"}, env={"X": "1"})
    after = replaced(
        before,
        {
            **ECHO,
            "workers": {"max": 9, "stop_grace_s": 6},
            "secrets": {"A": "new", "B": "same", "C": None, "D": "more"},
        },
    )
    plan = plan_document(before, after)
    assert (plan.creates, plan.revision, plan.replaces_workers) == (False, 2, True)
    assert [(c.pointer, c.before, c.after, c.replaces_workers) for c in plan.changes] == [
        ("/env/X", "1", None, True),
        ("/secrets/A", "(hidden)", "(hidden)", True),
        ("/secrets/C", "(hidden)", None, True),
        ("/secrets/D", None, "(hidden)", True),
        ("/workers/max", 3, 9, False),
        ("/workers/stop_grace_s", 5.0, 6.0, True),
    ]
    assert plan.secrets_kept == ("B",)


def test_a_plan_of_a_new_endpoint_names_what_is_no_default() -> None:
    after = endpoint(workers={"max": 3, "min": 1}, secrets={"A": "1"})
    plan = plan_document(None, after)
    assert (plan.creates, plan.revision, plan.replaces_workers) == (True, 1, False)
    assert [(c.pointer, c.before, c.after) for c in plan.changes] == [
        ("/app_name", None, "echo"),
        ("/image/image", None, "acme/echo"),
        ("/name", None, "echo"),
        ("/secrets/A", None, "(hidden)"),
        ("/workers/min", 0, 1),
    ]


DOCUMENTS = st.fixed_dictionaries(
    {"app_name": st.just("echo"), "image": st.just({"image": "acme/echo"})},
    optional={
        "env": st.none() | st.dictionaries(st.sampled_from("AB"), st.sampled_from("12")),
        "workers": st.none() | st.fixed_dictionaries({"max": st.integers(1, 3)}),
        "health": st.fixed_dictionaries({"path": st.sampled_from([None, "/up", "/health"])}),
        "public": st.booleans(),
    },
)


@given(DOCUMENTS, DOCUMENTS)
def test_a_plan_tells_of_a_change_exactly_when_there_is_one(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    before = replaced(endpoint(), first)
    after = replaced(before, second)
    plan = plan_document(before, after)
    assert bool(plan.changes) == (after is not before)
    assert plan.replaces_workers == any(change.replaces_workers for change in plan.changes)
    assert plan.replaces_workers == changes_what_runs(before.spec, after.spec)
    assert after.spec == replaced(endpoint(), second).spec  # nothing of the first is left
