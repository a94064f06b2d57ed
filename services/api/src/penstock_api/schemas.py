"""JSON Schemas of models, as the components of an OpenAPI or AsyncAPI document [pure].

What a model cannot say is added: fields that the api makes when they are left out are not required,
and of a document that is changed by a merge patch (RFC 7396) there is one in which nothing is
required and null removes. Descriptions of fields are the `#:` comments above them in the source.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

COMPONENT: Final = "#/components/schemas/"

Schema = dict[str, Any]
#: a model, and the role in which it is met
Role = tuple[type[BaseModel], Literal["serialization", "validation", "patch"]]
Refs = Mapping[Role, str]


@dataclass(frozen=True, slots=True)
class Taken:
    """A model that requests are made of."""

    model: type[BaseModel]
    #: required fields that the api makes when they are left out
    made_when_missing: tuple[str, ...] = ()
    #: it is met as a whole
    whole: bool = True
    #: it is met as a merge patch
    patch: bool = False


def make_schemas(
    bodies: Sequence[Taken], answers: Iterable[type[BaseModel]]
) -> tuple[dict[str, Schema], Refs]:
    """Every component by name, and the reference of each model in each role.

    Args:
        bodies: what is taken.
        answers: what is answered or told.
    """
    wanted: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = []
    wanted += [(answer, "serialization") for answer in dict.fromkeys(answers)]
    wanted += [(taken, "validation") for taken in dict.fromkeys(body.model for body in bodies)]
    found, made = models_json_schema(wanted, ref_template=COMPONENT + "{model}")
    of: dict[Role, str] = {}
    for taken, role in wanted:
        of[taken, role] = found[taken, role]["$ref"]
    schemas: dict[str, Schema] = {}
    described = {model.__name__: model for model in _reached(taken for taken, _ in wanted)}
    for name, schema in made.get("$defs", {}).items():
        model = described.get(name.removesuffix("-Input").removesuffix("-Output"))
        schemas[name] = _describe(schema, model) if model else schema
    for body in bodies:
        name = of[body.model, "validation"].removeprefix(COMPONENT)
        optional = set(body.made_when_missing) & set(schemas[name].get("properties", {}))
        if optional:
            schemas[name]["required"] = [
                field for field in schemas[name].get("required", []) if field not in optional
            ]
        if body.patch:
            of[body.model, "patch"] = _add_patch(schemas, name)
    for body in bodies:
        if not body.whole:  # it is only met as a patch
            schemas.pop(of[body.model, "validation"].removeprefix(COMPONENT), None)
    return dict(sorted(schemas.items())), of


def _add_patch(schemas: dict[str, Schema], name: str) -> str:
    """Adds the merge patch of a component, and of those within it; gives its reference."""
    patch_name = f"{name.removesuffix('-Input')}-Patch"
    if patch_name not in schemas:
        whole = schemas[name]
        patch = schemas[patch_name] = {k: v for k, v in whole.items() if k != "required"}
        patch["title"] = f"{whole.get('title', name)} as a merge patch"
        patch["properties"] = {
            field: {"anyOf": [_patched(schemas, schema), {"type": "null"}]}
            for field, schema in whole.get("properties", {}).items()
        }
    return COMPONENT + patch_name


def _patched(schemas: dict[str, Schema], schema: Schema) -> Schema:
    schema = {k: v for k, v in schema.items() if k != "default"}
    name = str(schema.get("$ref", "")).removeprefix(COMPONENT)
    if name and "properties" in schemas[name]:
        return {**schema, "$ref": _add_patch(schemas, name)}
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):  # a mapping: null removes an entry
        schema["additionalProperties"] = {"anyOf": [inner, {"type": "null"}]}
    return schema


def _describe(schema: Schema, model: type[BaseModel]) -> Schema:
    comments = field_comments(model)
    names = {field.alias or name: name for name, field in model.model_fields.items()}
    for shown, inner in schema.get("properties", {}).items():
        field = names.get(shown, shown)
        if field in comments:
            inner.setdefault("description", comments[field])
        inner.pop("title", None)
    return schema


def _reached(models: Iterable[type[BaseModel]]) -> Iterable[type[BaseModel]]:
    """These models and all that their fields are made of."""
    seen: dict[type[BaseModel], None] = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen[model] = None
            for field in model.model_fields.values():
                waiting.extend(_models_in(field.annotation))
    return seen


def _models_in(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


@cache
def field_comments(model: type[BaseModel]) -> Mapping[str, str]:
    """Field → the `#:` comment above it, those of the model's bases included."""
    comments: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel:
            comments.update(_own_comments(cls))
    return comments


def _own_comments(cls: type[BaseModel]) -> Mapping[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except OSError:  # made at run time, or shipped without its source
        return {}
    lines = source.splitlines()
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above: list[str] = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("#:"):
                    break
                above.insert(0, line.strip().removeprefix("#:").strip())
            if above:
                found[node.target.id] = " ".join(above)
    return found
