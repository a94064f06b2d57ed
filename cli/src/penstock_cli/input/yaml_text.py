"""Reads a document written as YAML or JSON into the values that JSON has [pure].

Of YAML's versions it is 1.2's core schema: `on`, `yes` and `22:00` are texts, not booleans and
numbers of base 60, and a date is a text. What JSON cannot say is an error: keys that are no text,
tags, infinity. A key twice in one object is an error too: one of the two would be lost unseen.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

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


class TextError(Exception):
    """The text is no document; line and column count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")


def parse_text(text: str, *, only_json: bool = False) -> Any:  # noqa: ANN401  # any JSON value
    """The value in this text.

    Args:
        text: one document of YAML, or JSON, which counts as YAML but may hold what YAML's parser
            does not take.
        only_json: YAML that is no JSON is an error.

    Raises:
        TextError: it is neither, or says what JSON cannot.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite_float
        )
    except json.JSONDecodeError as error:
        if only_json:
            raise TextError(f"no JSON: {error.msg}", error.lineno, error.colno) from None
    except _UnusualError:
        # Valid JSON with a key twice, or NaN: YAML's parser says where. Tabs in JSON stand between
        # its words only; YAML's parser takes none there.
        text = text.replace("\t", " ")
    except RecursionError:
        raise TextError("nested too deep", 1, 1) from None
    except ValueError:
        # A number with thousands of digits: YAML's parser says where.
        text = text.replace("\t", " ")
    return _from_yaml(text)


def reads_as_other(text: str) -> bool:
    """Whether this text without quotes would be read as something else than a text."""
    return any(kind.fullmatch(text) for kind in (_NULL, _BOOLEAN, _INTEGER, _NUMBER, _NO_NUMBER))


class _Loader(yaml.BaseLoader):
    """Composes nodes; of PyYAML's own schema nothing is used."""

    @override
    def resolve(self, kind: type[yaml.Node], value: Any, implicit: tuple[bool, bool] | bool) -> str:
        if kind is yaml.ScalarNode and isinstance(implicit, tuple) and implicit[0]:
            return _PLAIN
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]  # of PyYAML
        return tag


class _UnusualError(Exception):
    """JSON that is valid, and says what a document must not."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise _UnusualError
    return document


def _refuse(name: str) -> float:
    raise _UnusualError


def _finite_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _UnusualError
    return number


def _from_yaml(text: str) -> Any:  # noqa: ANN401  # any JSON value
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise TextError("no YAML: a character that no text has", line, column) from None
    except RecursionError:
        raise TextError("nested too deep", 1, 1) from None
    if node is None:
        raise TextError("there is nothing in it", 1, 1)
    return _value(node, ())


def _syntax_error(error: yaml.MarkedYAMLError) -> TextError:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or error.context or "cannot be read"
    if problem == "but found another document":
        problem = "two documents; give one"
    if mark is None:
        return TextError(f"no YAML: {problem}", 1, 1)
    return TextError(f"no YAML: {problem}", mark.line + 1, mark.column + 1)


def _value(node: yaml.Node, around: tuple[yaml.Node, ...]) -> Any:  # noqa: ANN401  # any JSON value
    if any(node is outer for outer in around):
        raise _error(node, "an object that holds itself cannot be said in JSON")
    if len(around) >= _MAX_DEPTH:
        raise _error(node, "nested too deep")
    around = (*around, node)
    match node:
        case yaml.MappingNode():
            _check_tag(node, "map")
            return dict(_pairs(node, around))
        case yaml.SequenceNode():
            _check_tag(node, "seq")
            return [_value(item, around) for item in node.value]
        case yaml.ScalarNode():
            return _scalar(node)
        case _:
            raise AssertionError(f"PyYAML composes no {type(node).__name__}")


def _pairs(node: yaml.MappingNode, around: tuple[yaml.Node, ...]) -> Iterator[tuple[str, Any]]:
    seen: dict[str, yaml.Node] = {}
    for key_node, value_node in node.value:
        key = _value(key_node, around)
        if not isinstance(key, str):
            text = key_node.value if isinstance(key_node, yaml.ScalarNode) else "…"
            raise _error(key_node, f"key {text} is no text; put it in quotes")
        if key == "<<" and key_node.tag == _PLAIN:
            raise _error(key_node, "merge keys (<<) are not of YAML 1.2; write the fields out")
        if key in seen:
            first = seen[key].start_mark.line + 1
            raise _error(key_node, f"key '{key}' is there twice (first in line {first})")
        seen[key] = key_node
        yield key, _value(value_node, around)


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = node.value
    if node.tag != _PLAIN:
        _check_tag(node, "str")
        return str(text)
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
