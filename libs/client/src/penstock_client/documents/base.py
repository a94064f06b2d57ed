"""What every document is made of, and the documents about the api itself."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
)
from typing_extensions import override

from penstock_common.errors import PenstockError


class NoTagError(PenstockError):
    """This document came without an ETag (in a list, say): show it alone to get one."""

    error_type: ClassVar[str] = "no_etag"


class Document(BaseModel):
    """Base of the answers: immutable; a client ignores fields that it does not know."""

    # A process reads few kinds of documents: their validators are built when first used.
    model_config = ConfigDict(frozen=True, defer_build=True)

    _raw: Mapping[str, Any] | None = PrivateAttr(default=None)
    _etag: str | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, value: object, *, etag: str | None = None) -> Self:
        """The document in this parsed JSON.

        Args:
            value: what was parsed.
            etag: the tag that came with it; None = none did.

        Raises:
            pydantic.ValidationError: it is no such document.
        """
        document = cls.model_validate(value, extra="ignore")
        document._etag = etag  # noqa: SLF001 - its own class
        if isinstance(value, Mapping):
            document._keep(value)  # noqa: SLF001
        return document

    def _keep(self, raw: Mapping[str, Any]) -> None:
        """Keep the JSON that this document, and those in it, came in."""
        self._raw = raw
        for name, value in self.__dict__.items():
            given = raw.get(name)
            if isinstance(value, Document) and isinstance(given, Mapping):
                value._keep(given)  # noqa: SLF001
            elif isinstance(value, tuple) and isinstance(given, list):
                for item, item_given in zip(value, given, strict=True):
                    if isinstance(item, Document) and isinstance(item_given, Mapping):
                        item._keep(item_given)  # noqa: SLF001

    @override
    def __eq__(self, other: object) -> bool:
        """Whether all fields are the same; how it came says nothing about what it is."""
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    @property
    def etag(self) -> str:
        """The tag of what was read, for the `if_match` of a change.

        Raises:
            NoTagError: it came without: of the api, only a single endpoint has one.
        """
        if self._etag is None:
            raise NoTagError
        return self._etag

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON object as the api sent it, fields that this client does not know included."""
        return self.model_dump(mode="json") if self._raw is None else self._raw


class OpenApiDocument(Document):
    """The api's OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: Mapping[str, Any]
    paths: Mapping[str, Any]
    components: Mapping[str, Any]


class AsyncApiDocument(Document):
    """The calls and events over NATS as an AsyncAPI document."""

    model_config = ConfigDict(extra="allow")

    asyncapi: str
    info: Mapping[str, Any]
    channels: Mapping[str, Any]
    operations: Mapping[str, Any]
    components: Mapping[str, Any]


class HealthDocument(Document):
    """The api process is alive, or ready."""

    status: Literal["ok"] = "ok"


class ErrorItem(Document):
    """One thing wrong in a document: where (JSON pointer, RFC 6901) and what to do about it."""

    pointer: str
    message: str


class ProblemDocument(Document):
    """An error as RFC 9457 problem details (`application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    #: stable name of the error, for programs
    reason: str
    #: everything wrong in the request's document
    errors: tuple[ErrorItem, ...] = ()
