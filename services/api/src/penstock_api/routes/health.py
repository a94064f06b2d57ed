"""Whether the api is alive, and whether it is ready."""

from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Route, answer
from penstock_client.documents import HealthDocument


async def alive(api: Api, request: web.Request) -> web.Response:
    """GET /healthz."""
    return answer(HealthDocument())


async def ready(api: Api, request: web.Request) -> web.Response:
    """GET /readyz."""
    missing = api.store.missing()
    if missing:
        raise RefusedError(
            503, "not_ready", f"waiting for {', '.join(missing)}", headers={"Retry-After": "1"}
        )
    return answer(HealthDocument())


ROUTES: Final = (
    Route("GET", "/healthz", alive, "open", "Say that the process is alive.", HealthDocument),
    Route(
        "GET",
        "/readyz",
        ready,
        "open",
        "Say whether NATS is connected and every table is current.",
        HealthDocument,
        errors=(503,),
    ),
)
