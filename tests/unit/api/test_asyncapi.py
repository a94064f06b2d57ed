"""The AsyncAPI document is one, is whole, and says what calls and events are."""

import copy
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from penstock_api.rpc.asyncapi import asyncapi_document
from penstock_api.rpc.asyncapi_page import asyncapi_page
from penstock_api.rpc.service import OPERATIONS
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE
from penstock_common.events.examples import EXAMPLES
from tests.support.asyncapi import validator

FIXTURE = Path(__file__).parents[2] / "fixtures/asyncapi/3.0.0.json.gz"
OFFICIAL = jsonschema_rs.validator_for(json.loads(gzip.decompress(FIXTURE.read_bytes())))
DOCUMENT = asyncapi_document(OPERATIONS, tuple(CATALOGUE.values()), version="1.2.3")


def refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)


def lookup(ref: str) -> Any:
    found: Any = DOCUMENT
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_is_an_asyncapi_3_document() -> None:
    assert [error.message for error in OFFICIAL.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    "path",
    [("info", "title"), ("operations", "endpoint.create", "action"), ("servers", "nats", "host")],
)
def test_the_official_schema_would_tell_of_a_mistake(path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(DOCUMENT)
    inner = broken
    for part in path[:-1]:
        inner = inner[part]
    del inner[path[-1]]
    assert not OFFICIAL.is_valid(broken)


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to() -> None:
    referred = set(refs(DOCUMENT))
    for ref in referred:
        lookup(ref)
    for kind in ("schemas", "messages"):
        named = {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]}
        assert named <= referred


def test_every_call_and_every_event_is_an_operation() -> None:
    assert set(DOCUMENT["operations"]) == {o.name for o in OPERATIONS} | set(CATALOGUE)
    for name, operation in DOCUMENT["operations"].items():
        channel = lookup(operation["channel"]["$ref"])
        assert operation["action"] == ("send" if name in CATALOGUE else "receive")
        assert channel["address"].startswith(subjects.PREFIX)
        assert ("reply" in operation) == (name not in CATALOGUE)
        told = [lookup(lookup(ref["$ref"])["$ref"]) for ref in operation["messages"]]
        assert [message["payload"].keys() for message in told] == [{"$ref"}]


def test_the_parameters_of_a_subject_are_told() -> None:
    channel = DOCUMENT["channels"]["penstock.worker.running"]
    assert channel["address"] == "penstock.v1.events.worker.{endpoint_id}.{worker_id}.running"
    assert set(channel["parameters"]) == {"endpoint_id", "worker_id"}


def test_examples_are_examples() -> None:
    for operation in OPERATIONS:
        (example,) = DOCUMENT["components"]["messages"][f"{operation.name}.request"]["examples"]
        validator(DOCUMENT, f"{operation.name}.request", "payload").validate(example["payload"])


def test_the_data_of_every_event_are_as_told() -> None:
    assert set(EXAMPLES) == set(CATALOGUE)
    for name, data in EXAMPLES.items():
        validator(DOCUMENT, name, "payload").validate(json.loads(data.encode()))


@pytest.mark.parametrize(
    "document",
    [{}, {"endpoint": ""}, {"endpoint": "a", "more": 1}, {"endpoint": "a", "change": {"gpu": 1}}],
)
def test_a_wrong_request_is_told_by_its_schema(document: dict[str, object]) -> None:
    assert not validator(DOCUMENT, "endpoint.update.request", "payload").is_valid(document)


def test_the_page_shows_every_operation_and_loads_nothing() -> None:
    page = asyncapi_page(DOCUMENT)
    for name, operation in DOCUMENT["operations"].items():
        assert f"<details id='{name}'>" in page
        assert f"<code>{lookup(operation['channel']['$ref'])['address']}</code>" in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f"<details id='{name}'>" in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1", "")
    assert "src=" not in page
