"""What /v1/limits says of a field is what the document's models do."""

from collections.abc import Iterator
from typing import Any, get_args

import annotated_types
import pytest
from pydantic import BaseModel

from penstock_api.limits import document_limits
from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import EndpointSpec, parse_endpoint

NUMBERS = {name: field for name, field in document_limits().items() if field.type != "string"}
WINDOW = {"start": "08:00", "end": "18:00", "min": 1}
VOLUME = {"type": "local", "mount_path": "/m"}


def document(path: str, value: object) -> dict[str, Any]:
    """A document that is right but for this field."""
    made: dict[str, Any] = {"name": "e", "app_name": "e", "image": {"image": "a"}}
    section, _, field = path.partition(".")
    if path.startswith("scaling.schedule[]."):
        made["scaling"] = {"schedule": [{**WINDOW, field.rpartition(".")[2]: value}]}
        made["workers"] = {"max": 10_000}
    elif path.startswith("storage.volumes[]."):
        made["storage"] = {"volumes": [{**VOLUME, field.rpartition(".")[2]: value}]}
    elif path == "workers.min":
        made["workers"] = {"min": value, "max": 10_000}
    else:
        made[section] = {**made.get(section, {}), field: value}
    return made


def pointers(path: str, value: object) -> list[str]:
    """Where the document is refused for this value."""
    try:
        parse_endpoint(document(path, value))
    except InvalidDocumentError as error:
        return [problem.pointer for problem in error.problems]
    return []


@pytest.mark.parametrize("path", NUMBERS)
def test_the_bounds_of_a_number_are_taken_and_what_lies_beyond_is_refused(path: str) -> None:
    field = NUMBERS[path]
    step = 1 if field.type == "integer" else 0.001
    assert field.maximum is not None
    least = field.minimum
    if least is None:
        assert field.exclusive_minimum is not None
        assert pointers(path, field.exclusive_minimum)
        least = field.exclusive_minimum + step
    assert [pointers(path, value) for value in (least, field.maximum)] == [[], []]
    named = path.replace("[]", "/0").replace(".", "/")
    for value in (least - step, field.maximum + step):
        assert f"/{named}" in pointers(path, value)


@pytest.mark.parametrize("path", NUMBERS)
def test_the_default_of_a_number_is_the_document_s(path: str) -> None:
    if "[]" in path:
        return
    spec: Any = parse_endpoint({"name": "e", "app_name": "e", "image": {"image": "a"}})
    for part in path.split("."):
        spec = getattr(spec, part)
    assert NUMBERS[path].default == spec


def bounded(model: type[BaseModel]) -> Iterator[str]:
    """Names of the fields, at any depth, that a model bounds by number."""

    def rules(part: Any) -> Iterator[object]:
        for rule in getattr(part, "__metadata__", ()):
            yield from getattr(rule, "metadata", (rule,))
        for inner in get_args(part):
            yield from rules(inner)

    def inner_models(part: Any) -> Iterator[type[BaseModel]]:
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part
        for inner in get_args(part):
            yield from inner_models(inner)

    for name, field in model.model_fields.items():
        found = [*field.metadata, *rules(field.annotation)]
        if any(isinstance(rule, annotated_types.Ge | annotated_types.Le) for rule in found):
            yield name
        for inner in inner_models(field.annotation):
            yield from bounded(inner)


def test_no_number_of_the_models_is_left_out() -> None:
    shown = sorted(path.rpartition(".")[2].removesuffix("[]") for path in NUMBERS)
    assert shown == sorted(bounded(EndpointSpec))


def test_texts_and_choices_are_told_as_well() -> None:
    limits = document_limits()
    assert (limits["name"].min_length, limits["name"].max_length) == (1, 220)
    assert limits["scaling.type"].one_of == ("queue_delay", "request_count")
    assert limits["storage.volumes[].type"].one_of == ("local", "network")
    assert "env" not in limits
