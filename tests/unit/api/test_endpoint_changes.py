"""Endpoint records: merge patch laws, revisions, secrets, generated names, refusals."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.endpoint_changes import (
    READ_ONLY,
    AppNameTakenError,
    EndpointDeletingError,
    app_name_base,
    check_app_name_free,
    merge_patch,
    plan_change,
    plan_creation,
    plan_deletion,
    plan_pause,
)
from penstock_client.documents import EndpointDocument
from penstock_common.errors import InvalidDocumentError
from penstock_common.messages import EndpointRecord
from penstock_common.specs import EndpointSpec, changes_what_runs, parse_endpoint

MADE = datetime(2030, 1, 1, tzinfo=UTC)
LATER = MADE + timedelta(hours=1)
ID = "ep-0000000000000"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=6,
)
json_objects = st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4)


def seal(secrets: Mapping[str, str]) -> dict[str, str]:
    return {name: f"sealed({value})" for name, value in secrets.items()}


def create(document: object, *, suffix: str = "x7k2p") -> EndpointRecord:
    return plan_creation(document, endpoint_id=ID, suffix=suffix, seal=seal, now=MADE)


def change(record: EndpointRecord, patch: object) -> EndpointRecord:
    return plan_change(record, patch, seal=seal, now=LATER)


def endpoint(**changes: Any) -> EndpointRecord:
    return create({"app_name": "echo", "image": {"image": "acme/echo"}, **changes})


def problems(document: object) -> dict[str, str]:
    with pytest.raises(InvalidDocumentError) as caught:
        create(document)
    return {problem.pointer: problem.message for problem in caught.value.problems}


# ---- merge patch (RFC 7396)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(target: object, patch: object, result: object) -> None:
    assert merge_patch(target, patch) == result


@given(json_values)
def test_an_empty_patch_changes_no_object(target: object) -> None:
    assert merge_patch(target, {}) == (target if isinstance(target, dict) else {})


@given(json_values, json_values)
def test_a_patch_applied_twice_is_a_patch_applied_once(target: object, patch: object) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(json_objects, json_objects)
def test_every_member_obeys_the_patch_and_the_others_stay(
    target: dict[str, Any], patch: dict[str, Any]
) -> None:
    merged = merge_patch(target, patch)
    assert isinstance(merged, dict)
    assert merged.keys() == (target.keys() | patch.keys()) - {
        name for name, value in patch.items() if value is None
    }
    assert all(merged[name] == target[name] for name in target.keys() - patch.keys())


@given(json_objects, json_objects)
def test_neither_target_nor_patch_is_changed(target: dict[str, Any], patch: dict[str, Any]) -> None:
    before = (repr(target), repr(patch))
    merge_patch(target, patch)
    assert (repr(target), repr(patch)) == before


# ---- creation


def test_only_something_to_run_is_required() -> None:
    record = create({"image": {"image": "registry.example:5000/acme/Llama_3:v1@sha256:00"}})
    assert record.spec.app_name == "llama-3-x7k2p"
    assert record.spec.name == "llama-3-x7k2p"
    assert (record.revision, record.created_at, record.updated_at) == (1, MADE, MADE)


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ({"image": "vllm/vllm-openai:latest"}, "vllm-openai"),
        ({"image": "localhost:5000/echo"}, "echo"),
        ({"command": "python3 -u /srv/examples/echo_server.py --port 1"}, "echo-server"),
        ({"command": "env A=1 uv run serve.sh"}, "serve"),
        ({"command": "python -m http.server"}, "http-server"),
        ({"command": "sh -c 'exit 7'"}, "exit-7"),
        ({"command": "'open quote"}, "endpoint"),
        ({"image": "___"}, "endpoint"),
        ({"image": 7}, "endpoint"),
        ("no object", "endpoint"),
    ],
)
def test_a_generated_app_name_begins_with_what_runs(image: object, base: str) -> None:
    assert app_name_base({"image": image}) == base


@given(st.text(max_size=300), st.booleans())
def test_a_generated_app_name_is_always_a_valid_one(text: str, as_command: bool) -> None:
    base = app_name_base({"image": {"command" if as_command else "image": text}})
    parse_endpoint({"name": "n", "app_name": f"{base}-x7k2p", "image": {"image": "a"}})


def test_a_name_of_null_counts_as_left_out() -> None:
    record = create({"name": None, "app_name": None, "image": {"image": "acme/echo"}})
    assert record.spec.name == record.spec.app_name == "echo-x7k2p"


def test_all_errors_are_told_at_once() -> None:
    found = problems(
        {
            "app_name": "v1",
            "image": {"image": "a", "http_port": 0, "registry_auth_id": "ra-1"},
            "workers": {"min": 5, "max": 2},
            "storage": {"volumes": [{"type": "network", "id": "vol-1", "mount_path": "/d"}]},
            "colour": "blue",
        }
    )
    assert found.keys() == {
        "/app_name",
        "/image/http_port",
        "/image/registry_auth_id",
        "/workers",
        "/storage/volumes/0/id",
        "/colour",
    }
    assert "no such registry auth" in found["/image/registry_auth_id"]


def test_an_app_name_that_reads_as_an_id_is_refused_but_for_its_own() -> None:
    other = ID[:-1] + ("0" if ID[-1] != "0" else "1")
    assert "id" in problems({"app_name": other, "image": {"image": "a"}})["/app_name"]
    assert endpoint(app_name=ID).spec.app_name == ID


@pytest.mark.parametrize("document", [None, [], "text", 3, True])
def test_what_is_no_object_is_refused(document: object) -> None:
    assert problems(document) == {"": "must be a JSON object"}


def test_secrets_are_sealed_before_they_are_kept() -> None:
    assert endpoint(secrets={"TOKEN": "abc"}).spec.secrets == {"TOKEN": "sealed(abc)"}


def test_the_read_only_fields_are_those_that_the_answer_adds() -> None:
    added = EndpointDocument.model_fields.keys() - EndpointSpec.model_fields.keys()
    assert added == READ_ONLY


# ---- changes

spec_patches = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["echo", "other"]),
        "image": st.fixed_dictionaries(
            {}, optional={"http_port": st.none() | st.sampled_from([8000, 9000])}
        ),
        "gpu": st.none() | st.fixed_dictionaries({"count": st.integers(0, 2)}),
        "workers": st.fixed_dictionaries(
            {},
            optional={
                "max": st.integers(2, 4),
                "max_concurrency": st.integers(1, 3),
                "idle_timeout_s": st.sampled_from([1, 60]),
                "start_timeout_s": st.sampled_from([10, 900]),
                "stop_grace_s": st.sampled_from([1, 5]),
            },
        ),
        "scaling": st.none() | st.fixed_dictionaries({"value": st.integers(1, 9)}),
        "queue": st.none() | st.fixed_dictionaries({"max_waiting": st.integers(1, 9)}),
        "health": st.none() | st.fixed_dictionaries({"path": st.sampled_from(["/a", None])}),
        "env": st.none()
        | st.dictionaries(st.sampled_from(["A", "B"]), st.none() | st.sampled_from(["1", "2"])),
        "secrets": st.none()
        | st.dictionaries(st.sampled_from(["S", "T"]), st.none() | st.sampled_from(["1", "2"])),
        "public": st.booleans(),
    },
)


@given(st.lists(spec_patches, max_size=6))
def test_the_revision_grows_by_one_exactly_when_what_runs_changes(
    patches: list[dict[str, Any]],
) -> None:
    record = endpoint(secrets={"S": "0"}, env={"A": "0"})
    for patch in patches:
        new = change(record, patch)
        bump = changes_what_runs(record.spec, new.spec)
        assert new.revision == record.revision + bump
        assert (new is record) == (new.spec == record.spec)
        assert new.updated_at == (record.updated_at if new is record else LATER)
        assert change(new, patch) is new  # a patch sent again does nothing
        record = new


@given(
    st.dictionaries(st.sampled_from("ABCD"), st.sampled_from("123"), max_size=4),
    st.dictionaries(st.sampled_from("ABCD"), st.none() | st.sampled_from("456"), max_size=4),
)
def test_a_secret_is_kept_replaced_or_removed_as_the_patch_says(
    before: dict[str, str], patch: dict[str, str | None]
) -> None:
    sealed_before = seal(before)
    after = change(endpoint(secrets=before), {"secrets": patch}).spec.secrets
    for name in "ABCD":
        if name not in patch:
            assert after.get(name) == sealed_before.get(name)  # not sealed a second time
        elif patch[name] is None:
            assert name not in after
        else:
            assert after[name] == f"sealed({patch[name]})"


def test_null_takes_all_secrets_away() -> None:
    record = endpoint(secrets={"A": "1"})
    assert change(record, {"secrets": None}).spec.secrets == {}


def test_the_list_of_names_that_answers_show_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        change(endpoint(secrets={"A": "1"}), {"secrets": ["A"]})
    assert [p.pointer for p in caught.value.problems] == ["/secrets"]
    assert "leave it out" in caught.value.problems[0].message


def test_a_null_health_path_is_a_value() -> None:
    record = endpoint(health={"path": "/ready"})
    assert change(record, {"health": {"path": None}}).spec.health.path is None
    assert change(record, {"health": None}).spec.health.path == "/health"


def test_read_only_fields_are_refused_by_name() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        change(endpoint(), {"state": "paused", "load": {}, "name": ""})
    messages = {p.pointer: p.message for p in caught.value.problems}
    assert messages.keys() == {"/state", "/load", "/name"}
    assert "read-only" in messages["/state"]
    assert "read-only" in messages["/load"]


@pytest.mark.parametrize("patch", [None, [], "text", 3])
def test_a_patch_that_is_no_object_is_refused(patch: object) -> None:
    with pytest.raises(InvalidDocumentError):
        change(endpoint(), patch)


# ---- pause, delete, names


def test_pausing_twice_is_pausing_once() -> None:
    record = endpoint()
    paused = plan_pause(record, True, now=LATER)
    assert (paused.paused, paused.revision, paused.updated_at) == (True, 1, LATER)
    assert plan_pause(paused, True, now=LATER) is paused
    assert plan_pause(record, False, now=LATER) is record
    assert not plan_pause(paused, False, now=LATER).paused


def test_deletion_is_for_good() -> None:
    deleted = plan_deletion(endpoint(), now=LATER)
    assert deleted.deleted_at == LATER
    assert plan_deletion(deleted, now=LATER + timedelta(seconds=1)) is deleted
    with pytest.raises(EndpointDeletingError):
        change(deleted, {})
    with pytest.raises(EndpointDeletingError):
        plan_pause(deleted, True, now=LATER)


def test_an_app_name_belongs_to_one_endpoint_until_its_record_is_gone() -> None:
    record = endpoint()
    check_app_name_free(record, [record])
    other = record.model_copy(update={"endpoint_id": "ep-1", "deleted_at": LATER})
    with pytest.raises(AppNameTakenError):
        check_app_name_free(record, [record, other])
