"""Novita's API v1: every field of a body is a field of ours, and comes back as the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_api.dialects import parse_body, their_pointer
from penstock_api.endpoint_changes import plan_change
from penstock_api.novita.v1 import FIELDS, change, creation, endpoint
from penstock_api.novita.v1_documents import (
    NovitaCreateRequest,
    NovitaEndpoint,
    NovitaUpdateRequest,
)
from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import RESERVED_APP_NAMES
from tests.support.dialect_rig import EP, NOW, at, fields_of, objects, record_of, set_at, shown_of

#: As their documentation gives it.
DOCUMENTED: dict[str, Any] = {
    "name": "llama",
    "appName": "llama-3",
    "workerConfig": {
        "minNum": 0,
        "maxNum": 1,
        "freeTimeout": 300,
        "maxConcurrent": 1,
        "gpuNum": 1,
        "requestTimeout": 120,
        "cudaVersion": "12.4",
    },
    "ports": [{"port": 8080}],
    "policy": {"type": "queue", "value": 4},
    "image": {"image": "vllm/vllm-openai:latest", "authId": "ra-1", "command": "--model m"},
    "products": [{"id": "rtx-4090-24gb"}],
    "rootfsSize": 100,
    "volumeMounts": [{"type": "local", "size": 30, "mountPath": "/workspace"}],
    "clusterID": "as-sgp-2",
    "envs": [{"key": "K", "value": "V"}],
    "healthy": {"path": "/health"},
}


def document_of(body: object) -> dict[str, Any]:
    """The endpoint document of a creation."""
    return creation(parse_body(NovitaCreateRequest, {"endpoint": body}).endpoint, EP)


def answer_of(document: dict[str, Any]) -> dict[str, Any]:
    """Their answer about an endpoint of this document, as JSON."""
    shown = endpoint(shown_of(record_of(document)), ())
    answered: dict[str, Any] = json.loads(shown.model_dump_json())
    return answered


def test_the_documented_body_becomes_our_document() -> None:
    assert document_of(DOCUMENTED) == {
        "name": "llama",
        "app_name": "llama-3",
        "image": {
            "image": "vllm/vllm-openai:latest",
            "registry_auth_id": "ra-1",
            "command": "--model m",
            "http_port": 8080,
        },
        "gpu": {"products": ["rtx-4090-24gb"], "count": 1, "min_cuda_version": "12.4"},
        "workers": {
            "min": 0,
            "max": 1,
            "idle_timeout_s": 300,
            "max_concurrency": 1,
            "request_timeout_s": 120,
        },
        "scaling": {"type": "queue_delay", "value": 4},
        "placement": {"node_selector": {"region": "as-sgp-2"}},
        "health": {"path": "/health"},
        "storage": {
            "container_disk_gb": None,
            "volumes": [{"type": "local", "size_gb": 30, "mount_path": "/workspace"}],
        },
        "public": True,
        "env": {"K": "V"},
    }


def test_the_answer_types_numbers_as_theirs_does() -> None:
    answered = answer_of(document_of(DOCUMENTED))
    assert answered["workerConfig"] == {
        "minNum": 0,
        "maxNum": 1,
        "freeTimeout": "300",
        "maxConcurrent": "1",
        "gpuNum": 1,
        "requestTimeout": 120,
        "cudaVersion": "12.4",
    }
    assert answered["policy"] == {"type": "queue", "value": "4"}
    assert answered["ports"] == [{"port": 8080}]
    assert answered["state"] == {"state": "creating", "error": "", "message": ""}
    assert answered["url"] == "http://router.test/llama-3"
    assert answered["healthy"] == {
        "path": "/health",
        "initialDelay": 0,
        "period": 5,
        "timeout": 2,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_body_seen_in_the_wild_is_taken() -> None:
    """Undocumented fields, no volumes, an empty command, and one cluster in a list."""
    body = {
        "name": "pool-1",
        "workerConfig": {
            "minNum": 0,
            "maxNum": 1,
            "freeTimeout": 1000,
            "maxConcurrent": 1,
            "gpuNum": 1,
            "requestTimeout": 120,
        },
        "policy": {"type": "queue", "value": 4},
        "image": {"image": "docker.io/x/y:z", "authId": "ra-1", "command": ""},
        "rootfsSize": 90,
        "products": [{"id": "SL-serverless-3"}],
        "ports": [{"port": 8000}],
        "healthy": {"path": "/ping"},
        "clusterIDs": ["as-sgp-2"],
        "type": "sync",
        "envs": [{"key": "A", "value": "1"}],
    }
    document = document_of(body)
    assert document["app_name"] == EP
    assert document["image"]["command"] is None
    assert document["placement"] == {"node_selector": {"region": "as-sgp-2"}}
    assert answer_of(document)["appName"] == EP


# ---- every field

#: Field of a body → a value of theirs that is no default, and what it is of ours.
SAMPLES: dict[str, tuple[Any, Any]] = {
    "name": ("n", "n"),
    "appName": ("a", "a"),
    "workerConfig.minNum": (1, 1),
    "workerConfig.maxNum": (7, 7),
    "workerConfig.freeTimeout": ("90", 90),
    "workerConfig.maxConcurrent": ("16", 16),
    "workerConfig.gpuNum": (4, 4),
    "workerConfig.requestTimeout": (33, 33),
    "workerConfig.cudaVersion": ("12.8", "12.8"),
    "ports[].port": ("9000", 9000),
    "policy.type": ("concurrency", "request_count"),
    "policy.value": ("12", 12),
    "image.image": ("a/b", "a/b"),
    "image.authId": ("ra-2", "ra-2"),
    "image.command": ("serve", "serve"),
    "products[].id": ("h100-80gb", ["h100-80gb"]),
    "rootfsSize": (55, 55),
    "volumeMounts[].type": ("local", "local"),
    "volumeMounts[].size": (44, 44),
    "volumeMounts[].mountPath": ("/m", "/m"),
    "clusterID": ("r", "r"),
    "clusterIDs[]": ("r", "r"),
    "envs[].key": ("N", {"N": "V"}),
    "envs[].value": ("W", {"K": "W"}),
    "healthy.path": ("/ping", "/ping"),
}
#: Those that are nothing of ours, or need another body; each has its own test.
APART = {"type", "volumeMounts[].id"}
ROWS = {row.theirs: row for row in FIELDS}


def test_the_table_knows_every_field_of_bodies_and_answers_and_no_other() -> None:
    bodies = {name.removeprefix("endpoint.") for name in fields_of(NovitaCreateRequest)}
    assert bodies == SAMPLES.keys() | APART
    told = {name.removesuffix("[]") for name in ROWS}
    known = bodies | set(fields_of(NovitaUpdateRequest)) | set(fields_of(NovitaEndpoint))
    assert told == {name.removesuffix("[]") for name in known}


@pytest.mark.parametrize("theirs", SAMPLES)
def test_a_field_of_theirs_is_the_field_of_ours_that_the_table_names(theirs: str) -> None:
    value, ours = SAMPLES[theirs]
    body = json.loads(json.dumps(DOCUMENTED))
    if theirs == "clusterIDs[]":
        del body["clusterID"]
    set_at(body, theirs, value)
    document = document_of(body)
    name = ROWS[theirs.removesuffix("[]")].ours if theirs not in ROWS else ROWS[theirs].ours
    assert at(document, name) == ours
    if theirs != "clusterIDs[]":
        assert str(at(answer_of(document), theirs)) == str(value)


def test_a_network_volume_goes_by_its_id() -> None:
    mount = {"type": "network", "id": "vol-1", "mountPath": "/n"}
    document = document_of(DOCUMENTED | {"volumeMounts": [mount]})
    assert document["storage"]["volumes"] == [
        {"type": "network", "id": "vol-1", "mount_path": "/n"}
    ]
    assert answer_of(document)["volumeMounts"] == [mount | {"size": 0}]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"type": "async"}, "/type"),
        ({"ports": []}, "/ports"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "/ports"),
        ({"ports": [{"port": 2223}]}, "/ports/0/port"),
        ({"clusterID": None, "clusterIDs": ["a", "b"]}, "/clusterIDs"),
        ({"envs": [{"key": "A", "value": "1"}, {"key": "A", "value": "2"}]}, "/envs/1/key"),
    ],
)
def test_what_only_their_rules_forbid_is_told_in_their_words(
    changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidDocumentError) as refusal:
        document_of(DOCUMENTED | changes)
    assert [problem.pointer for problem in refusal.value.problems] == [pointer]


@pytest.mark.parametrize("number", [True, "", "1e3", "x", "1" * 16, "½", None, [1], 1.5])
def test_no_number_is_no_number(number: object) -> None:
    config = DOCUMENTED["workerConfig"] | {"minNum": number}
    with pytest.raises(InvalidDocumentError) as refusal:
        document_of(DOCUMENTED | {"workerConfig": config})
    (problem,) = refusal.value.problems
    assert problem.pointer == "/endpoint/workerConfig/minNum"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("/workers/min", "/workerConfig/minNum"),
        ("/workers", "/workerConfig"),
        ("/image", "/image"),
        ("/image/http_port", "/ports"),  # ours tells no place
        ("/storage/volumes/3/mount_path", "/volumeMounts/3/mountPath"),
        ("/storage/volumes/3", "/volumeMounts/3"),
        ("/gpu/products/2", "/products"),
        ("/env", "/envs"),
        ("/placement/node_selector/region", "/clusterID"),
        ("/app_name", "/appName"),
        ("/secrets", "/secrets"),
        ("", ""),
    ],
)
def test_a_pointer_of_ours_becomes_theirs(ours: str, theirs: str) -> None:
    assert their_pointer(ours, FIELDS) == theirs


# ---- any body

texts = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)


def either(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[int | str]:
    """As number or as text."""
    return numbers | numbers.map(str)


mounts = st.one_of(
    objects(
        {"type": st.just("local"), "size": st.integers(1, 99), "mountPath": texts.map("/{}".format)}
    ),
    objects({"type": st.just("network"), "id": texts, "mountPath": texts.map("/{}".format)}),
)
bodies = objects(
    {
        "workerConfig": objects(
            {
                "minNum": either(st.integers(0, 5)),
                "maxNum": either(st.integers(5, 99)),
                "freeTimeout": either(st.integers(0, 604_800)),
                "maxConcurrent": either(st.integers(1, 999)),
                "gpuNum": either(st.integers(0, 8)),
            },
            optional={
                "requestTimeout": either(st.integers(1, 604_800)),
                "cudaVersion": st.sampled_from(["", "11.8", "12.4"]),
            },
        ),
        "ports": st.tuples(
            objects(
                {"port": either(st.integers(1, 65535).filter(lambda n: n not in range(2222, 2225)))}
            )
        ),
        "policy": objects(
            {
                "type": st.sampled_from(["queue", "concurrency"]),
                "value": either(st.integers(1, 100_000)),
            }
        ),
        "image": objects(
            {"image": texts},
            optional={"authId": st.just("") | texts, "command": st.just("") | texts},
        ),
    },
    optional={
        "name": texts,
        "appName": st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])", fullmatch=True).filter(
            lambda name: name not in RESERVED_APP_NAMES
        ),
        "products": st.lists(objects({"id": texts}), max_size=3),
        "rootfsSize": either(st.integers(1, 999)),
        "volumeMounts": st.none()
        | st.lists(mounts, max_size=3, unique_by=lambda mount: mount["mountPath"]),
        "clusterID": st.sampled_from(["", "default", "eu-1"]),
        "envs": st.lists(
            objects({"key": texts.map("K{}".format), "value": texts}),
            max_size=3,
            unique_by=lambda env: env["key"],
        ),
        "healthy": objects({"path": st.just("") | texts.map("/{}".format)}),
        "unknown": st.integers(),
    },
)


def plain(value: Any) -> Any:
    """A body without what makes no difference: numbers as text, what is empty."""
    if isinstance(value, dict):
        found = {key: plain(inner) for key, inner in value.items() if key != "unknown"}
        return {key: inner for key, inner in found.items() if inner not in ("", None, [], {}, "0")}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if value is None else str(value)


def is_within(part: Any, whole: Any) -> bool:
    """Whether all that `part` says stands in `whole`."""
    if isinstance(part, dict):
        return all(key in whole and is_within(inner, whole[key]) for key, inner in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(is_within, part, whole))
    return bool(part == whole)


@settings(max_examples=60, deadline=None)
@given(bodies)
def test_whatever_is_taken_comes_back_as_it_was(body: dict[str, Any]) -> None:
    answered = plain(answer_of(document_of(body)))
    sent = plain(body)
    if sent.get("clusterID") == "default":  # no label: all nodes
        del sent["clusterID"]
    assert is_within(sent, answered), (sent, answered)


@settings(max_examples=60, deadline=None)
@given(bodies)
def test_an_update_with_what_was_answered_changes_nothing(body: dict[str, Any]) -> None:
    record = record_of(document_of(body))
    echo = parse_body(NovitaUpdateRequest, answer_of(document_of(body)))
    after = plan_change(
        record,
        change(echo, record.spec),
        seal=dict,
        now=NOW,
        registry_auths={str(record.spec.image.registry_auth_id)},
        volumes={volume.id for volume in record.spec.storage.network_volumes},
    )
    assert after is record


@settings(max_examples=60, deadline=None)
@given(bodies, bodies)
def test_an_update_in_full_makes_it_what_a_creation_would(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    fixed: dict[str, Any] = {
        "name": "n",
        "appName": "app",
        "products": [],
        "rootfsSize": 9,
        "volumeMounts": [],
        "clusterID": "",
        "envs": [],
        "healthy": {"path": ""},
    }
    new = fixed | {key: value for key, value in new.items() if value is not None}
    new["volumeMounts"] = [m for m in new["volumeMounts"] if m["type"] == "local"]
    new["image"] = {"authId": "", "command": "", **new["image"]}
    new["workerConfig"] = {"requestTimeout": 600, "cudaVersion": "", **new["workerConfig"]}
    body = parse_body(NovitaUpdateRequest, {"id": EP, **new})
    record = record_of(document_of({**old, "volumeMounts": []}))
    wanted = record_of(document_of(new)).spec
    auths = {str(wanted.image.registry_auth_id)}
    after = plan_change(record, change(body, record.spec), seal=dict, now=NOW, registry_auths=auths)
    assert after.spec == wanted


def test_a_network_volume_that_stays_stays_read_only() -> None:
    mounts = [{"type": "network", "id": f"vol-{n}", "mountPath": f"/{n}"} for n in (1, 2)]
    document = document_of(DOCUMENTED | {"volumeMounts": mounts})
    document["storage"]["volumes"][0]["read_only"] = True
    spec = record_of(document).spec
    moved = [mounts[0], mounts[1] | {"id": "vol-3"}]
    body = parse_body(NovitaUpdateRequest, {"id": EP, "volumeMounts": moved})
    patched = change(body, spec)["storage"]["volumes"]
    assert [volume.get("read_only", False) for volume in patched] == [True, False]


def test_the_disk_that_all_may_have_is_kept_free_only_where_that_was_asked_for() -> None:
    document = document_of(DOCUMENTED)
    assert answer_of(document)["rootfsSize"] == 100
    body = parse_body(NovitaUpdateRequest, {"id": EP, "rootfsSize": 100})
    document["storage"]["container_disk_gb"] = 100
    assert change(body, record_of(document).spec) == {}
    document["storage"]["container_disk_gb"] = 50
    assert change(body, record_of(document).spec) == {"storage": {"container_disk_gb": None}}


def test_what_an_update_leaves_out_stays_also_labels_and_secrets() -> None:
    document = document_of(DOCUMENTED)
    document["placement"]["node_selector"]["disk"] = "fast"
    document["secrets"] = {"TOKEN": "sealed"}
    record = record_of(document)
    sent = {"id": EP, "clusterID": "", "workers": None, "envs": [{"key": "B", "value": "2"}]}
    body = parse_body(NovitaUpdateRequest, sent)
    after = plan_change(
        record, change(body, record.spec), seal=dict, now=NOW, registry_auths={"ra-1"}
    )
    expected = record.spec.model_copy(
        update={
            "env": {"B": "2"},
            "placement": record.spec.placement.model_copy(
                update={"node_selector": {"disk": "fast"}}
            ),
        }
    )
    assert after.spec == expected
