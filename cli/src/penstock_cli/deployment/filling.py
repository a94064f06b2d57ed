"""What a document takes from outside: variables of the environment, and `--set` [pure].

`${NAME}` stands for a variable, in texts alone: what is filled in is text as well, whatever it
looks like, and never read as YAML. `$${` stands for the two characters `${`. A variable that is not
set is an error, since an empty image or password is hardly ever meant.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from penstock_cli.deployment.documents import (
    DocumentError,
    Fault,
    Place,
    SourceDocument,
    read_value,
)
from penstock_cli.input.yaml_text import pointer_step as step

_MARK: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
#: A dot that ends a part of a path; `\.` is a dot within one.
_DOT: Final = re.compile(r"(?<!\\)\.")
#: Sections whose values are texts, so that `--set env.DEBUG=1` needs no quotes.
_TEXTS: Final = frozenset({"env", "secrets"})


def fill_in(document: SourceDocument, environment: Mapping[str, str]) -> SourceDocument:
    """The document with the variables that its texts name.

    Raises:
        DocumentError: variables are not set, or named in another form; all of them are told.
    """
    filler = _Filler(document, environment)
    value = {name: filler.filled(inner, step(name)) for name, inner in document.value.items()}
    if filler.faults:
        raise DocumentError(filler.faults)
    return replace(document, value=value, variables=filler.variables)


class _Filler:
    """Fills in one document, and notes what it meets."""

    def __init__(self, document: SourceDocument, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self.faults: list[Fault] = []
        #: pointers of the texts with a variable in them → the first one's name
        self.variables: dict[str, str] = {}

    def filled(self, value: object, pointer: str) -> object:
        """The value with the variables that its texts name."""
        match value:
            case str():
                return _MARK.sub(lambda mark: self._put(mark, pointer), value)
            case dict():
                return {name: self.filled(v, pointer + step(name)) for name, v in value.items()}
            case list():
                return [self.filled(v, pointer + step(place)) for place, v in enumerate(value)]
            case _:
                return value

    def _put(self, mark: re.Match[str], pointer: str) -> str:
        if mark[0] == "$${":
            return "${"
        name = mark[1]
        if name is None:
            told = "'${' begins no variable; write ${NAME}, or $${ for the characters"
        elif name not in self._environment:
            told = f"{name} is not set; export it, or write $${{{name}}} for the text"
        else:
            self.variables.setdefault(pointer, name)
            return self._environment[name]
        self.faults.append(Fault(self._document.place_of(pointer), told))
        return ""


def override(document: SourceDocument, settings: Sequence[str]) -> SourceDocument:
    r"""The document with the values of `--set PATH=VALUE` in it, later ones last.

    Args:
        document: is not changed.
        settings: each `path=value`; dots part the path, `\.` is a dot, numbers index lists; the
            value is YAML, but text as it is in `env` and `secrets`.

    Raises:
        DocumentError: a path does not fit the document, or a value is no YAML.
    """
    for setting in settings:
        source = f"--set {setting}"
        path, equals, text = setting.partition("=")
        parts = [part.replace("\\.", ".") for part in _DOT.split(path)]
        if not equals or not all(parts):
            raise DocumentError([Fault(Place(source), "is not like workers.max=5")])
        plain = parts[0] in _TEXTS and len(parts) > 1
        value = text if plain else read_value(text, source)
        changed = _put(document.value, parts, value, source)
        assert isinstance(changed, dict)
        pointer = "".join(map(step, parts))
        kept = {
            known: place
            for known, place in document.places.items()
            if known != pointer and not known.startswith(f"{pointer}/")
        }
        variables = {
            known: name
            for known, name in document.variables.items()
            if known != pointer and not known.startswith(f"{pointer}/")
        }
        document = SourceDocument(changed, {**kept, pointer: Place(source)}, variables)
    return document


def check_texts(document: SourceDocument) -> None:
    """Nothing, when what becomes variables of workers is text.

    Raises:
        DocumentError: `DEBUG: 1` or `DEBUG: true` is a number or a truth, which YAML tells from text.
    """
    faults = [
        Fault(
            document.place_of(step(section) + step(name)),
            f"{section}.{name} must be text, and is {_kind(value)}; put it in quotes",
        )
        for section in sorted(_TEXTS)
        for name, value in _entries(document.value.get(section))
        if isinstance(value, bool | int | float)
    ]
    if faults:
        raise DocumentError(faults)


def _put(holder: Any, parts: Sequence[str], value: object, source: str) -> Any:  # noqa: ANN401
    """The holder with the value at the end of this path."""
    if not parts:
        return value
    first, rest = parts[0], parts[1:]
    if isinstance(holder, list):
        if not (first.isascii() and first.isdigit() and int(first) <= len(holder)):
            told = f"'{first}' is no place in a list of {len(holder)}"
            raise DocumentError([Fault(Place(source), told)])
        place = int(first)
        inner = holder[place] if place < len(holder) else None
        return [*holder[:place], _put(inner, rest, value, source), *holder[place + 1 :]]
    if holder is None:
        holder = {}
    if not isinstance(holder, Mapping):
        told = f"there is a value where '{first}' would go"
        raise DocumentError([Fault(Place(source), told)])
    return {**holder, first: _put(holder.get(first), rest, value, source)}


def _entries(section: object) -> list[tuple[str, object]]:
    return list(section.items()) if isinstance(section, Mapping) else []


def _kind(value: object) -> str:
    return "true or false" if isinstance(value, bool) else "a number"
