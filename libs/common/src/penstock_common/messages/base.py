"""What every wire type is made of."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, field_validator

from penstock_common.specs import EndpointSpec, load_endpoint


class Message(BaseModel):
    """Base of the wire types: immutable, JSON, unknown fields ignored."""

    # A process reads and writes few of the wire types: their validators are built when first used.
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    def encode(self) -> bytes:
        """The message as JSON bytes."""
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The message in these JSON bytes.

        Raises:
            pydantic.ValidationError: they hold no such message.
        """
        return cls.model_validate_json(data)


class WithSpec(Message):
    """A message that carries an endpoint's document, read leniently: it was valid when written."""

    spec: EndpointSpec

    @field_validator("spec", mode="before")
    @classmethod
    def _lenient(cls, value: object) -> object:
        return load_endpoint(value) if isinstance(value, Mapping) else value
