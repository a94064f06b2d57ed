"""Small documents that people write: parsed strictly, with all problems told at once."""

from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from penstock_common.errors import InvalidDocumentError, Problem

M = TypeVar("M", bound=BaseModel)

_TEXTS: Final = {"extra_forbidden": "is no known field; remove it", "missing": "is required"}


def parse_document(model: type[M], document: object) -> M:
    """This JSON value as a document of this model.

    Raises:
        InvalidDocumentError: with every problem found; no message holds a value.
    """
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object")])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocumentError(
            [
                Problem(
                    "".join(f"/{part}" for part in found["loc"]),
                    _TEXTS.get(found["type"]) or _sentence(found["msg"]),
                )
                for found in error.errors(include_input=False, include_context=False)
            ]
        ) from None


def _sentence(message: str) -> str:
    """What pydantic says, as a part of a sentence that begins with the field."""
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
