"""Reads a document written as YAML or JSON into the values that JSON has [pure].

Of YAML's versions it is 1.2's core schema: `on`, `yes` and `22:00` are texts, not booleans and
numbers of base 60, and a date is a text. What JSON cannot say is an error: keys that are no text,
tags, infinity. A key twice in one object is an error too: one of the two would be lost unseen.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml
from typing_extensions import override

_NULL: Final = re.compile(r"~|null|Null|NULL|")
_BOOLEAN: Final = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: Tag of a scalar without quotes and without a tag: the schema says what it is.
_PLAIN: Final = "plain"
#: Deeper than any document; the parser itself works by recursion.
_MAX_DEPTH: Final = 100
#: A document is small; a few anchors within anchors are not.
_MAX_VALUES: Final = 100_000
_HALF: Final = re.compile("[\ud800-\udfff]")
#: Characters that a text in JSON may hold and that YAML refuses, or takes for the end of a line.
_JSON_ONLY: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


class TextError(Exception):
    """The text is no document; line and column count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


class Parsed(NamedTuple):
    """One document of a text."""

    value: Any
    #: JSON pointer of each value → (line, column) of it, or of its key, both from 1
    places: Mapping[str, tuple[int, int]]


def parse_text(text: str, *, only_json: bool = False) -> Any:  # noqa: ANN401  # any JSON value
    """The value in this text.

    Args:
        text: one document of YAML, or JSON, which counts as YAML but may hold what YAML's parser
            does not take.
        only_json: YAML that is no JSON is an error.

    Raises:
        TextError: it is neither, or says what JSON cannot.
    """
    found = _compose(text, only_json=only_json)
    if not found:
        raise TextError("there is nothing in it", 1, 1)
    if len(found) > 1:
        mark = found[1].start_mark
        raise TextError("no YAML: two documents; give one", mark.line + 1, mark.column + 1)
    return _Builder().value(found[0], "", ())


def parse_documents(text: str, *, only_json: bool = False) -> list[Parsed]:
    """The documents in this text, with the place of each value; the arguments are as above.

    Raises:
        TextError: as `parse_text`; a text may have no document, or several.
    """
    parsed = []
    for node in _compose(text, only_json=only_json):
        builder = _Builder()
        value = builder.value(node, "", ())
        parsed.append(Parsed(value, builder.places))
    return parsed


def reads_as_other(text: str) -> bool:
    """Whether this text without quotes would be read as something else than a text."""
    return any(kind.fullmatch(text) for kind in (_NULL, _BOOLEAN, _INTEGER, _NUMBER, _NO_NUMBER))


def pointer_step(name: object) -> str:
    """The part of a JSON pointer (RFC 6901) for this key or index, its `/` included."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


class _Loader(yaml.BaseLoader):
    """Composes nodes; of PyYAML's own schema nothing is used."""

    @override
    def resolve(self, kind: type[yaml.Node], value: Any, implicit: tuple[bool, bool] | bool) -> str:
        if kind is yaml.ScalarNode and isinstance(implicit, tuple) and implicit[0]:
            return _PLAIN
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # of PyYAML
        return tag


class _JsonLoader(_Loader):
    """Takes the keys that JSON has: of any length, and perhaps on another line than their colon.

    YAML wants a key to end within 1,024 characters and on its line (YAML 1.2.2, 7.4.2), and its
    scanner forgets those that do not.
    """

    @override
    def stale_possible_simple_keys(self) -> None:
        pass


def _compose(text: str, *, only_json: bool) -> list[yaml.Node]:
    loader: type[_Loader] = _Loader
    if _is_json(text, only_json=only_json):
        loader = _JsonLoader
        # No text in JSON holds a tab, and YAML takes none between. The others stand in texts only.
        text = text.replace("\t", " ")
        text = _JSON_ONLY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        return list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise TextError("no YAML: a character that no text has", line, column) from None
    except RecursionError:
        raise TextError("nested too deep", 1, 1) from None


def _is_json(text: str, *, only_json: bool) -> bool:
    try:
        # What is JSON but says too much (a key twice, a huge number) is refused with its place.
        json.loads(text, parse_constant=_refuse, parse_float=str, parse_int=str)
    except json.JSONDecodeError as error:
        if only_json:
            raise TextError(f"no JSON: {error.msg}", error.lineno, error.colno) from None
        return False
    except _NoJsonError as error:
        if only_json:
            raise TextError(f"no JSON: {error}", 1, 1) from None
        return False
    except RecursionError:
        raise TextError("nested too deep", 1, 1) from None
    return True


class _NoJsonError(Exception):
    """A constant that Python's parser takes and JSON has not."""


def _refuse(name: str) -> float:
    raise _NoJsonError(f"{name} is no number that it has")


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> TextError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "cannot be read"
    if mark is None:
        return TextError(f"no YAML: {problem}", 1, 1)
    if mark.index and text[mark.index - 1 : mark.index + 1] == "${":
        problem = "put the text with ${…} in quotes; within [ ] and { } a brace is YAML's own"
    return TextError(f"no YAML: {problem}", mark.line + 1, mark.column + 1)


class _Builder:
    """Makes the value of one document, and notes where each part of it stands."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[int, int]] = {}

    def value(
        self,
        node: yaml.Node,
        pointer: str,
        around: tuple[yaml.Node, ...],
        key: yaml.Node | None = None,
    ) -> Any:  # noqa: ANN401  # any JSON value
        """The value of a node at this JSON pointer, `around` it being those that hold it."""
        if any(node is outer for outer in around):
            raise _error(node, "an object that holds itself cannot be said in JSON")
        if len(around) >= _MAX_DEPTH:
            raise _error(node, "nested too deep")
        if len(self.places) >= _MAX_VALUES:
            raise _error(node, f"it unfolds to more than {_MAX_VALUES} values")
        mark = (key or node).start_mark
        self.places[pointer] = (mark.line + 1, mark.column + 1)
        around = (*around, node)
        match node:
            case yaml.MappingNode():
                _check_tag(node, "map")
                return dict(self._pairs(node, pointer, around))
            case yaml.SequenceNode():
                _check_tag(node, "seq")
                return [
                    self.value(item, pointer + pointer_step(place), around)
                    for place, item in enumerate(node.value)
                ]
            case yaml.ScalarNode():
                return _scalar(node)
            case _:
                raise AssertionError(f"PyYAML composes no {type(node).__name__}")

    def _pairs(
        self, node: yaml.MappingNode, pointer: str, around: tuple[yaml.Node, ...]
    ) -> Iterator[tuple[str, Any]]:
        seen: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                text = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
                raise _error(key_node, f"key {text} is no text; put it in quotes")
            if key == "<<" and key_node.tag == _PLAIN:
                raise _error(key_node, "merge keys (<<) are not of YAML 1.2; write the fields out")
            if key in seen:
                first = seen[key].start_mark.line + 1
                raise _error(key_node, f"key '{key}' is there twice (first in line {first})")
            seen[key] = key_node
            yield key, self.value(value_node, pointer + pointer_step(key), around, key_node)


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = node.value
    if node.tag != _PLAIN:
        _check_tag(node, "str")
        return _joined(text)
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text[0] in "tT"
    if _INTEGER.fullmatch(text):
        return _integer(node, text)
    if _NUMBER.fullmatch(text):
        return _finite(node, float(text))
    if _NO_NUMBER.fullmatch(text):
        raise _error(node, f"{text} is no number that JSON has")
    return str(text)


def _joined(text: str) -> str:
    """The text with the halves of surrogate pairs, as JSON escapes them, made one character."""
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _integer(node: yaml.Node, text: str) -> int:
    try:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    except ValueError:  # thousands of digits
        raise _error(node, "this number is too large") from None


def _finite(node: yaml.Node, number: float) -> float:
    if math.isinf(number):
        raise _error(node, "this number is too large")
    return number


def _check_tag(node: yaml.Node, kind: str) -> None:
    if node.tag not in (f"tag:yaml.org,2002:{kind}", "!"):
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise _error(node, f"tag {tag} is not taken; leave it out")


def _error(node: yaml.Node, message: str) -> TextError:
    return TextError(message, node.start_mark.line + 1, node.start_mark.column + 1)
