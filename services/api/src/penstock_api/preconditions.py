"""ETag, If-Match, If-None-Match: a change that is only made to what its sender has seen [pure].

Source: RFC 9110 §8.8.3 (ETag), §13.1.1 (If-Match) and §13.1.2 (If-None-Match). The tag of an
endpoint is its record's revision in KV, so it changes with every change that somebody makes, and
not with what only happens (state, workers, load).
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from penstock_common.errors import PenstockError

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"\s*(?:{_TAG.pattern})(?:\s*,\s*(?:{_TAG.pattern}))*\s*")


class PreconditionFailedError(PenstockError):
    """It has changed since it was read: read it again and decide anew."""

    error_type: ClassVar[str] = "precondition_failed"
    status_hint: ClassVar[int] = 412


class MalformedConditionError(PenstockError):
    """If-Match takes the quoted ETag of an earlier answer, a list of them, or *."""

    error_type: ClassVar[str] = "malformed_if_match"
    status_hint: ClassVar[int] = 400


def etag(revision: int) -> str:
    """The strong entity tag of a record with this revision in KV."""
    return f'"{revision}"'


class MalformedAbsenceError(PenstockError):
    """If-None-Match of a write takes * alone: there must be no such endpoint yet."""

    error_type: ClassVar[str] = "malformed_if_none_match"
    status_hint: ClassVar[int] = 400


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The revisions that a change may be made to."""

    #: None = any that exists
    tags: frozenset[str] | None

    def check(self, revision: int) -> None:
        """Nothing, when a change of this revision is allowed.

        Raises:
            PreconditionFailedError: it is not.
        """
        if self.tags is not None and str(revision) not in self.tags:
            raise PreconditionFailedError


ANY: Final = IfMatch(None)


def parse_if_match(header: str | None) -> IfMatch:
    """What an If-Match header asks for; without one, nothing.

    Weak tags are read and never match, as the strong comparison of RFC 9110 wants.

    Raises:
        MalformedConditionError: it has another form.
    """
    if header is None or header.strip() == "*":
        return ANY
    if not _LIST.fullmatch(header):
        raise MalformedConditionError
    return IfMatch(frozenset(text for weak, text in _TAG.findall(header) if not weak))


def parse_if_none_match(header: str | None) -> bool:
    """Whether a write asks that there is nothing yet.

    Raises:
        MalformedAbsenceError: it asks for something else.
    """
    if header is not None and header.strip() != "*":
        raise MalformedAbsenceError
    return header is not None
