"""The documents of an API key: what a person writes to make one, and to change it."""

from datetime import datetime
from typing import Annotated, Final, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from penstock_common.document_parsing import parse_document
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import KeyScope

Name = Annotated[str, Field(min_length=1, max_length=100)]
Limit = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
#: Seconds from now, at most ten years.
Lifetime = Annotated[int, Field(ge=1, le=10 * 366 * 24 * 3600, strict=True)]

#: Scopes that may make endpoints.
MAKES_ENDPOINTS: Final = frozenset({"admin", "deploy"})


class ApiKeySpec(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: for people
    name: Name
    scope: KeyScope
    #: for `invoke`: ids or app_names of the endpoints it may call; empty = all
    endpoints: tuple[Name, ...] = ()
    #: most workers and GPUs that the endpoints it makes may hold, all together; null = any number
    max_workers: Limit | None = None
    max_gpus: Limit | None = None
    #: from when on it opens nothing, as an instant or in seconds from now; neither = it does not expire
    expires_at: AwareDatetime | None = None
    expires_in_s: Lifetime | None = None

    @model_validator(mode="after")
    def _expires_once(self) -> Self:
        _check_one_expiry(self.expires_at, self.expires_in_s)
        return self

    @model_validator(mode="after")
    def _fits_its_scope(self) -> Self:
        if self.endpoints and self.scope != "invoke":
            raise ValueError("only a key of scope invoke names endpoints")
        quota = (self.max_workers, self.max_gpus) != (None, None)
        if quota and self.scope not in MAKES_ENDPOINTS:
            raise ValueError(f"a key of scope {self.scope} makes no endpoints; leave the quota out")
        return self


class ApiKeyChange(BaseModel):
    """What may be changed of a key; what is left out stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = None
    max_workers: Limit | None = None
    max_gpus: Limit | None = None
    #: from when on it opens nothing, as an instant (null = never) or in seconds from now
    expires_at: AwareDatetime | None = None
    expires_in_s: Lifetime | None = None

    @model_validator(mode="after")
    def _expires_once(self) -> Self:
        _check_one_expiry(self.expires_at, self.expires_in_s)
        return self


class ApiKeyRotation(BaseModel):
    """How a key gets a new secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: so long the old secret opens as well; 0 = no longer
    old_expires_in_s: Annotated[int, Field(ge=0, le=366 * 24 * 3600, strict=True)] = 0


def _check_one_expiry(expires_at: datetime | None, expires_in_s: int | None) -> None:
    if expires_at is not None and expires_in_s is not None:
        raise ValueError("give expires_at or expires_in_s, not both")


def parse_api_key(document: object) -> ApiKeySpec:
    """The key to be made, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(ApiKeySpec, document)


def parse_api_key_change(document: object) -> ApiKeyChange:
    """The change of a key, from this JSON value; `model_fields_set` says what is changed.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    change = parse_document(ApiKeyChange, document)
    if "expires_in_s" in change.model_fields_set and change.expires_in_s is None:
        raise InvalidDocumentError([Problem("/expires_in_s", "is a number of seconds")])
    if "name" in change.model_fields_set and change.name is None:
        raise InvalidDocumentError([Problem("/name", "cannot be taken away")])
    return change


def parse_api_key_rotation(document: object) -> ApiKeyRotation:
    """How a key is to be rotated, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(ApiKeyRotation, document)
