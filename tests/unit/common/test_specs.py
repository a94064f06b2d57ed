"""The endpoint document: every bad field is named, every good document survives a round trip."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import (
    RESERVED_APP_NAMES,
    REVISION_SECTIONS,
    EndpointSpec,
    changes_what_runs,
    load_endpoint,
    parse_endpoint,
)

MINIMAL: dict[str, Any] = {"name": "llama", "app_name": "llama-3", "image": {"image": "vllm"}}

FULL: dict[str, Any] = {
    "name": "llama",
    "app_name": "llama-3",
    "image": {
        "image": "vllm/vllm-openai:latest",
        "registry_auth_id": "ra-1",
        "entrypoint": "python -m vllm",
        "command": "--model 'a b' --max-model-len 4096",
        "http_port": 9000,
    },
    "gpu": {"products": ["rtx-4090-24gb"], "count": 2, "min_cuda_version": "12.4"},
    "workers": {
        "min": 1,
        "max": 5,
        "max_concurrency": 8,
        "idle_timeout_s": 30,
        "request_timeout_s": 60,
        "start_timeout_s": 90,
        "stop_grace_s": 2,
        "protocol": "http",
    },
    "scaling": {"type": "request_count", "value": 7},
    "queue": {"max_waiting": 10, "max_wait_s": 20},
    "health": {"path": "/ready", "interval_s": 1, "timeout_s": 1, "failure_threshold": 5},
    "storage": {
        "container_disk_gb": 50,
        "volumes": [
            {"type": "local", "size_gb": 30, "mount_path": "/workspace"},
            {"type": "network", "id": "vol-1", "mount_path": "/data"},
        ],
    },
    "env": {"KEY": "value"},
    "secrets": {"TOKEN": "sealed"},
    "public": True,
}


def with_field(pointer: str, value: object) -> dict[str, Any]:
    """`FULL` with another value where the JSON pointer points."""
    document = copy.deepcopy(FULL)
    at: Any = document
    *path, last = pointer.removeprefix("/").split("/")
    for part in path:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return document


def problems(document: object) -> dict[str, str]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_endpoint(document)
    return {problem.pointer: problem.message for problem in caught.value.problems}


def test_only_something_to_run_is_required_beside_the_names() -> None:
    spec = parse_endpoint(MINIMAL)
    assert (spec.gpu.count, spec.workers.min, spec.workers.max) == (1, 0, 3)
    assert spec.public is False
    parse_endpoint({**MINIMAL, "image": {"command": "python server.py"}})


def test_a_full_document_survives_the_round_trip() -> None:
    spec = parse_endpoint(FULL)
    assert spec.image.argv() == [
        "python",
        "-m",
        "vllm",
        "--model",
        "a b",
        "--max-model-len",
        "4096",
    ]
    assert parse_endpoint(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("document", [None, 1, "x", [], [MINIMAL]])
def test_what_is_no_object(document: object) -> None:
    assert problems(document) == {"": "must be a JSON object"}


def test_all_problems_are_told_at_once() -> None:
    assert set(problems({"image": {}, "gpu": {"count": -1}, "nonsense": 1})) == {
        "/name",
        "/app_name",
        "/image",
        "/gpu/count",
        "/nonsense",
    }


@pytest.mark.parametrize(
    ("pointer", "value", "says"),
    [
        ("/name", "", "at least 1"),
        ("/app_name", "Llama", "lower-case"),
        ("/app_name", "-a", "lower-case"),
        ("/app_name", "a\n", "lower-case"),
        ("/app_name", "v1", "reserved word"),
        ("/image/command", "'open", "close the quote"),
        ("/image/http_port", 0, "greater than or equal to 1"),
        ("/image/http_port", 65536, "less than or equal to 65535"),
        ("/gpu/min_cuda_version", "12", "pattern"),
        ("/workers/max", 0, "greater than or equal to 1"),
        ("/workers/request_timeout_s", 0, "greater than 0"),
        ("/workers/idle_timeout_s", float("nan"), "less than or equal"),
        ("/workers/idle_timeout_s", float("inf"), "less than or equal"),
        ("/workers/protocol", "grpc", "http"),
        ("/scaling/type", "cpu", "queue_delay"),
        ("/scaling/value", 0, "greater than 0"),
        ("/health/path", "health", "pattern"),
        ("/health/path", "/a b", "pattern"),
        ("/storage/volumes/0/mount_path", "relative", "pattern"),
        ("/storage/volumes/1", {"type": "tape"}, "'local', 'network'"),
        ("/env/1A", "x", "variable name"),
        ("/env/PORT", "x", "set by Penstock"),
        ("/env/PENSTOCK_X", "x", "set by Penstock"),
        ("/env/NVIDIA_VISIBLE_DEVICES", "all", "set by Penstock"),
        ("/env/CUDA_VISIBLE_DEVICES", "0", "set by Penstock"),
        ("/secrets/PORT", "x", "set by Penstock"),
        ("/secrets/PENSTOCK_WORKER_ID", "x", "set by Penstock"),
        ("/env/A", "a\0b", "NUL"),
        ("/secrets/A B", "x", "variable name"),
        ("/public", "maybe", "boolean"),
    ],
)
def test_a_bad_field_is_named(pointer: str, value: object, says: str) -> None:
    found = problems(with_field(pointer, value))
    told = pointer if pointer in found else pointer.rsplit("/", 1)[0]
    assert says in found[told]


@pytest.mark.parametrize("app_name", sorted(RESERVED_APP_NAMES))
def test_reserved_app_names(app_name: str) -> None:
    assert "reserved" in problems({**MINIMAL, "app_name": app_name})["/app_name"]


def test_min_above_max_and_a_name_in_env_and_secrets() -> None:
    assert "min 4 is above max 3" in problems({**MINIMAL, "workers": {"min": 4}})["/workers"]
    assert "keep one" in problems({**MINIMAL, "env": {"A": ""}, "secrets": {"A": ""}})[""]


def test_a_misspelt_field_is_pointed_at() -> None:
    found = problems({**MINIMAL, "workres": {}, "gpu": {"cuont": 1}, "zzz": 1})
    assert found["/workres"] == "is no known field; did you mean 'workers'?"
    assert found["/gpu/cuont"] == "is no known field; did you mean 'count'?"
    assert found["/zzz"] == "is no known field; remove it"


def test_a_pointer_is_escaped() -> None:
    assert set(problems({**MINIMAL, "a/b~c": 1})) == {"/a~1b~0c"}


@given(st.text(max_size=70))
def test_app_names_are_dns_labels(app_name: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    good = (
        0 < len(app_name) <= 63
        and set(app_name) <= allowed
        and not app_name.startswith("-")
        and not app_name.endswith("-")
        and app_name not in RESERVED_APP_NAMES
    )
    document = {**MINIMAL, "app_name": app_name}
    if good:
        assert parse_endpoint(document).app_name == app_name
    else:
        assert set(problems(document)) == {"/app_name"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    f"/{name}/{inner}" if isinstance(value, dict) else f"/{name}"
    for name, value in FULL.items()
    for inner in (value if isinstance(value, dict) else [""])
]


@given(pointer=st.sampled_from(FIELDS), value=json_values)
def test_any_json_anywhere_is_a_spec_or_named_problems(pointer: str, value: object) -> None:
    document = with_field(pointer, value)
    try:
        spec = parse_endpoint(document)
    except InvalidDocumentError:
        found = problems(document)
        assert found
        assert all(message and pointer[:1] in ("", "/") for pointer, message in found.items())
        return
    assert parse_endpoint(spec.model_dump(mode="json")) == spec


def test_a_stored_spec_may_hold_what_a_newer_penstock_wrote() -> None:
    document = {**FULL, "newer": 1, "gpu": {**FULL["gpu"], "newer": {"a": 1}}}
    assert load_endpoint(document) == parse_endpoint(FULL)


@pytest.mark.parametrize(
    ("pointer", "value", "changes"),
    [
        ("/image/command", "other", True),
        ("/gpu/count", 1, True),
        ("/health/path", "/", True),
        ("/storage/container_disk_gb", 9, True),
        ("/env/NEW", "1", True),
        ("/secrets/TOKEN", "other", True),
        ("/workers/start_timeout_s", 1, True),
        ("/workers/stop_grace_s", 1, True),
        ("/workers/max", 9, False),
        ("/workers/max_concurrency", 9, False),
        ("/workers/request_timeout_s", 9, False),
        ("/scaling/value", 9, False),
        ("/queue/max_waiting", 9, False),
        ("/name", "other", False),
        ("/app_name", "other", False),
        ("/public", False, False),
    ],
)
def test_which_changes_need_new_workers(pointer: str, value: object, changes: bool) -> None:
    old, new = parse_endpoint(FULL), parse_endpoint(with_field(pointer, value))
    assert old != new
    assert changes_what_runs(old, new) is changes
    assert not changes_what_runs(new, new)


def test_the_sections_that_make_a_revision_exist() -> None:
    assert set(REVISION_SECTIONS) <= set(EndpointSpec.model_fields)
