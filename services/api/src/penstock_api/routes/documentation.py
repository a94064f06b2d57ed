"""The api's description of itself: for programs, and for people."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.routes.route import Route
from penstock_client.documents import OpenApiDocument

#: Both are made once, at start, from the whole table of routes.
OPENAPI_JSON: Final = web.AppKey("openapi_json", str)
DOCS_PAGE: Final = web.AppKey("docs_page", str)


async def openapi(api: Api, request: web.Request) -> web.Response:
    """GET /openapi.json."""
    return web.Response(text=request.app[OPENAPI_JSON], content_type="application/json")


async def docs(api: Api, request: web.Request) -> web.Response:
    """GET /docs."""
    return web.Response(
        text=request.app[DOCS_PAGE],
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
)
