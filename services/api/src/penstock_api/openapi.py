"""The api's OpenAPI 3.1 document, made from its table of routes [pure].

Theory of operation. A route names the models that it takes and answers; pydantic turns these into
JSON Schema (2020-12, the dialect of OpenAPI 3.1; `schemas.py`). What a model cannot say is added
here: which errors a route may answer, which follow from its form (a key → 401 and 403, a body → 400
and so on).
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from penstock_api.error_forms import form_of
from penstock_api.routes.route import Body, Query, Route
from penstock_api.schemas import Refs, Schema, Taken, make_schemas
from penstock_common.events.cloud_event import BATCH

if TYPE_CHECKING:
    from pydantic import BaseModel

MERGE_PATCH: Final = "application/merge-patch+json"

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
    refusals = sorted({form.status(status) for status in errors})
    return (*successes_of(route), *refusals)


def successes_of(route: Route) -> tuple[int, ...]:
    """Every status of a success."""
    return (route.status, 201) if route.creates else (route.status,)


# ---- operations


def _operation(route: Route, of: Refs) -> Schema:
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
    resource = route.resource or module.replace(".", "_")
    return f"{resource}_{getattr(route.handler, '__name__', 'handle')}"


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
    if route.creates:
        yield {
            "name": "If-None-Match",
            "in": "header",
            "description": "`*`: if there is such an endpoint already, nothing is done (412).",
            "schema": {"type": "string", "enum": ["*"]},
        }


def _request_body(body: Body, of: Refs) -> Schema:
    def content(media_type: str) -> Schema:
        patches = MERGE_PATCH in body.media_types
        return {"schema": {"$ref": of[body.model, "patch" if patches else "validation"]}}

    return {"required": body.required, "content": {m: content(m) for m in body.media_types}}


def _response(route: Route, status: int, of: Refs) -> Schema:
    phrase = HTTPStatus(status).phrase
    if status not in successes_of(route):
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


def _schemas(routes: Sequence[Route]) -> tuple[dict[str, Schema], Refs]:
    """Every component, and the reference of each model in each role."""
    answers: list[type[BaseModel]] = [form_of(route.path).model for route in routes]
    answers += [route.answer for route in routes if route.answer is not None]
    bodies = dict.fromkeys(route.body for route in routes if route.body is not None)
    whole = {body.model for body in bodies if MERGE_PATCH not in body.media_types}
    taken = [
        Taken(
            body.model,
            body.made_when_missing,
            whole=body.model in whole,
            patch=MERGE_PATCH in body.media_types,
        )
        for body in bodies
    ]
    return make_schemas(taken, answers)
