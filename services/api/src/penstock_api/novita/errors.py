"""Errors as Novita's clients know them: `code`, `reason`, `message`, `metadata` [pure]."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from penstock_api.problems import RefusedError
from penstock_client.documents import Document

#: Status → reason, where their clients look for one; else it is ours in capital letters.
_REASONS: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "INVALID_API_KEY",
    HTTPStatus.TOO_MANY_REQUESTS: "RATE_LIMIT_EXCEEDED",
    HTTPStatus.SERVICE_UNAVAILABLE: "SERVICE_NOT_AVAILABLE",
}


class NovitaError(Document):
    """An error of the Novita APIs."""

    #: the HTTP status
    code: int
    #: stable name of the error, for programs
    reason: str
    message: str
    #: field of the request → what is wrong with it
    metadata: Mapping[str, str] = {}


def novita_error(error: RefusedError, status: int) -> NovitaError:
    """The refusal in their form.

    Args:
        error: what to tell.
        status: that it is sent with.
    """
    metadata = {p.pointer[1:].replace("/", ".") or "body": p.message for p in error.problems}
    told = [str(error), *(f"{field} {message}" for field, message in metadata.items())]
    return NovitaError(
        code=status,
        reason=_REASONS.get(status, error.reason.upper()),
        message="; ".join(told),
        metadata=metadata,
    )
