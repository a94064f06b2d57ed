"""RunPod's REST API: every field of a body is a field of ours, and comes back as the same."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock_api.dialects import parse_body
from penstock_api.endpoint_changes import plan_change
from penstock_api.runpod.documents import (
    RunpodCreateRequest,
    RunpodEndpoint,
    RunpodEndpointRequest,
    RunpodNewTemplate,
    RunpodTemplate,
    RunpodTemplateRequest,
)
from penstock_api.runpod.gpu_types import GPU_TYPES, names_of, products_of
from penstock_api.runpod.v1 import (
    FIELDS,
    TEMPLATE_FIELDS,
    change,
    changed_template,
    creation,
    endpoint,
    new_template,
    template_change,
    template_document,
    wanted_pause,
    what_runs,
)
from penstock_common.errors import InvalidDocumentError
from penstock_common.messages import EndpointRecord, TemplateRecord
from penstock_node_agent.gpus.inventory import product_id
from tests.support.dialect_rig import NOW, at, fields_of, objects, record_of, set_at, shown_of

#: As their documentation gives it.
TEMPLATE: dict[str, Any] = {
    "name": "my template",
    "imageName": "acme/echo:1",
    "containerRegistryAuthId": "ra-1",
    "dockerEntrypoint": ["/bin/sh", "-c"],
    "dockerStartCmd": ["serve --model 'a b'"],
    "env": {"ENV_VAR": "value", "PORT": "8000", "HEALTH_CHECK_PATH": "/health"},
    "containerDiskInGb": 50,
    "volumeInGb": 20,
    "volumeMountPath": "/workspace",
    "ports": ["8888/http", "22/tcp"],
    "isServerless": True,
}
DOCUMENTED: dict[str, Any] = {
    "templateId": "tpl-1",
    "name": "my endpoint",
    "computeType": "GPU",
    "gpuTypeIds": ["NVIDIA GeForce RTX 4090", "NVIDIA RTX A5000"],
    "gpuCount": 1,
    "minCudaVersion": "12.4",
    "idleTimeout": 5,
    "executionTimeoutMs": 600_000,
    "scalerType": "QUEUE_DELAY",
    "scalerValue": 4,
    "workersMax": 3,
    "workersMin": 0,
    "dataCenterIds": ["EU-RO-1", "CA-MTL-1"],
    "flashboot": True,
    "networkVolumeId": "agv6w2qcg7",
}


def template_of(body: object = TEMPLATE) -> TemplateRecord:
    return new_template(parse_body(RunpodNewTemplate, body), template_id="tpl-1", created_at=NOW)


def document_of(body: object, template: TemplateRecord | None = None) -> dict[str, Any]:
    """The endpoint document of a creation."""
    return creation(parse_body(RunpodCreateRequest, body), template or template_of())


def stored(body: object, template: TemplateRecord | None = None) -> EndpointRecord:
    """The record of a creation."""
    record = record_of({"app_name": "app", **document_of(body, template)})
    return wanted_pause(
        parse_body(RunpodCreateRequest, body), record.model_copy(update={"template_id": "tpl-1"})
    )


def answer_of(record: EndpointRecord) -> dict[str, Any]:
    """Their answer about an endpoint, as JSON."""
    shown = endpoint(shown_of(record), record, None, None)
    answered: dict[str, Any] = json.loads(shown.model_dump_json())
    return answered


def test_the_documented_bodies_become_our_document() -> None:
    assert document_of(DOCUMENTED) == {
        "name": "my endpoint",
        "image": {
            "image": "acme/echo:1",
            "registry_auth_id": "ra-1",
            "entrypoint": "/bin/sh -c",
            "command": "'serve --model '\"'\"'a b'\"'\"''",
            "http_port": "8000",
        },
        "gpu": {
            "products": ["rtx-4090-24gb", "rtx-a5000-24gb"],
            "count": 1,
            "min_cuda_version": "12.4",
        },
        "workers": {"min": 0, "max": 3, "idle_timeout_s": 5, "request_timeout_s": 600},
        "scaling": {"type": "queue_delay", "value": 4},
        "health": {"path": "/health"},
        "storage": {
            "container_disk_gb": 50,
            "volumes": [
                {"type": "local", "size_gb": 20, "mount_path": "/workspace"},
                {"type": "network", "id": "agv6w2qcg7", "mount_path": "/runpod-volume"},
            ],
        },
        "env": {"ENV_VAR": "value", "HEALTH_CHECK_PATH": "/health"},
    }


def test_what_a_body_leaves_out_is_as_there() -> None:
    record = stored({"templateId": "tpl-1"}, template_of({"name": "t", "imageName": "a"}))
    spec = record.spec
    assert (spec.name, spec.public, record.paused) == ("t", False, False)
    assert (spec.image.http_port, spec.health.path) == (80, "/ping")
    assert (spec.workers.min, spec.workers.max, spec.workers.idle_timeout_s) == (0, 3, 5)
    assert spec.workers.request_timeout_s == 600
    assert (spec.scaling.type, spec.scaling.value) == ("queue_delay", 4)
    assert spec.storage.container_disk_gb is None
    assert spec.storage.volumes == ()


#: Field of a body → a value that is no default, and what it is of ours.
SAMPLES: dict[str, tuple[Any, Any]] = {
    "name": ("n", "n"),
    "gpuTypeIds": (["NVIDIA L4"], ["l4-24gb"]),
    "gpuCount": (4, 4),
    "minCudaVersion": ("12.8", "12.8"),
    "idleTimeout": (90, 90),
    "executionTimeoutMs": (1500, 1.5),
    "scalerType": ("REQUEST_COUNT", "request_count"),
    "scalerValue": (12, 12),
    "workersMax": (7, 7),
    "workersMin": (1, 1),
}
#: Those that are nothing of ours alone; each has its own test.
APART = {
    "templateId", "computeType", "allowedCudaVersions", "networkVolumeId", "networkVolumeIds",
}  # fmt: skip
ROWS = {row.theirs: row for row in FIELDS}


def plain(names: set[str]) -> set[str]:
    """Names of fields without the marks of lists, and of what is shown within a template."""
    found = {name.replace("[]", "") for name in names}
    return {name for name in found if not name.startswith("template.")}


def test_the_tables_know_every_field_of_bodies_and_answers_and_no_other() -> None:
    body = plain(set(fields_of(RunpodCreateRequest)))
    assert body == SAMPLES.keys() | APART
    assert ROWS.keys() == body | plain(set(fields_of(RunpodEndpoint))) | {"template"}
    told = {row.theirs for row in TEMPLATE_FIELDS}
    known = plain(set(fields_of(RunpodNewTemplate)) | set(fields_of(RunpodTemplate)))
    assert told == known


@pytest.mark.parametrize("theirs", SAMPLES)
def test_a_field_of_theirs_is_the_field_of_ours_that_the_table_names(theirs: str) -> None:
    value, ours = SAMPLES[theirs]
    body = DOCUMENTED | {theirs: value}
    assert at(document_of(body), ROWS[theirs].ours) == ours
    assert answer_of(stored(body))[theirs] == value


#: Field of a template → a value, and what it is of ours.
TEMPLATE_SAMPLES: dict[str, tuple[Any, Any]] = {
    "imageName": ("c/d", "c/d"),
    "containerRegistryAuthId": ("ra-2", "ra-2"),
    "dockerEntrypoint": (["/a b"], "'/a b'"),
    "dockerStartCmd": (["x", "y"], "x y"),
    "env": ({"B": "2"}, {"B": "2"}),
    "ports": (["22/tcp", "9000/http"], 9000),
    "containerDiskInGb": (70, 70),
    "volumeInGb": (33, 33),
    "volumeMountPath": ("/cache", "/cache"),
}


@pytest.mark.parametrize("theirs", TEMPLATE_SAMPLES)
def test_a_field_of_a_template_is_the_field_that_the_table_names(theirs: str) -> None:
    value, ours = TEMPLATE_SAMPLES[theirs]
    body = json.loads(json.dumps(TEMPLATE))
    del body["env"]["PORT"]
    set_at(body, theirs, value)
    template = template_of(body)
    (row,) = [row for row in TEMPLATE_FIELDS if row.theirs == theirs]
    assert at(document_of(DOCUMENTED, template), row.ours) == ours
    assert json.loads(template_document(template).model_dump_json())[theirs] == value


def test_a_template_comes_back_as_it_was_sent() -> None:
    sent = TEMPLATE | {"readme": "# r", "isPublic": True, "category": "AMD"}
    told = json.loads(template_document(template_of(sent)).model_dump_json())
    assert {field: told[field] for field in sent} == sent
    assert (told["id"], told["isRunpod"]) == ("tpl-1", False)


def test_a_change_of_a_template_changes_what_is_given() -> None:
    body = parse_body(RunpodTemplateRequest, {"containerRegistryAuthId": "", "env": {}})
    after = changed_template(body, template_of())
    assert after == template_of().model_copy(update={"registry_auth_id": None, "env": {}})


def test_a_changed_template_changes_its_endpoint_but_for_what_is_the_endpoints_own() -> None:
    record = stored(DOCUMENTED)
    body = {"imageName": "acme/echo:2", "env": {"C": "3"}, "volumeInGb": 0}
    template = changed_template(parse_body(RunpodTemplateRequest, body), template_of())
    after = plan_change(
        record,
        template_change(template, record.spec),
        seal=dict,
        now=NOW,
        registry_auths={"ra-1"},
        volumes={"agv6w2qcg7"},
    )
    assert after.spec == stored(DOCUMENTED, template).spec
    assert after.revision == record.revision + 1


def test_a_cpu_endpoint_has_no_gpu() -> None:
    record = stored(DOCUMENTED | {"computeType": "CPU"})
    assert record.spec.gpu.count == 0
    assert answer_of(record)["computeType"] == "CPU"


def test_of_several_cuda_versions_the_lowest_counts() -> None:
    versions = ["12.4", "12.10", "12.8"]
    body = {"templateId": "tpl-1", "allowedCudaVersions": versions}
    assert stored(body).spec.gpu.min_cuda_version == "12.4"


def test_no_workers_at_most_pauses_and_some_resume() -> None:
    paused = stored(DOCUMENTED | {"workersMax": 0})
    assert paused.paused
    assert (answer_of(paused)["workersMax"], answer_of(paused)["workersMin"]) == (0, 0)
    body = parse_body(RunpodEndpointRequest, {"workersMax": 5})
    patched = plan_change(
        paused,
        change(body, paused.spec),
        seal=dict,
        now=NOW,
        registry_auths={"ra-1"},
        volumes={"agv6w2qcg7"},
    )
    resumed = wanted_pause(body, patched)
    assert (resumed.paused, resumed.spec.workers.max) == (False, 5)
    rename = parse_body(RunpodEndpointRequest, {"name": "n"})
    assert wanted_pause(rename, paused) is paused
    with pytest.raises(InvalidDocumentError) as refusal:
        document_of(DOCUMENTED | {"workersMax": 0, "workersMin": 1})
    assert [p.pointer for p in refusal.value.problems] == ["/workersMin"]


def test_a_network_volume_is_changed_and_the_template_s_is_kept() -> None:
    spec = stored(DOCUMENTED).spec
    other = change(parse_body(RunpodEndpointRequest, {"networkVolumeIds": ["v2"]}), spec)
    assert [volume.get("id") for volume in other["storage"]["volumes"]] == [None, "v2"]
    none = change(parse_body(RunpodEndpointRequest, {"networkVolumeId": ""}), spec)
    assert [volume["type"] for volume in none["storage"]["volumes"]] == ["local"]
    assert "storage" not in change(parse_body(RunpodEndpointRequest, {"name": "n"}), spec)
    with pytest.raises(InvalidDocumentError):
        change(parse_body(RunpodEndpointRequest, {"networkVolumeIds": ["a", "b"]}), spec)


@pytest.mark.parametrize(
    "wrong",
    [
        {"idleTimeout": 0},
        {"idleTimeout": 3601},
        {"scalerValue": 0},
        {"gpuCount": 0},
        {"scalerType": "queue"},
        {"name": "n" * 192},
    ],
)
def test_their_bounds_hold(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocumentError) as refusal:
        parse_body(RunpodEndpointRequest, wrong)
    assert [p.pointer for p in refusal.value.problems] == [f"/{name}" for name in wrong]


@pytest.mark.parametrize("name", GPU_TYPES)
def test_a_gpu_is_the_product_that_a_node_agent_makes_of_it(name: str) -> None:
    sold_gb, product = GPU_TYPES[name]
    assert product_id(name, round(sold_gb * 2**30 * 0.985)) == product
    assert products_of(names_of([product])) == [product]


def test_a_gpu_that_has_no_name_there_is_a_product() -> None:
    assert products_of(["x-8gb", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3"]) == [
        "x-8gb",
        "h100-80gb",
    ]
    assert names_of(["x-8gb"]) == ("x-8gb",)


def test_a_port_that_is_none_is_told() -> None:
    assert what_runs(template_of(TEMPLATE | {"env": {"PORT": "x"}}))["image"]["http_port"] == "x"
    with pytest.raises(InvalidDocumentError) as refusal:
        stored(DOCUMENTED, template_of(TEMPLATE | {"env": {"PORT": "x"}}))
    assert [p.pointer for p in refusal.value.problems] == ["/image/http_port"]


bodies = objects(
    {"templateId": st.just("tpl-1")},
    optional={
        "name": st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=9),
        "gpuTypeIds": st.lists(
            st.sampled_from(sorted({names_of([p])[0] for _, p in GPU_TYPES.values()})),
            max_size=3,
            unique=True,
        ),
        "gpuCount": st.integers(1, 8),
        "minCudaVersion": st.sampled_from(["", "11.8", "12.4"]),
        "idleTimeout": st.integers(1, 3600),
        "executionTimeoutMs": st.integers(1, 604_800_000),
        "scalerType": st.sampled_from(["QUEUE_DELAY", "REQUEST_COUNT"]),
        "scalerValue": st.integers(1, 100_000),
        "workersMax": st.integers(3, 99),
        "workersMin": st.integers(0, 3),
        "networkVolumeId": st.sampled_from(["", "vol-1"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(bodies)
@example({"templateId": "tpl-1", "executionTimeoutMs": 32_011})
def test_whatever_is_taken_comes_back_and_sent_back_changes_nothing(body: dict[str, Any]) -> None:
    record = stored(body)
    answered = answer_of(record)
    assert answered | body == answered
    echo = parse_body(RunpodEndpointRequest, answered)
    after = plan_change(
        record,
        change(echo, record.spec),
        seal=dict,
        now=NOW,
        registry_auths={"ra-1"},
        volumes={"vol-1"},
    )
    assert wanted_pause(echo, after) is record
