"""The form of a call: one entry of the table that the service and its description are made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from penstock_api.answers import Answer
from penstock_api.bodies import MAX_BODY_BYTES, parse_json
from penstock_api.dialects import parse_body
from penstock_api.preconditions import IfMatch, parse_if_match
from penstock_api.problems import RefusedError
from penstock_common import subjects
from penstock_common.errors import InvalidDocumentError, Problem

if TYPE_CHECKING:
    from penstock_api.context import Api

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came over NATS."""

    subject: str
    body: bytes
    #: by name in lower case: NATS tells `If-Match` from `if-match`, no person does
    headers: Mapping[str, str]

    def json(self) -> object:
        """The body as parsed JSON; an empty one is an empty object.

        Raises:
            RefusedError: 400 (no JSON) or 413 (too large).
        """
        if len(self.body) > MAX_BODY_BYTES:
            raise RefusedError(
                413, "body_too_large", f"the body is larger than {MAX_BODY_BYTES} bytes"
            )
        return parse_json(self.body) if self.body else {}

    def read(self, model: type[M]) -> M:
        """The body as this model.

        Raises:
            RefusedError: as for `json`.
            InvalidDocumentError: with every problem found.
        """
        value = self.json()
        if not isinstance(value, Mapping):
            raise InvalidDocumentError([Problem("", "must be a JSON object")])
        return parse_body(model, value)

    @property
    def if_match(self) -> IfMatch:
        """The revisions that a change may be made to.

        Raises:
            PenstockError: the header is malformed.
        """
        return parse_if_match(self.headers.get("if-match"))


Handler = Callable[["Api", Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of call."""

    #: noun and verb: endpoint.create; what only reads ends in get or list
    name: str
    handler: Handler
    #: one line for the documentation
    summary: str
    #: of the body
    request: type[BaseModel]
    #: of the answer on success
    answer: type[BaseModel]
    #: required fields of the request that the api makes when they are left out
    made_when_missing: tuple[str, ...] = ()
    #: changes something: takes an Idempotency-Key
    changes: bool = False
    #: takes If-Match
    conditional: bool = False
    #: its answer has an ETag
    has_etag: bool = True
    #: an example of its body, for the documentation
    example: Mapping[str, object] | None = None

    @property
    def subject(self) -> str:
        """Where the call is sent."""
        return subjects.call(self.name)
