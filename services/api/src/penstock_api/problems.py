"""Errors of the api as RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Final

from aiohttp import web
from typing_extensions import override

from penstock_client.documents import Document, ErrorItem, ProblemDocument
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem

CONTENT_TYPE: Final = "application/problem+json"
#: After these the rest of the request's body is not wanted, so the connection ends.
_UNREAD_BODY: Final = frozenset({408, 413})


class RefusedError(PenstockError):
    """The request is refused."""

    error_type: ClassVar[str] = "bad_request"
    status_hint: ClassVar[int] = 400

    @override
    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        """Refuse with this status.

        Args:
            status: HTTP status to answer with.
            reason: stable name of the error.
            detail: one sentence for a person: what is wrong and what to do.
            headers: headers that the status asks for, such as `WWW-Authenticate`.
            problems: what is wrong in the request's document, if that is it.
        """
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})
        self.problems = tuple(problems)


def refused(error: PenstockError) -> RefusedError:
    """Any expected error as a refusal."""
    match error:
        case RefusedError():
            return error
        case InvalidDocumentError():
            n_errors = len(error.problems)
            detail = f"the document has {n_errors} error{'s' if n_errors > 1 else ''}"
            return RefusedError(422, error.error_type, detail, problems=error.problems)
        case _:
            status = error.status_hint
            headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
            return RefusedError(status, error.error_type, str(error), headers=headers)


def refused_by_aiohttp(error: web.HTTPException) -> RefusedError:
    """A refusal of the HTTP server itself (no such route, wrong method, too large)."""
    match error:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{error.method} is not allowed here; allowed: {allowed}"
            return RefusedError(405, "method_not_allowed", detail, headers={"Allow": allowed})
        case web.HTTPNotFound():
            return RefusedError(404, "no_such_route", "nothing is here; see docs/http-api.md")
        case web.HTTPRequestEntityTooLarge():
            return RefusedError(413, "body_too_large", "the body is larger than this api takes")
        case _:
            reason = (error.reason or "refused").lower().replace(" ", "_")
            return RefusedError(error.status, reason, error.text or error.reason)


def problem_document(error: RefusedError) -> ProblemDocument:
    """The refusal as problem details."""
    return ProblemDocument(
        title=HTTPStatus(error.status).phrase,
        status=error.status,
        detail=str(error),
        reason=error.reason,
        errors=tuple(ErrorItem(pointer=p.pointer, message=p.message) for p in error.problems),
    )


def error_json(document: Document) -> str:
    """The document of an error as it is sent; an empty list of errors is left out."""
    unneeded = {"errors"} if isinstance(document, ProblemDocument) and not document.errors else None
    return document.model_dump_json(exclude=unneeded)


def respond(error: RefusedError, status: int, document: Document, media_type: str) -> web.Response:
    """The answer to a refused request: this document, with the headers that the refusal asks for."""
    response = web.Response(
        status=status,
        text=error_json(document),
        content_type=media_type,
        headers=error.headers,
    )
    if error.status in _UNREAD_BODY:
        response.force_close()
    return response
