"""The audit trail of HTTP requests, in whichever dialect they are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from aiohttp import web

from penstock_api.audit.denials import Denial
from penstock_api.audit.trail import Attempt
from penstock_api.auth import KeyExpiredError, RightMissingError
from penstock_api.error_forms import form_of
from penstock_api.openapi import operation_id
from penstock_api.problems import RefusedError, refused
from penstock_api.request_ids import request_id
from penstock_api.routes.route import CALLER, Route
from penstock_common.errors import PenstockError
from penstock_common.messages import AuditTarget

if TYPE_CHECKING:  # the context knows the trail
    from penstock_api.context import Api

#: Characters of `X-Forwarded-For` that are kept.
_MAX_FORWARDED: Final = 200
#: Characters of a name in a path that are kept.
_MAX_NAME: Final = 100


async def audited(api: "Api", route: Route, request: web.Request) -> web.StreamResponse:
    """The answer of the route's handler, with a record of it when it may change something.

    Routes without a key record for themselves once they know who asks.

    Raises:
        PenstockError: what the handler raises; the attempt could not be recorded.
    """
    caller = request.get(CALLER)
    if route.method == "GET" or route.only_reads or caller is None:
        return await route.handler(api, request)
    attempt = attempt_of(
        route,
        request,
        key_id=caller.key_id,
        key_name=caller.name,
        targets=tuple(_named(api, request)),
    )
    async with api.audit.recorded(attempt) as deed:
        try:
            response = await route.handler(api, request)
        except PenstockError as error:
            told = refused(error)
            deed.answered(form_of(request.path).status(told.status), told.reason)
            raise
        deed.answered(response.status)
        return response


def attempt_of(
    route: Route,
    request: web.Request,
    *,
    key_id: str,
    key_name: str,
    targets: tuple[AuditTarget, ...] = (),
) -> Attempt:
    """The request as it is recorded, asked for by this key or join token."""
    return Attempt(
        action=operation_id(route),
        route=_name_of(route),
        request_id=request_id(request),
        key_id=key_id,
        key_name=key_name,
        source=request.remote or "",
        forwarded_for=request.headers.get("X-Forwarded-For", "")[:_MAX_FORWARDED],
        targets=targets,
    )


def note_denial(api: "Api", route: Route, request: web.Request, refusal: RefusedError) -> None:
    """Have it recorded that the request was refused for want of a key or a right."""
    known = refusal.record if isinstance(refusal, KeyExpiredError | RightMissingError) else None
    denial = Denial(
        key_id=known.key_id if known else None,
        key_name=known.name if known else "",
        source=request.remote or "",
        action=operation_id(route),
        route=_name_of(route),
        status=refusal.status,
        reason=refusal.reason,
    )
    api.audit.deny(denial, request_id(request))


def _name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def _named(api: "Api", request: web.Request) -> Iterator[AuditTarget]:
    """What the path names; an endpoint by its id, if there is one of that name."""
    for kind, name in request.match_info.items():
        if kind == "endpoint":
            record = api.store.try_find(name)
            if record is not None:
                yield AuditTarget(kind=kind, id=record.endpoint_id, name=record.spec.app_name)
                continue
        yield AuditTarget(kind=kind, id=name[:_MAX_NAME])
