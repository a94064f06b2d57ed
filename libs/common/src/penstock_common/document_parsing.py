"""Documents that people write: parsed strictly, with all problems told at once."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from penstock_common.errors import InvalidDocumentError, Problem

M = TypeVar("M", bound=BaseModel)


def parse_document(model: type[M], document: object, *, union: tuple[str, ...] | None = None) -> M:
    """This JSON value as a document of this model.

    Args:
        model: what it is to be.
        document: parsed JSON.
        union: where the model has a tagged union, `*` for a place in a list.

    Raises:
        InvalidDocumentError: with every problem found, each with a JSON pointer; no message holds a
            value.
    """
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object")])
    try:
        return model.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False)
        raise InvalidDocumentError([_problem(model, e, union) for e in found]) from None


def _problem(model: type[BaseModel], error: ErrorDetails, union: tuple[str, ...] | None) -> Problem:
    loc = [str(part) for part in error["loc"]]
    if union is not None and len(loc) > len(union) and _lies_under(loc, union):
        del loc[len(union)]  # the union's tag; it is no part of the document
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in loc)
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = f"is no known field{_nearest(model, loc)}"
    elif error["type"] == "missing":
        message = "is required"
    return Problem(pointer, message[:1].lower() + message[1:])


def _lies_under(loc: list[str], place: tuple[str, ...]) -> bool:
    return all(wanted in ("*", part) for part, wanted in zip(loc, place, strict=False))


def _nearest(model: type[BaseModel], loc: list[str]) -> str:
    found: type[BaseModel] | None = model
    for part in loc[:-1]:
        field = found.model_fields.get(part) if found else None
        inner: Any = field.annotation if field else None
        found = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    names = list(found.model_fields) if found else []
    close = difflib.get_close_matches(loc[-1], names, n=1)
    return f"; did you mean '{close[0]}'?" if close else "; remove it"
