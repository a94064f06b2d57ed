"""Errors that cross a module's border.

`PenstockError` is the one base. A class's docstring is its default message (as part of a sentence:
it begins with a small letter and ends without a full stop), `error_type` its stable name (the `error.type` of telemetry and the `reason` of an API body), `status_hint` the
HTTP status an HTTP shell answers with. Expected outcomes are return values, not exceptions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

_PLAIN_WORD: Final = re.compile(r"[A-Z][a-z]*[ ,]")


class PenstockError(Exception):
    """Penstock met an error."""

    error_type: ClassVar[str] = "internal"
    status_hint: ClassVar[int] = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _told(type(self).__doc__ or ""))


def _told(docstring: str) -> str:
    first = docstring.strip().splitlines()[0].removesuffix(".")
    # Names keep their capitals: NATS, If-Match.
    return first[:1].lower() + first[1:] if _PLAIN_WORD.match(first) else first


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a document: where (JSON pointer, RFC 6901) and what to do about it."""

    pointer: str
    message: str


class InvalidDocumentError(PenstockError):
    """The document has errors."""

    error_type = "invalid_document"
    status_hint = 422

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.message}" for p in self.problems))


class IllegalTransitionError(PenstockError):
    """The state machine has no such transition."""

    error_type = "illegal_transition"


class BusDisconnectedError(PenstockError):
    """NATS is not connected."""

    error_type = "nats_disconnected"
    status_hint = 503


class BusTimeoutError(PenstockError):
    """NATS did not answer in time; what was asked may or may not have been done."""

    error_type = "nats_timeout"
    status_hint = 503


class NoRespondersError(PenstockError):
    """Nobody serves this NATS subject."""

    error_type = "nats_no_responders"
    status_hint = 503


class MessageTooLargeError(PenstockError):
    """The message with its headers is larger than the NATS server takes."""

    error_type = "message_too_large"
    status_hint = 413


class WrongRevisionError(PenstockError):
    """Somebody else wrote first: the expected revision is not the last one."""

    error_type = "wrong_revision"
    status_hint = 409


class BusRefusedError(PenstockError):
    """The NATS server refused the request."""

    error_type = "nats_refused"
    status_hint = 503

    def __init__(self, message: str, *, code: int = 0) -> None:
        self.code = code  # JetStream's err_code, 0 where there is none
        super().__init__(message)
