"""The api's OpenAPI 3.1 document, made from its table of routes [pure].

Theory of operation. A route names the models that it takes and answers; pydantic turns these into
JSON Schema (2020-12, the dialect of OpenAPI 3.1). What a model cannot say is added here: which
errors a route may answer, which follow from its form (a key → 401 and 403, a body → 400 and so
on), and the documents of a merge patch (RFC 7396), in which nothing is required and null removes.

Descriptions of fields are the `#:` comments above them in the models' source.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from penstock_api.error_forms import form_of
from penstock_api.routes.route import Body, Query, Route
from penstock_common.events.cloud_event import BATCH

MERGE_PATCH: Final = "application/merge-patch+json"
_COMPONENT: Final = "#/components/schemas/"

_KEY_ERRORS: Final = (401, 403, 429)
_BODY_ERRORS: Final = (400, 408, 413, 415, 422)
#: What comes of an Idempotency-Key, and of the body that is read for it.
_REPEAT_ERRORS: Final = (400, 408, 413, 422)
#: Writes wait for NATS, which may be away.
_WRITE_ERRORS: Final = (409, 503)

#: First part of a path → tag, where its names are another platform's.
_TAGS: Final = {
    "/gpu-instance/openapi/v1/": "Novita v1",
    "/gpus/v2/": "Novita v2",
    "/runpod/v1/": "RunPod v1",
}

Schema = dict[str, Any]
#: One event of a stream (the WHATWG HTML standard, §9.2), `data` being JSON as the docs say.
_EVENT: Final[Schema] = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
    "required": ["data"],
}
#: What is answered beside JSON, and is no plain text.
_OTHER_SCHEMAS: Final[Mapping[str, Schema]] = {
    "text/event-stream": _EVENT,
    BATCH: {"type": "array", "items": {"type": "object"}},
}
#: a model, and the role in which it is met
_Role = tuple[type[BaseModel], Literal["serialization", "validation", "patch"]]
_Refs = Mapping[_Role, str]


def openapi_document(routes: Sequence[Route], *, version: str) -> Schema:
    """The OpenAPI document of these routes.

    Args:
        routes: each method on a path at most once.
        version: of the api, e.g. "0.1.0".
    """
    schemas, of = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version,
            "summary": "Serverless GPU endpoints on your own machines.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(map(tag_of, routes))],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, as `Authorization: Bearer <key>`.",
                }
            },
        },
    }


def tag_of(route: Route) -> str:
    """What a route is about: the last fixed part of its path that names a collection."""
    parts = [p for p in route.path.split("/") if p and not p.startswith("{")]
    for first, tag in _TAGS.items():
        if route.path.startswith(first):
            return tag
    return parts[1] if len(parts) > 1 and parts[0] == "v1" else "the api itself"


def statuses_of(route: Route) -> tuple[int, ...]:
    """Every status that a route may answer, the one of success first."""
    errors = set(route.errors)
    if route.scope != "open":
        errors.update(_KEY_ERRORS)
    if "{" in route.path:
        errors.add(404)
    if route.query:
        errors.add(400)
    if route.conditional:
        errors.update((400, 412))
    if route.body is not None:
        errors.update(_BODY_ERRORS)
    if route.method != "GET":
        errors.update(_REPEAT_ERRORS)
        errors.update(_WRITE_ERRORS)
    form = form_of(route.path)
    return (route.status, *sorted({form.status(status) for status in errors}))


# ---- operations


def _operation(route: Route, of: _Refs) -> Schema:
    operation: Schema = {
        "operationId": operation_id(route),
        "summary": route.summary,
        "tags": [tag_of(route)],
        "parameters": [
            *_path_parameters(route),
            *map(_query_parameter, route.query),
            *_headers(route),
        ],
        "responses": {str(status): _response(route, status, of) for status in statuses_of(route)},
    }
    if route.scope != "open":
        operation["description"] = f"Needs an API key of scope `{route.scope}`."
        operation["security"] = [{"key": []}]
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body, of)
    return operation


def operation_id(route: Route) -> str:
    """A name for the route, e.g. `endpoints_roll_back`; unique among them."""
    module = route.handler.__module__.removeprefix("penstock_api.").removeprefix("routes.")
    return f"{module.replace('.', '_')}_{getattr(route.handler, '__name__', 'handle')}"


def _path_parameters(route: Route) -> Iterable[Schema]:
    for part in route.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            text = "Its `id` or its `app_name`." if name == "endpoint" else "Its `id`."
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": text,
                "schema": {"type": "string", "minLength": 1},
            }


def _query_parameter(query: Query) -> Schema:
    return {
        "name": query.name,
        "in": "query",
        "description": query.meaning,
        "schema": dict(query.schema),
    }


def _headers(route: Route) -> Iterable[Schema]:
    if route.method != "GET":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Makes the request safe to send again: it is done once, and answered "
            "again for a day. A UUID will do.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    if route.conditional:
        yield {
            "name": "If-Match",
            "in": "header",
            "description": "ETag of the endpoint as it was read: if it has changed since, "
            "nothing is done (412).",
            "schema": {"type": "string"},
        }


def _request_body(body: Body, of: _Refs) -> Schema:
    def content(media_type: str) -> Schema:
        patches = MERGE_PATCH in body.media_types
        return {"schema": {"$ref": of[body.model, "patch" if patches else "validation"]}}

    return {"required": body.required, "content": {m: content(m) for m in body.media_types}}


def _response(route: Route, status: int, of: _Refs) -> Schema:
    phrase = HTTPStatus(status).phrase
    if status != route.status:
        form = form_of(route.path)
        schema = {"$ref": of[form.model, "serialization"]}
        return {"description": phrase, "content": {form.media_type: {"schema": schema}}}
    content: Schema = {}
    if route.answer is not None:
        content["application/json"] = {"schema": {"$ref": of[route.answer, "serialization"]}}
    for media_type in route.other_answers:
        content[media_type] = {"schema": _OTHER_SCHEMAS.get(media_type, {"type": "string"})}
    return {"description": phrase, "content": content}


# ---- schemas


def _schemas(
    routes: Sequence[Route],
) -> tuple[dict[str, Schema], _Refs]:
    """Every component, and the reference of each model in each role."""
    answers: list[type[BaseModel]] = [form_of(route.path).model for route in routes]
    answers += [route.answer for route in routes if route.answer is not None]
    bodies = list(dict.fromkeys(route.body for route in routes if route.body is not None))
    wanted: list[tuple[type[BaseModel], Literal["serialization", "validation"]]] = []
    wanted += [(answer, "serialization") for answer in dict.fromkeys(answers)]
    wanted += [(taken, "validation") for taken in dict.fromkeys(body.model for body in bodies)]
    found, made = models_json_schema(wanted, ref_template=_COMPONENT + "{model}")
    of: dict[_Role, str] = {}
    for taken, role in wanted:
        of[taken, role] = found[taken, role]["$ref"]
    schemas: dict[str, Schema] = {}
    described = {model.__name__: model for model in _reached(taken for taken, _ in wanted)}
    for name, schema in made.get("$defs", {}).items():
        model = described.get(name.removesuffix("-Input").removesuffix("-Output"))
        schemas[name] = _describe(schema, model) if model else schema
    for body in bodies:
        name = of[body.model, "validation"].removeprefix(_COMPONENT)
        optional = set(body.made_when_missing) & set(schemas[name].get("properties", {}))
        if optional:
            schemas[name]["required"] = [
                field for field in schemas[name].get("required", []) if field not in optional
            ]
        if MERGE_PATCH in body.media_types:
            of[body.model, "patch"] = _add_patch(schemas, name)
    whole = {body.model for body in bodies if MERGE_PATCH not in body.media_types}
    for body in bodies:
        if body.model not in whole:  # it is only met as a patch
            schemas.pop(of[body.model, "validation"].removeprefix(_COMPONENT), None)
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
    return _COMPONENT + patch_name


def _patched(schemas: dict[str, Schema], schema: Schema) -> Schema:
    schema = {k: v for k, v in schema.items() if k != "default"}
    name = str(schema.get("$ref", "")).removeprefix(_COMPONENT)
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
