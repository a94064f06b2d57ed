"""Novita's API v2: every field of a body is a field of ours, and comes back as the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_api.dialects import parse_body, their_pointer
from penstock_api.endpoint_changes import plan_change
from penstock_api.novita.v2 import FIELDS, change, creation, endpoint
from penstock_api.novita.v2_documents import (
    NovitaV2ChangeRequest,
    NovitaV2CreateRequest,
    NovitaV2Endpoint,
)
from penstock_common.errors import InvalidDocumentError
from tests.support.dialect_rig import EP, NOW, at, fields_of, objects, record_of, set_at, shown_of

#: As their documentation gives it.
DOCUMENTED: dict[str, Any] = {
    "type": "sync",
    "name": "x",
    "product_id": "p",
    "image": "repo/img:tag",
    "worker_config": {
        "max_replicas": 2,
        "min_replicas": 0,
        "idle_timeout": 300,
        "max_concurrent_per_worker": 10,
        "gpu_num": 1,
        "rootfs_size_gb": 20,
        "min_cuda_version": "12.4",
        "request_timeout": 60,
    },
    "app_name": "",
    "registry_auth_id": "",
    "entrypoint": "",
    "command": "",
    "policy": {"type": "queue", "value": 100},
    "volumes": [{"id": "vol-1", "type": "network", "size": 1, "mount_point": "/data"}],
    "envs": [{"key": "K", "value": "V"}],
    "ports": [8080],
    "health_check": {"path": "/healthz", "port": 8080},
    "region_id": "",
}
#: Only what must be there.
LEAST: dict[str, Any] = {
    "type": "sync",
    "name": "x",
    "product_id": "p",
    "image": "repo/img:tag",
    "worker_config": {"max_replicas": 2},
}


def document_of(body: object) -> dict[str, Any]:
    """The endpoint document of a creation."""
    return creation(parse_body(NovitaV2CreateRequest, body), EP)


def answer_of(document: dict[str, Any]) -> dict[str, Any]:
    """Their answer about an endpoint of this document, as JSON."""
    shown = endpoint(shown_of(record_of(document)), ())
    answered: dict[str, Any] = json.loads(shown.model_dump_json())
    return answered


def test_the_documented_body_becomes_our_document() -> None:
    assert document_of(DOCUMENTED) == {
        "name": "x",
        "app_name": EP,
        "image": {
            "image": "repo/img:tag",
            "registry_auth_id": None,
            "entrypoint": None,
            "command": None,
            "http_port": 8080,
        },
        "gpu": {"products": ["p"], "count": 1, "min_cuda_version": "12.4"},
        "workers": {
            "min": 0,
            "max": 2,
            "idle_timeout_s": 300,
            "max_concurrency": 10,
            "request_timeout_s": 60,
        },
        "scaling": {"type": "queue_delay", "value": 100},
        "placement": {"node_selector": {}},
        "health": {"path": "/healthz"},
        "storage": {
            "container_disk_gb": 20,
            "volumes": [{"type": "network", "id": "vol-1", "mount_path": "/data"}],
        },
        "public": True,
        "env": {"K": "V"},
    }


def test_the_documented_body_comes_back() -> None:
    answered = answer_of(document_of(DOCUMENTED))
    wanted = DOCUMENTED | {
        "app_name": EP,
        "volumes": [{"id": "vol-1", "type": "network", "size": 0, "mount_point": "/data"}],
    }
    assert {field: answered[field] for field in wanted} == wanted
    assert isinstance(answered["policy"]["value"], int), "their clients read an integer"


def test_a_body_with_only_what_must_be_there_is_taken() -> None:
    answered = answer_of(document_of(LEAST))
    assert answered["worker_config"]["min_replicas"] == 0
    assert (answered["ports"], answered["health_check"]["path"]) == ([8000], "")


#: Field of a body → a value of theirs that is no default, and what it is of ours.
SAMPLES: dict[str, tuple[Any, Any]] = {
    "name": ("n", "n"),
    "product_id": ("h100-80gb", ["h100-80gb"]),
    "image": ("a/b", "a/b"),
    "worker_config.max_replicas": (7, 7),
    "worker_config.min_replicas": (1, 1),
    "worker_config.idle_timeout": (90, 90),
    "worker_config.max_concurrent_per_worker": (16, 16),
    "worker_config.gpu_num": (4, 4),
    "worker_config.rootfs_size_gb": (55, 55),
    "worker_config.min_cuda_version": ("12.8", "12.8"),
    "worker_config.request_timeout": (33, 33),
    "app_name": ("a", "a"),
    "registry_auth_id": ("ra-2", "ra-2"),
    "entrypoint": ("/start", "/start"),
    "command": ("serve", "serve"),
    "policy.type": ("concurrency", "request_count"),
    "policy.value": (12, 12),
    "volumes[].type": ("local", "local"),
    "volumes[].size": (44, 44),
    "volumes[].mount_point": ("/m", "/m"),
    "envs[].key": ("N", {"N": "V"}),
    "envs[].value": ("W", {"K": "W"}),
    "ports[]": (9000, 9000),
    "health_check.path": ("/ping", "/ping"),
    "region_id": ("eu-1", "eu-1"),
}
#: Those that are nothing of ours, or need another body; each has its own test.
APART = {"type", "volumes[].id", "health_check.port"}
ROWS = {row.theirs: row for row in FIELDS}
LOCAL = DOCUMENTED | {
    "volumes": [{"type": "local", "size": 30, "mount_point": "/data"}],
    "health_check": {"path": "/healthz"},
}


def test_the_table_knows_every_field_of_bodies_and_answers_and_no_other() -> None:
    assert set(fields_of(NovitaV2CreateRequest)) == SAMPLES.keys() | APART
    assert set(fields_of(NovitaV2ChangeRequest)) == SAMPLES.keys() | APART
    assert ROWS.keys() == SAMPLES.keys() | APART | set(fields_of(NovitaV2Endpoint))


@pytest.mark.parametrize("theirs", SAMPLES)
def test_a_field_of_theirs_is_the_field_of_ours_that_the_table_names(theirs: str) -> None:
    value, ours = SAMPLES[theirs]
    body = json.loads(json.dumps(LOCAL))
    set_at(body, theirs, value)
    document = document_of(body)
    assert at(document, ROWS[theirs].ours) == ours
    assert at(answer_of(document), theirs) == value


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": "async"}, "/type"),
        ({"ports": [1, 2], "health_check": None}, "/ports"),
        ({"ports": [2222], "health_check": None}, "/ports"),
        ({"ports": None, "health_check": {"port": 2224}}, "/ports"),
        ({"health_check": {"port": 1}}, "/health_check/port"),
        ({"envs": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]}, "/envs/1/key"),
    ],
)
def test_what_only_their_rules_forbid_is_told_in_their_words(
    changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidDocumentError) as refusal:
        document_of(DOCUMENTED | changes)
    assert [problem.pointer for problem in refusal.value.problems] == [pointer]


def test_a_port_that_is_only_probed_is_the_port() -> None:
    document = document_of(LEAST | {"health_check": {"path": "/ok", "port": 9}})
    assert document["image"]["http_port"] == 9


def test_a_pointer_of_ours_becomes_theirs() -> None:
    assert their_pointer("/workers", FIELDS) == "/worker_config"
    assert their_pointer("/image/image", FIELDS) == "/image"
    assert their_pointer("/image", FIELDS) == "/image"
    assert their_pointer("/storage/container_disk_gb", FIELDS) == "/worker_config/rootfs_size_gb"


texts = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
bodies = objects(
    {
        "type": st.just("sync"),
        "name": texts,
        "product_id": st.just("") | texts,
        "image": texts,
        "worker_config": objects(
            {"max_replicas": st.integers(5, 99)},
            optional={
                "min_replicas": st.integers(0, 5),
                "idle_timeout": st.integers(0, 604_800),
                "max_concurrent_per_worker": st.integers(1, 999),
                "gpu_num": st.integers(0, 8),
                "rootfs_size_gb": st.integers(1, 999),
                "min_cuda_version": st.sampled_from(["", "11.8", "12.4"]),
                "request_timeout": st.integers(1, 604_800),
            },
        ),
    },
    optional={
        "registry_auth_id": st.just("") | texts,
        "entrypoint": st.just("") | texts,
        "command": st.just("") | texts,
        "policy": objects(
            {"type": st.sampled_from(["queue", "concurrency"]), "value": st.integers(1, 100_000)}
        ),
        "volumes": st.lists(
            objects(
                {"type": st.just("local"), "id": st.just(""), "size": st.integers(1, 99)}
                | {"mount_point": texts.map("/{}".format)}
            ),
            max_size=3,
            unique_by=lambda volume: volume["mount_point"],
        ),
        "envs": st.lists(
            objects({"key": texts.map("K{}".format), "value": texts}),
            max_size=3,
            unique_by=lambda env: env["key"],
        ),
        "ports": st.lists(st.integers(1, 2221), min_size=1, max_size=1),
        "region_id": st.sampled_from(["", "eu-1"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(bodies)
def test_whatever_is_taken_comes_back_and_sent_back_changes_nothing(body: dict[str, Any]) -> None:
    document = document_of(body)
    answered = answer_of(document)
    config = body.pop("worker_config")
    assert answered["worker_config"] | config == answered["worker_config"]
    assert answered | body == answered
    record = record_of(document)
    echo = parse_body(NovitaV2ChangeRequest, answered)
    auths = {str(record.spec.image.registry_auth_id)}
    patch = change(echo, record.spec)
    assert plan_change(record, patch, seal=dict, now=NOW, registry_auths=auths) is record
