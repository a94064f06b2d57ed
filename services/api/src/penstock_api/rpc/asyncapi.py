"""The api's AsyncAPI 3.0 document: its calls, and every event of Penstock [pure].

Made from the table of operations and the event catalogue, with the schemas of the very models that
are sent and read. FastStream makes a document of its subscribers too, but one that knows neither
answers nor errors nor headers nor parameters of subjects, and our handlers take the body as it came.

It describes the api as AsyncAPI has it: the api receives calls, and sends events. Where a service
other than the api publishes an event, the operation's summary says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock_api.rpc.call import Operation
from penstock_api.rpc.replies import ERROR, ERROR_CODE
from penstock_api.rpc.requests import EndpointUpdateRequest
from penstock_api.schemas import COMPONENT, Refs, Schema, Taken, make_schemas
from penstock_client.documents import ProblemDocument
from penstock_common.events.catalogue import EventType, Ids
from penstock_common.events.cloud_event import HEADER_PREFIX
from penstock_common.nats.permissions import INTEGRATION, INTEGRATION_READER
from penstock_common.specs import EndpointSpec
from penstock_common.subjects import CALLS_QUEUE

if TYPE_CHECKING:
    from pydantic import BaseModel

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
_ERROR: Final = "error"
_ID_MEANING: Final = {
    "endpoint_id": "An endpoint's id.",
    "worker_id": "A worker's id.",
    "node_id": "A node's id.",
}
_DESCRIPTION: Final = (
    "Calls: request and reply over core NATS; the reply goes to the request's own reply subject. "
    "An error is told by the headers `Nats-Service-Error-Code` and `Nats-Service-Error`, with "
    "problem details as the body. Events: CloudEvents 1.0 in binary mode, in the stream "
    "`PENSTOCK_EVENTS`."
)


def asyncapi_document(
    operations: Sequence[Operation], events: Sequence[EventType[Any]], *, version: str
) -> Schema:
    """The AsyncAPI document of these calls and events.

    Args:
        operations: each name at most once.
        events: each type at most once.
        version: of the api, e.g. "0.1.0".
    """
    schemas, of = _schemas(operations, events)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Penstock over NATS",
            "version": version,
            "description": _DESCRIPTION,
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
            "tags": [{"name": "calls"}, {"name": "events"}],
        },
        "defaultContentType": JSON,
        "servers": {
            "nats": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The NATS server of the installation.",
                "security": [_ref("components", "securitySchemes", "user")],
            }
        },
        "channels": {
            **{name: channel for o in operations for name, channel in _channels(o)},
            **{row.name: _event_channel(row) for row in events},
        },
        "operations": {
            **{operation.name: _operation(operation) for operation in operations},
            **{row.name: _event_operation(row) for row in events},
        },
        "components": {
            "messages": {
                **{name: message for o in operations for name, message in _messages(o, of)},
                _ERROR: _error_message(of),
                **{row.name: _event_message(row, of) for row in events},
            },
            "schemas": schemas,
            "securitySchemes": {
                "user": {
                    "type": "userPassword",
                    "description": f"A NATS user: `{INTEGRATION}` may make every call, "
                    f"`{INTEGRATION_READER}` those that only read; both hear events.",
                }
            },
        },
    }


# ---- calls


def _channels(operation: Operation) -> Iterable[tuple[str, Schema]]:
    name = operation.name
    yield (
        name,
        {
            "address": operation.subject,
            "title": operation.summary,
            "messages": {"request": _ref("components", "messages", f"{name}.request")},
            "tags": [{"name": "calls"}],
        },
    )
    yield (
        f"{name}.reply",
        {
            "address": None,
            "title": f"The reply to {name}, on the request's reply subject.",
            "messages": {
                "answer": _ref("components", "messages", f"{name}.answer"),
                _ERROR: _ref("components", "messages", _ERROR),
            },
            "tags": [{"name": "calls"}],
        },
    )


def _operation(operation: Operation) -> Schema:
    name = operation.name
    who = INTEGRATION if operation.changes else f"{INTEGRATION} or {INTEGRATION_READER}"
    return {
        "action": "receive",
        "channel": _ref("channels", name),
        "summary": operation.summary,
        "description": f"For the NATS user {who}.",
        "tags": [{"name": "calls"}],
        "messages": [_ref("channels", name, "messages", "request")],
        "bindings": {"nats": {"queue": CALLS_QUEUE}},
        "reply": {
            "channel": _ref("channels", f"{name}.reply"),
            "messages": [
                _ref("channels", f"{name}.reply", "messages", "answer"),
                _ref("channels", f"{name}.reply", "messages", _ERROR),
            ],
        },
    }


def _messages(operation: Operation, of: Refs) -> Iterable[tuple[str, Schema]]:
    request: Schema = {
        "name": f"{operation.name}.request",
        "title": operation.summary,
        "contentType": JSON,
        "payload": {"$ref": of[operation.request, "validation"]},
    }
    taken = dict(_taken_headers(operation))
    if taken:
        request["headers"] = {"type": "object", "properties": taken}
    if operation.example is not None:
        request["examples"] = [{"name": operation.name, "payload": dict(operation.example)}]
    yield f"{operation.name}.request", request
    given: Schema = {"Content-Type": {"const": JSON}}
    if operation.has_etag:
        given["ETag"] = _text("Names this state of the endpoint, for If-Match.")
    if operation.changes:
        given["Idempotent-Replayed"] = {
            "const": "true",
            "description": "It was done before, with the same Idempotency-Key.",
        }
    yield (
        f"{operation.name}.answer",
        {
            "name": f"{operation.name}.answer",
            "title": "What was asked for.",
            "contentType": JSON,
            "headers": {"type": "object", "properties": given},
            "payload": {"$ref": of[operation.answer, "serialization"]},
        },
    )


def _taken_headers(operation: Operation) -> Iterable[tuple[str, Schema]]:
    if operation.changes:
        yield (
            "Idempotency-Key",
            {
                **_text("Makes the call safe to send again: it is done once. A UUID will do."),
                "minLength": 1,
                "maxLength": 255,
            },
        )
    if operation.conditional:
        yield (
            "If-Match",
            _text(
                "ETag of the endpoint as it was read: if it has changed since, nothing is done"
                " (412)."
            ),
        )


def _error_message(of: Refs) -> Schema:
    return {
        "name": _ERROR,
        "title": "It was refused, or has failed.",
        "contentType": PROBLEM,
        "headers": {
            "type": "object",
            "required": [ERROR_CODE, ERROR],
            "properties": {
                "Content-Type": {"const": PROBLEM},
                ERROR_CODE: {**_text("Its status, as over HTTP."), "pattern": "^[45][0-9][0-9]$"},
                ERROR: _text("What is wrong, as one sentence."),
                "Retry-After": _text("Seconds after which another try is worth it."),
            },
        },
        "payload": {"$ref": of[ProblemDocument, "serialization"]},
    }


# ---- events


def _event_channel(row: EventType[Any]) -> Schema:
    parameters = [name for name in _ID_MEANING if f"{{{name}}}" in _address(row)]
    return {
        "address": _address(row),
        "title": row.meaning,
        "parameters": {name: {"description": _ID_MEANING[name]} for name in parameters},
        "messages": {"event": _ref("components", "messages", row.name)},
        "tags": [{"name": "events"}],
    }


def _address(row: EventType[Any]) -> str:
    ids = Ids("{endpoint_id}", "{worker_id}", "{node_id}")
    return str(row.family.subject(ids, row.verb))


def _event_operation(row: EventType[Any]) -> Schema:
    return {
        "action": "send",
        "channel": _ref("channels", row.name),
        "summary": row.meaning,
        "description": f"Published by the {row.publisher}.",
        "tags": [{"name": "events"}],
        "messages": [_ref("channels", row.name, "messages", "event")],
    }


def _event_message(row: EventType[Any], of: Refs) -> Schema:
    ids = Ids("", "", "")
    attributes: Schema = {
        "specversion": {"const": "1.0"},
        "id": _text("Its id: a second message with the same one is the same event."),
        "type": {"const": row.name},
        "source": _text("Who published it."),
        "subject": _text("Id of what it is about."),
        "time": {**_text("When it happened."), "format": "date-time"},
        **{name: _text(_ID_MEANING[f"{name[:-2]}_id"]) for name in row.family.extensions(ids)},
    }
    headers = {HEADER_PREFIX + name: schema for name, schema in attributes.items()}
    return {
        "name": row.name,
        "title": row.meaning,
        "contentType": JSON,
        "headers": {"type": "object", "required": [*headers], "properties": headers},
        "payload": {"$ref": of[row.data, "serialization"]},
    }


# ---- schemas


def _schemas(
    operations: Sequence[Operation], events: Sequence[EventType[Any]]
) -> tuple[dict[str, Schema], Refs]:
    taken = {
        operation.request: Taken(
            operation.request,
            operation.made_when_missing,
            patch=operation.request is EndpointSpec,
        )
        for operation in operations
    }
    answers: list[type[BaseModel]] = [ProblemDocument, *(o.answer for o in operations)]
    schemas, of = make_schemas([*taken.values()], [*answers, *(row.data for row in events)])
    update = schemas[of[EndpointUpdateRequest, "validation"].removeprefix(COMPONENT)]
    change = update["properties"]["change"]
    update["properties"]["change"] = {
        "description": change["description"],
        "allOf": [{"$ref": of[EndpointSpec, "patch"]}],
    }
    return _plain(schemas), of


def _plain(schema: Any) -> Any:  # noqa: ANN401  # any JSON
    """The schema with the discriminators that AsyncAPI knows: a property's name alone."""
    if isinstance(schema, list):
        return [_plain(inner) for inner in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {name: _plain(inner) for name, inner in schema.items()}
    discriminator = plain.get("discriminator")
    if isinstance(discriminator, dict):
        plain["discriminator"] = discriminator["propertyName"]
    return plain


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _ref(*path: str) -> Schema:
    return {"$ref": "#/" + "/".join(path)}
