"""Join tokens: make, list, show, delete; and the hosts that join with one."""

from typing import ClassVar, Final

from aiohttp import hdrs, web

from penstock_api.audit.requests import attempt_of, note_denial
from penstock_api.auth import hash_key
from penstock_api.bodies import read_bytes, read_json
from penstock_api.context import Api
from penstock_api.http_repeats import answer_once
from penstock_api.join_tokens import (
    JoinNotConfiguredError,
    JoinTokenNotFoundError,
    find_by_hash,
    plan_token,
    plan_use,
    token_document,
)
from penstock_api.paging import oldest, parse_page
from penstock_api.problems import RefusedError
from penstock_api.routes.endpoints import JSON
from penstock_api.routes.route import CALLER, PAGE, Body, Route, answer
from penstock_api.turns import take_turn
from penstock_client.documents import JoinTokenDocument, JoinTokenList, JoinTokenMade
from penstock_common import ids
from penstock_common.entropy import random_id, random_secret
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.join_tokens import (
    JoinAnswer,
    JoinRequest,
    JoinTokenSpec,
    parse_join_request,
    parse_join_token,
)
from penstock_common.messages import JoinedHost, JoinTokenRecord
from penstock_common.secret_keys import read_secret_key
from penstock_common.subjects import JOIN_TOKENS

#: So that a token is known for one wherever it is seen.
_PREFIX: Final = "pjt_"


class UnknownJoinTokenError(RefusedError):
    """The token that a host shows is none, or was deleted."""

    error_type: ClassVar[str] = "unknown_join_token"

    def __init__(self) -> None:
        """Refuse with 401."""
        super().__init__(
            401,
            self.error_type,
            "this join token is not known: it never was, was deleted, or expired long ago",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )


async def create(api: Api, request: web.Request) -> web.Response:
    """POST /v1/join-tokens."""
    document: object = {}
    if request.body_exists:
        document = await read_json(request, (JSON,), api.settings.body_timeout_s)
    spec = parse_join_token(document)
    _nats_url(api)  # better told now than to a host that cannot mend it
    token = f"{_PREFIX}{random_secret()}"
    record = plan_token(
        spec,
        token_id=random_id(ids.JOIN_TOKEN),
        sha256=hash_key(token),
        made_by=request[CALLER].key_id,
        now=api.clock.utc(),
    )
    await api.store.create_record(JOIN_TOKENS, record.token_id, record)
    shown = JoinTokenMade(**token_document(record).model_dump(), token=token)
    return answer(shown, status=201, location=f"/v1/join-tokens/{record.token_id}")


async def show_all(api: Api, request: web.Request) -> web.Response:
    """GET /v1/join-tokens."""
    page = parse_page(request.query)
    listed, cursor = page.of(
        _records(api), lambda record: oldest(record.created_at, record.token_id)
    )
    return answer(JoinTokenList(join_tokens=tuple(map(token_document, listed)), next_cursor=cursor))


async def show(api: Api, request: web.Request) -> web.Response:
    """GET /v1/join-tokens/{join_token}."""
    return answer(token_document(_find(api, request.match_info["join_token"])))


async def delete(api: Api, request: web.Request) -> web.Response:
    """DELETE /v1/join-tokens/{join_token}."""
    token_id = request.match_info["join_token"]
    removed: list[JoinTokenRecord] = []

    def check() -> None:
        removed[:] = [_find(api, token_id)]

    await api.store.remove_record(JOIN_TOKENS, token_id, check)
    return answer(token_document(removed[0]))


async def join(api: Api, request: web.Request) -> web.StreamResponse:
    """POST /v1/join: with a join token instead of an API key."""
    body = await read_bytes(request, api.settings.body_timeout_s)
    asked = JoinRequest()
    if body:
        asked = parse_join_request(await read_json(request, (JSON,), api.settings.body_timeout_s))
    token = _token_of(request, asked)
    record = find_by_hash(_records(api), hash_key(token))
    if record is None:
        refusal = UnknownJoinTokenError()
        note_denial(api, _JOIN, request, refusal)
        take_turn(api, f"address {request.remote}")  # so that nobody guesses tokens quickly
        raise refusal
    host = JoinedHost(
        at=api.clock.utc(), hostname=asked.hostname, address=request.remote or "unknown"
    )
    # Known by now: else anybody could have answers and claims stored.
    return await answer_once(api, request, lambda: _let_in(api, request, record, host))


async def _let_in(
    api: Api, request: web.Request, record: JoinTokenRecord, host: JoinedHost
) -> web.Response:
    told = JoinAnswer(
        nats_url=_nats_url(api),
        nats_user=api.settings.node_nats_user,
        nats_password=api.settings.node_nats_password.get_secret_value(),
        nats_tls_ca=api.settings.nats_tls_ca if "tls://" in _nats_url(api) else "",
        nats_replicas=api.settings.nats_replicas,
        secret_key=read_secret_key(api.settings) or "",
        labels=record.labels,
    )

    def plan(data: bytes | None) -> JoinTokenRecord:
        if data is None:  # deleted in this moment
            raise UnknownJoinTokenError
        return plan_use(JoinTokenRecord.decode(data), host)

    attempt = attempt_of(_JOIN, request, key_id=record.token_id, key_name=record.name)
    async with api.audit.recorded(attempt) as deed:
        await api.store.change_record(JOIN_TOKENS, record.token_id, plan)
        deed.answered(_JOIN.status)
    return answer(told)


def _token_of(request: web.Request, asked: JoinRequest) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else ""
    if not (found or asked.token):
        raise InvalidDocumentError(
            [Problem("/token", "is required, here or as Authorization: Bearer <token>")]
        )
    return found or asked.token or ""


def _nats_url(api: Api) -> str:
    if api.settings.node_nats_url is None:
        raise JoinNotConfiguredError(
            "other hosts cannot be told where NATS is: start `penstock up` with --host ADDRESS; in "
            "place of docker-compose.yml, which is for one machine, use "
            "deploy/compose/control-plane.yml; or start the api with "
            "PENSTOCK_API_NODE_NATS_URL=nats://ADDRESS:4222 where NATS listens for other hosts"
        )
    return api.settings.node_nats_url


def _records(api: Api) -> list[JoinTokenRecord]:
    return [row.value for row in api.store.join_tokens.rows.values()]


def _find(api: Api, token_id: str) -> JoinTokenRecord:
    row = api.store.join_tokens.rows.get(token_id)
    if row is None:
        raise JoinTokenNotFoundError(f"there is no join token '{token_id}'")
    return row.value


_JOIN: Final = Route(
    "POST",
    "/v1/join",
    join,
    "open",
    "Make a host a node, by a join token.",
    JoinAnswer,
    body=Body((JSON,), JoinRequest, required=False),
    errors=(401, 403, 429),
)
ROUTES: Final = (
    Route(
        "POST",
        "/v1/join-tokens",
        create,
        "admin",
        "Make a join token; the answer alone shows it.",
        JoinTokenMade,
        status=201,
        body=Body((JSON,), JoinTokenSpec, required=False),
    ),
    Route(
        "GET",
        "/v1/join-tokens",
        show_all,
        "admin",
        "List the join tokens.",
        JoinTokenList,
        query=PAGE,
    ),
    Route(
        "GET",
        "/v1/join-tokens/{join_token}",
        show,
        "admin",
        "Show a join token and who joined with it.",
        JoinTokenDocument,
    ),
    Route(
        "DELETE",
        "/v1/join-tokens/{join_token}",
        delete,
        "admin",
        "Delete a join token; nodes that joined with it stay.",
        JoinTokenDocument,
    ),
    _JOIN,
)
