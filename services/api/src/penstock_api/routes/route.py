"""The form of a route: one entry of the table that the app, the docs and OpenAPI are made from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aiohttp import web
from pydantic import BaseModel

from penstock_client.documents import Document

if TYPE_CHECKING:  # the context knows the store, whose parts know routes
    from penstock_api.context import Api

#: Right that a route asks for; `open` asks for no key.
Scope = Literal["open", "read", "admin"]

Handler = Callable[["Api", web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes."""

    #: accepted content types, the preferred one first
    media_types: tuple[str, ...]
    model: type[BaseModel]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    #: with `{parameter}` segments
    path: str
    handler: Handler
    scope: Scope
    #: one line for the documentation
    summary: str
    #: the answer on success
    answer: type[Document]
    status: int = 200
    body: Body | None = None


def answer(document: Document, *, status: int = 200, **headers: str) -> web.Response:
    """The document as a JSON response; `headers` by name with `_` for `-`."""
    return web.Response(
        status=status,
        text=document.model_dump_json(),
        content_type="application/json",
        headers={name.replace("_", "-").title(): value for name, value in headers.items()},
    )
