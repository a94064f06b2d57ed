"""Writes docs/events.md from the catalogue of events: python docs/make_events.py."""

import inspect
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from penstock_api.schemas import field_comments
from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, FAMILIES, EventType, Ids, Service, source
from penstock_common.events.cloud_event import JSON, CloudEvent, rfc3339
from penstock_common.events.examples import AT, EXAMPLES, NODE_ID
from penstock_common.states import GpuReason, WorkerReason

HERE = Path(__file__).parent

#: What each family is about.
TITLES = {
    "endpoint": "Endpoints",
    "scale": "Scaling",
    "worker": "Workers",
    "node": "Nodes",
}
#: Of each family one that is shown whole.
SHOWN = (
    "penstock.endpoint.created",
    "penstock.scale.decided",
    "penstock.worker.failed",
    "penstock.node.gpu_unhealthy",
)
#: The parts of the endpoint document are told on a page of their own.
SPECS = "penstock_common.specs"
PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    datetime: "instant",
    AwareDatetime: "instant",
    WorkerReason: "[reason](failures.md)",
    GpuReason: "[reason](gpus.md)",
}
#: In the place of ids in patterns of subjects.
IDS = Ids("<endpoint_id>", "<worker_id>", "<node_id>")

INTRODUCTION = f"""# Events

Written by `docs/make_events.py` from `penstock_common/events/catalogue.py`; a test fails when the two differ.

What happens in Penstock is told as an event: a [CloudEvent](https://cloudevents.io) 1.0, kept for seven days (and 512
MiB) in the NATS stream `{subjects.EVENTS}`. An event only notifies. What counts is what a GET shows, and nobody may
depend on having seen one: while NATS is away a service keeps the last 10,000, and those of one that is killed meanwhile
are lost.

## Reading them

```
penstock events --follow --endpoint llama
curl -N 'http://127.0.0.1:8000/v1/events?endpoint=llama&tail=20' -H "Authorization: Bearer $(cat .penstock/admin.key)"
```

`GET /v1/events` streams them as server-sent events: the data of each `message` is one CloudEvent in the JSON format,
its id a number in the stream. It takes a key of scope `read`.

- **Which.** `endpoint` (id or `app_name`: its workers and scaling as well; of one that is gone the id), `node` (the
  workers on it as well), `type` (one, or the beginning of some with its dot, `penstock.worker.`; may be repeated). All
  that are given must fit.
- **From when.** `tail=N` begins with the last N, `since` with what was told at that instant or later; else it begins
  now. `follow=false` ends it when all that there is was sent, with an `end`.
- **Going on.** Who comes back with `Last-Event-ID`, as browsers and `penstock_client` do, goes on behind it; the
  position is told even while no event fits. A restart of NATS is waited out, with nothing lost or repeated.
- **What is missing** is said by a `missing`: `expired`, the stream keeps it no more, from the number `first` to `last`
  (whichever events those were); `renewed`, the stream was made anew.
- A comment every 15 s shows that the stream lives. A client that takes nothing for 30 s is cut off; more than 256 open
  streams are refused with 503.

With `Accept: application/json` the same path lists the newest events, newest first, `limit` at a time with a
`next_cursor` (a page may have fewer, or none, where few of many events fit); with `Accept: application/cloudevents-batch+json` as a bare array with a `Link: <…>; rel="next"`.

From NATS they are read by any consumer of the stream, in the binary content mode: each attribute is a header
`ce-<name>`, the payload is the data as JSON, and `Nats-Msg-Id` is the event's id. Everything that concerns an endpoint
is on `{subjects.events("*", "<endpoint_id>")}`.

## Attributes

| attribute | value |
|---|---|
| `specversion` | `1.0` |
| `id` | unique, `ev-…`; an event that comes twice has the same |
| `source` | who tells it: `{source(Service.API)}`, `{source(Service.SCHEDULER)}`, `{source(Service.NODE_AGENT, "<node_id>")}` |
| `type` | what happened, as below |
| `subject` | id of the endpoint, worker or node that it is about |
| `time` | when it happened, RFC 3339 |
| `datacontenttype` | `{JSON}` |
| `endpointid` | id of the endpoint that it concerns: in all events of endpoints, scaling and workers |
| `nodeid` | id of the node that it concerns: in all events of workers and nodes |

A reader ignores members of the data that it does not know: there may be more in a newer Penstock.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for family in FAMILIES:
        rows = [row for row in CATALOGUE.values() if row.family is family]
        parts += [f"## {TITLES[family.name]}\n", *_table(rows)]
        parts += _example(next(row for row in rows if row.name in SHOWN))
    parts += ["## Data\n", "Instants are RFC 3339 in UTC, durations seconds.\n"]
    for model in _models():
        parts += _model(model)
    return "\n".join(parts)


def _table(rows: list[EventType[Any]]) -> Iterable[str]:
    pattern = rows[0].family.subject(IDS, "<verb>")
    yield f"NATS subject: `{pattern}`.\n"
    yield "| type | told by | data | what it says |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| `{row.name}` | {row.publisher} | {_link(row.data)} | {row.meaning} |"
    yield ""


def _example(row: EventType[Any]) -> Iterable[str]:
    event = row.of(EXAMPLES[row.name])
    instance = NODE_ID if row.publisher is Service.NODE_AGENT else None
    attributes = {
        "specversion": "1.0",
        "id": "ev-7d1m9x4q2b8zk",
        "source": source(row.publisher, instance),
        "type": row.name,
        "subject": event.about,
        "time": rfc3339(AT),
        "datacontenttype": JSON,
        **event.extensions,
    }
    document = CloudEvent(attributes, event.data.encode()).document
    yield "```json"
    yield json.dumps(document, indent=1, ensure_ascii=False)
    yield "```\n"


def _models() -> Iterable[type[BaseModel]]:
    """The models of data, and those within them; not those of the endpoint document."""
    seen: dict[type[BaseModel], None] = {}
    waiting: list[type[BaseModel]] = [row.data for row in CATALOGUE.values()]
    while waiting:
        model = waiting.pop(0)
        if model not in seen:
            seen[model] = None
            inner = (i for f in model.model_fields.values() for i in _within(f.annotation))
            waiting += [m for m in inner if m.__module__ != SPECS]
    return seen


def _within(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _within(part)


def _model(model: type[BaseModel]) -> Iterable[str]:
    comments = field_comments(model)
    yield f"### {model.__name__}\n"
    yield inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ") + "\n"
    yield "| member | type | what it is |"
    yield "|---|---|---|"
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_type(field.annotation)} | {comments.get(name, '')} |"
    yield ""


def _type(annotation: Any) -> str:  # noqa: ANN401  # whatever stands behind a field's colon
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        known = [_type(part) for part in parts if part is not NoneType]
        return " or ".join([*known, "null"] if NoneType in parts else known)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is Mapping:
        return f"object of {_type(parts[1])}"
    if annotation in PLAIN:
        return PLAIN[annotation]
    if issubclass(annotation, BaseModel):
        return _link(annotation)
    assert issubclass(annotation, StrEnum), annotation
    return " or ".join(f"`{word}`" for word in annotation)


def _link(model: type[BaseModel]) -> str:
    page = "http-api.md" if model.__module__ == SPECS else ""
    anchor = "#the-endpoint-document" if page else f"#{model.__name__.lower()}"
    return f"[{model.__name__}]({page}{anchor})"


if __name__ == "__main__":
    (HERE / "events.md").write_text(page())
