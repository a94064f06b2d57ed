"""Routes of Novita's management API v1 about registry auths."""

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from penstock_api.bodies import read_json
from penstock_api.context import Api
from penstock_api.dialects import CamelDocument, CamelRequest, parse_body
from penstock_api.novita.v1_documents import NovitaCreated, NovitaEmpty, NovitaId
from penstock_api.novita.v1_endpoints import BASE
from penstock_api.registry_auths import remove_registry_auth
from penstock_api.routes.registry_auths import JSON, make, oldest_first
from penstock_api.routes.route import Body, Route, answer


class NovitaRegistryAuthRequest(CamelRequest):
    """Credentials of an image registry."""

    #: for people
    name: str
    username: str
    #: or a token; write-only
    password: Annotated[str, Field(repr=False)]


class NovitaRegistryAuth(CamelDocument):
    """Credentials of an image registry."""

    id: str
    name: str
    username: str
    #: always empty: it is never shown
    password: str = ""


class NovitaRegistryAuths(CamelDocument):
    """The registry auths, oldest first."""

    data: tuple[NovitaRegistryAuth, ...]


async def save(api: Api, request: web.Request) -> web.Response:
    """POST repository/auth/save."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    body = parse_body(NovitaRegistryAuthRequest, sent)
    made = await make(api, body.model_dump())
    return answer(NovitaCreated(id=made.registry_auth_id))


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET repository/auths."""
    return answer(
        NovitaRegistryAuths(
            data=tuple(
                NovitaRegistryAuth(id=auth.registry_auth_id, name=auth.name, username=auth.username)
                for auth in oldest_first(api)
            )
        )
    )


async def delete(api: Api, request: web.Request) -> web.Response:
    """POST repository/auth/delete."""
    sent = await read_json(request, (JSON,), api.settings.body_timeout_s)
    await remove_registry_auth(api.store, parse_body(NovitaId, sent).id)
    return answer(NovitaEmpty())


ROUTES: Final = (
    Route(
        "GET",
        f"{BASE}/repository/auths",
        show_all,
        "read",
        "List the registry auths, without passwords.",
        NovitaRegistryAuths,
    ),
    Route(
        "POST",
        f"{BASE}/repository/auth/save",
        save,
        "admin",
        "Store credentials of an image registry.",
        NovitaCreated,
        body=Body((JSON,), NovitaRegistryAuthRequest),
    ),
    Route(
        "POST",
        f"{BASE}/repository/auth/delete",
        delete,
        "admin",
        "Delete a registry auth that no endpoint names.",
        NovitaEmpty,
        body=Body((JSON,), NovitaId),
        errors=(404,),
    ),
)
