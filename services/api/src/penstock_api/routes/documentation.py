"""The api's description of itself: for programs, and for people."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.routes.route import Route
from penstock_client.documents import AsyncApiDocument, OpenApiDocument

#: All are made once, at start, from the tables of routes, calls and events.
OPENAPI_JSON: Final = web.AppKey("openapi_json", str)
DOCS_PAGE: Final = web.AppKey("docs_page", str)
ASYNCAPI_JSON: Final = web.AppKey("asyncapi_json", str)
ASYNCAPI_PAGE: Final = web.AppKey("asyncapi_page", str)


async def openapi(api: Api, request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return web.Response(text=request.app[OPENAPI_JSON], content_type="application/json")


async def docs(api: Api, request: web.Request) -> web.Response:
    """GET /docs."""
    return _page(request.app[DOCS_PAGE])


async def asyncapi(api: Api, request: web.Request) -> web.Response:
    """GET /asyncapi.json."""
    return web.Response(text=request.app[ASYNCAPI_JSON], content_type="application/json")


async def asyncapi_docs(api: Api, request: web.Request) -> web.Response:
    """GET /docs/asyncapi."""
    return _page(request.app[ASYNCAPI_PAGE])


def _page(html: str) -> web.Response:
    return web.Response(
        text=html,
        content_type="text/html",
        # The page holds no script and loads nothing.
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


ROUTES: Final = (
    Route(
        "GET",
        "/openapi.json",
        openapi,
        "open",
        "Describe the api as OpenAPI 3.1.",
        OpenApiDocument,
    ),
    Route(
        "GET",
        "/docs",
        docs,
        "open",
        "Describe the api as a page for people.",
        None,
        other_answers=("text/html",),
    ),
    Route(
        "GET",
        "/asyncapi.json",
        asyncapi,
        "open",
        "Describe the calls and events over NATS as AsyncAPI 3.0.",
        AsyncApiDocument,
    ),
    Route(
        "GET",
        "/docs/asyncapi",
        asyncapi_docs,
        "open",
        "Describe the calls and events over NATS as a page for people.",
        None,
        other_answers=("text/html",),
    ),
)
