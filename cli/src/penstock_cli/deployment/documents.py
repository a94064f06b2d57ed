"""Endpoint documents of a person's sources, each value with the place where it stands [pure]."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from typing_extensions import override

from penstock_cli.input.yaml_text import TextError, parse_documents, parse_text

_JSON_NAME: Final = re.compile(r"\.json$")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: `source:line:column`, both from 1; 0 = the source as a whole."""

    source: str
    line: int = 0
    column: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class Fault(NamedTuple):
    """One thing wrong in a source."""

    place: Place
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class DocumentError(Exception):
    """Sources cannot be taken; `faults` says all that is wrong."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document of a source."""

    value: Mapping[str, Any]
    #: JSON pointer of each value → where it, or its key, stands
    places: Mapping[str, Place]
    #: pointers of the texts in which a variable was filled in → its name
    variables: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, pointer: str) -> Place:
        """Where the value at this pointer stands, or, when it is not there, what would hold it."""
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places[pointer]

    def with_value(self, value: Mapping[str, Any]) -> "SourceDocument":
        """The same places with other values."""
        return replace(self, value=value)


def read_documents(text: str, source: str) -> list[SourceDocument]:
    """The documents in a text, in order; empty ones are left out.

    Args:
        text: YAML or JSON.
        source: what it is called in messages; of a name that ends so, JSON alone is taken.

    Raises:
        DocumentError: it is neither, or holds no document, or one that is no object.
    """
    try:
        parsed = parse_documents(text, only_json=_JSON_NAME.search(source) is not None)
    except TextError as error:
        place = Place(source, error.line, error.column)
        raise DocumentError([Fault(place, error.message)]) from None
    documents = []
    for value, found in parsed:
        places = {pointer: Place(source, *at) for pointer, at in found.items()}
        if value is None:
            continue
        if not isinstance(value, dict):
            told = "is no object; an endpoint document begins with a line like `app_name: echo`"
            raise DocumentError([Fault(places[""], told)])
        documents.append(SourceDocument(value, places))
    if not documents:
        raise DocumentError([Fault(Place(source), "holds no document")])
    return documents


def read_value(text: str, source: str) -> object:
    """The one YAML value in a short text, e.g. `3`, `[a, b]` or `yes`; null where there is none.

    Raises:
        DocumentError: it is none, or there are two.
    """
    try:
        return parse_text(text) if text.strip() else None
    except TextError as error:
        raise DocumentError([Fault(Place(source), error.message)]) from None
