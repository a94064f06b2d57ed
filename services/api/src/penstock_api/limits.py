"""What the fields of an endpoint document take, read from its very models [pure].

pydantic describes the models as JSON Schema; here the schema's tree becomes one flat table of the
fields with bounds. Rules that concern several fields at once (`min` within `max`) are not in it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from penstock_client.documents import FieldLimits
from penstock_common.specs import EndpointSpec

_BOUNDED: Final = frozenset({"integer", "number", "string"})
_Schema = Mapping[str, Any]


@cache
def document_limits() -> Mapping[str, FieldLimits]:
    """`section.field` → what it takes, in the document's order; `[]` = of each item of a list."""
    schema = EndpointSpec.model_json_schema()
    limits: dict[str, FieldLimits] = {}
    for path, found in _fields(schema, schema["$defs"], ""):
        limits[path] = _either(limits[path], found) if path in limits else found
    return limits


def _fields(
    schema: _Schema, definitions: Mapping[str, _Schema], path: str
) -> Iterable[tuple[str, FieldLimits]]:
    """The bounded fields at and below this part of the schema."""
    if "$ref" in schema:
        yield from _fields(definitions[schema["$ref"].rpartition("/")[2]], definitions, path)
        return
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        # What is said of an alternative's default stands beside the alternatives.
        yield from _fields({"default": schema.get("default"), **part}, definitions, path)
    if schema.get("type") == "array":
        yield from _fields(schema["items"], definitions, f"{path}[]")
    for name, field in schema.get("properties", {}).items():
        yield from _fields(field, definitions, f"{path}.{name}" if path else name)
    if schema.get("type") in _BOUNDED and (limits := _limits(schema)) is not None:
        yield path, limits


def _either(one: FieldLimits, other: FieldLimits) -> FieldLimits:
    """What a field takes that stands in several alternatives: the name of each, else the same."""
    if one.one_of is None or other.one_of is None:
        return other
    return other.model_copy(update={"one_of": (*one.one_of, *other.one_of)})


def _limits(schema: _Schema) -> FieldLimits | None:
    """What a field takes; None = any text."""
    one_of = (schema["const"],) if "const" in schema else schema.get("enum")
    limits = FieldLimits(
        type=schema["type"],
        minimum=schema.get("minimum"),
        exclusive_minimum=schema.get("exclusiveMinimum"),
        maximum=schema.get("maximum"),
        min_length=schema.get("minLength"),
        max_length=schema.get("maxLength"),
        pattern=schema.get("pattern"),
        one_of=None if one_of is None else tuple(one_of),
        default=schema.get("default"),
    )
    bounds = (limits.max_length, limits.pattern, limits.one_of)
    return None if limits.type == "string" and bounds == (None, None, None) else limits
