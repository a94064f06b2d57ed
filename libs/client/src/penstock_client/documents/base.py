"""What every document is made of, and the documents about the api itself."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr


class Document(BaseModel):
    """Base of the answers: immutable; a client ignores fields that it does not know."""

    model_config = ConfigDict(frozen=True)

    _raw: Mapping[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, value: object) -> Self:
        """The document in this parsed JSON.

        Raises:
            pydantic.ValidationError: it is no such document.
        """
        document = cls.model_validate(value, extra="ignore")
        if isinstance(value, Mapping):
            document._raw = value  # noqa: SLF001  # its own class
        return document

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
