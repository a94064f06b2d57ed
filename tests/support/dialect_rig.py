"""What the tests of dialects share: documents as the api would show them, and fields by name."""

import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Union, get_args, get_origin

from hypothesis.strategies import SearchStrategy, fixed_dictionaries
from pydantic import BaseModel

from penstock_api.loads import EndpointLoad
from penstock_api.views import endpoint_document
from penstock_client.documents import EndpointDocument
from penstock_common.messages import EndpointRecord
from penstock_common.specs import parse_endpoint

NOW = datetime(2030, 1, 1, tzinfo=UTC)
EP = "ep-0000000000001"


def record_of(document: Mapping[str, Any], *, paused: bool = False) -> EndpointRecord:
    """The record that the api would store for this document."""
    named = {"name": document["app_name"], **document}
    return EndpointRecord(
        endpoint_id=EP,
        spec=parse_endpoint(named),
        revision=1,
        created_at=NOW,
        updated_at=NOW,
        paused=paused,
    )


def shown_of(record: EndpointRecord) -> EndpointDocument:
    """The record as the api shows it before a scheduler has seen it."""
    return endpoint_document(record, None, EndpointLoad(), router_url="http://router.test")


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every field of a model and of those within it, as a `FieldRow` names it."""
    for name, field in model.model_fields.items():
        inner, listed = _inner(field.annotation)
        shown = f"{prefix}{field.alias or name}{'[]' if listed else ''}"
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields_of(inner, f"{shown}.")
        else:
            # A list of plain texts is one field; a list of ports is a list of fields.
            yield shown


def _inner(annotation: Any) -> tuple[Any, bool]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _inner(next(arg for arg in get_args(annotation) if arg is not type(None)))
    if origin is tuple:
        return _inner(get_args(annotation)[0])[0], True
    if hasattr(annotation, "__metadata__"):
        return _inner(get_args(annotation)[0])
    return annotation, False


def at(document: Any, dotted: str) -> Any:
    """The value at a dotted name; of lists the first item."""
    for part in dotted.replace("[]", ".[]").split("."):
        document = document[0] if part == "[]" else document[part]
    return document


def set_at(document: Any, dotted: str, value: object) -> None:
    """Set the value at a dotted name, making what is missing on the way."""
    parts = dotted.replace("[]", ".[]").split(".")
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if not following:
            if part == "[]":
                document[:] = [value]
            else:
                document[part] = value
        elif part == "[]":
            if not document:
                document.append({})
            document = document[0]
        else:
            document = document.setdefault(part, [] if following == "[]" else {})


def objects(
    required: dict[str, SearchStrategy[Any]],
    *,
    optional: dict[str, SearchStrategy[Any]] | None = None,
) -> SearchStrategy[dict[str, Any]]:
    """JSON objects with these members, each made by its strategy."""
    return fixed_dictionaries(required, optional=optional or {})


def columns(page: str, heading: str) -> Sequence[tuple[str, ...]]:
    """The rows of the table that follows a heading of a page, without the head."""
    rows = []
    for line in page.split(f"{heading}\n", 1)[1].splitlines():
        if line.startswith("|"):
            rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
        elif line.startswith("#"):
            break
    return rows[2:]
