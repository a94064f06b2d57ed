"""The form of a route: one entry of the table that the app, the docs and OpenAPI are made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel

from penstock_api.paging import DEFAULT_LIMIT, MAX_LIMIT
from penstock_common.messages import ApiKeyRecord

if TYPE_CHECKING:  # the context knows the store, whose parts know routes
    from penstock_api.context import Api

#: Right that a route asks for; `open` asks for no key.
Scope = Literal["open", "read", "deploy", "admin"]

#: Under this name a request carries the record of the key it came with.
CALLER: Final = web.RequestKey("caller", ApiKeyRecord)

Handler = Callable[["Api", web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes."""

    #: accepted content types, the preferred one first
    media_types: tuple[str, ...]
    model: type[BaseModel]
    #: required fields of the model that the api makes when they are left out
    made_when_missing: tuple[str, ...] = ()
    #: false = the request may have none, and then says nothing
    required: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter after the `?` of a route's URL; left out = its default."""

    name: str
    #: one line for the documentation
    meaning: str
    #: JSON Schema of its value, default included
    schema: Mapping[str, Any]


#: Of every list that may grow long; see `paging.py`.
PAGE: Final = (
    Query(
        "limit",
        "most items of the answer",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Query("cursor", "the `next_cursor` of the page before", {"type": "string"}),
)


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    #: with `{parameter}` segments
    path: str
    handler: Handler
    scope: Scope
    #: one line for the documentation
    summary: str
    #: the answer on success; None = no JSON, only what `other_answers` names
    answer: type[BaseModel] | None
    status: int = 200
    body: Body | None = None
    query: tuple[Query, ...] = ()
    #: statuses of errors beside those that follow from its form (see `openapi.statuses_of`)
    errors: tuple[int, ...] = ()
    #: takes If-Match: the change is made only to what its sender has seen
    conditional: bool = False
    #: makes what is not there (201), and takes If-None-Match: *
    creates: bool = False
    #: a POST that changes nothing; it leaves no record in the audit trail
    only_reads: bool = False
    #: the resource that its operation is named after; None = its handler's module is called so
    resource: str | None = None
    #: content types that it answers beside JSON
    other_answers: tuple[str, ...] = ()


def answer(document: BaseModel, *, status: int = 200, **headers: str) -> web.Response:
    """The document as a JSON response; `headers` by name with `_` for `-`."""
    return web.Response(
        status=status,
        text=document.model_dump_json(),
        content_type="application/json",
        headers={name.replace("_", "-").title(): value for name, value in headers.items()},
    )
