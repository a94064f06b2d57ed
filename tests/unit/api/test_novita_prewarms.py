"""Novita's image prewarms as ours."""

import json
from datetime import timedelta
from typing import Any

import pytest

from penstock_api.dialects import parse_body
from penstock_api.novita.prewarms import (
    FIELDS,
    STATES,
    NovitaPrewarm,
    NovitaPrewarmRequest,
    creation,
    matches,
    prewarm,
)
from penstock_client.documents import NodeDocument, PrewarmDocument, PrewarmProgress
from penstock_common.errors import InvalidDocumentError
from penstock_common.messages import PrewarmState
from penstock_common.prewarms import parse_prewarm
from tests.support.dialect_rig import NOW, fields_of
from tests.unit.api.test_novita_catalog import node

NODES = [node("node-a", "rtx-4090-24gb", 1, region="eu-1"), node("node-b", "rtx-4090-24gb", 1)]
#: As their documentation gives it.
BODY: dict[str, Any] = {
    "imageUrl": "docker.io/acme/echo:1",
    "repositoryAuth": "ra-1",
    "clusterId": "eu-1",
    "productIds": ["rtx-4090-24gb"],
    "note": "for Monday",
}


def document_of(body: object, nodes: list[NodeDocument] = NODES) -> dict[str, Any]:
    return creation(parse_body(NovitaPrewarmRequest, body), nodes)


def shown(state: PrewarmState, *progress: PrewarmProgress, **fields: Any) -> NovitaPrewarm:
    spec = parse_prewarm(document_of(BODY | fields))
    document = PrewarmDocument(
        id="pw-1",
        state=state,
        progress=progress,
        created_at=NOW,
        **spec.model_dump(),
    )
    return prewarm(document, "for Monday", NODES)


def test_the_documented_body_becomes_ours_and_comes_back() -> None:
    assert document_of(BODY) == {
        "image": "docker.io/acme/echo:1",
        "registry_auth_id": "ra-1",
        "nodes": ["node-a"],
        "products": ["rtx-4090-24gb"],
    }
    told = json.loads(shown(PrewarmState.PENDING).model_dump_json())
    assert {name: told[name] for name in BODY if name != "productIds"} == {
        name: value for name, value in BODY.items() if name != "productIds"
    }
    assert told["products"] == [{"productId": "rtx-4090-24gb", "productName": "rtx-4090-24gb"}]
    assert (told["imageName"], told["state"], told["completeTime"]) == ("echo", "Pending", "")
    assert told["createTime"] == "1893456000"


def test_every_cluster_is_every_node_and_an_unknown_one_none() -> None:
    for cluster in ("", "default"):
        assert document_of(BODY | {"clusterId": cluster})["nodes"] == []
    assert shown(PrewarmState.PENDING, clusterId="default").cluster_id == "default"
    with pytest.raises(InvalidDocumentError) as refusal:
        document_of(BODY | {"clusterId": "mars"})
    assert [p.pointer for p in refusal.value.problems] == ["/clusterId"]


def test_how_it_went_is_told() -> None:
    done = PrewarmProgress(
        node_id="node-a",
        state=PrewarmState.DONE,
        pull_total_bytes=7,
        updated_at=NOW + timedelta(seconds=5),
    )
    failed = PrewarmProgress(
        node_id="node-b", state=PrewarmState.FAILED, message="no such image", updated_at=NOW
    )
    told = shown(PrewarmState.FAILED, done, failed)
    assert (told.state, told.reason) == ("Failed", ("node-b: no such image",))
    assert (told.image_size, told.complete_time) == ("7", "1893456005")
    assert shown(PrewarmState.PULLING, done).complete_time == ""


def test_a_list_is_narrowed() -> None:
    one = shown(PrewarmState.DONE)
    assert matches(one, state="", cluster="", name="")
    assert matches(one, state="Succeeded", cluster="eu-1", name="MONDAY")
    assert matches(one, state="", cluster="", name="ech")
    assert not matches(one, state="Failed", cluster="", name="")
    assert not matches(one, state="", cluster="default", name="")
    assert not matches(one, state="", cluster="", name="acme")


def test_every_state_has_a_word_and_every_field_a_row() -> None:
    assert STATES.keys() == set(PrewarmState)
    known = {*fields_of(NovitaPrewarmRequest), *fields_of(NovitaPrewarm)}
    assert {row.theirs for row in FIELDS} == {name.replace("[]", "") for name in known}
