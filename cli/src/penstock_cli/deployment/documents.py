"""Endpoint documents as YAML or JSON text: their values, and where each of them stands [pure].

Theory of operation. PyYAML parses the text into nodes with marks; values are made here, by the core
schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema) and not by PyYAML's of 1.1, in
which `no` is false, `1:30` is 90 and `012` is 10. JSON is read the same way, as YAML 1.2 takes it.
What JSON cannot say is refused: keys that are no text, infinities, tags of applications. A key that
stands twice is refused as well, since one of the two would silently count for nothing.

Anchors, aliases and merges (`<<`) work; an alias within its own anchor, or a text that unfolds to
more than `MAX_NODES`, is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import yaml
from typing_extensions import override

#: A document is small; a few anchors within anchors are not.
MAX_NODES: Final = 100_000

_TAG: Final = "tag:yaml.org,2002:"
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
#: Characters that a text in JSON may hold and that YAML refuses, or takes for the end of a line.
_JSON_ONLY: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: `source:line:column`, both from 1."""

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
    """A source cannot be taken; `faults` says all that is wrong."""

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


class _CoreLoader(yaml.SafeLoader):
    """Tells the types of plain scalars as YAML 1.2 does."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # of PyYAML's making


for _name, _pattern, _first in (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", re.compile(r"<<"), ["<"]),
):
    _CoreLoader.add_implicit_resolver(
        f"{_TAG}{_name}", re.compile(f"(?:{_pattern.pattern})\\Z"), _first
    )


def read_documents(text: str, source: str) -> list[SourceDocument]:
    """The documents in a text, in order; empty ones are left out.

    Args:
        text: YAML or JSON.
        source: what it is called in messages.

    Raises:
        DocumentError: it is neither, or holds no document, or one that is no object.
    """
    documents = []
    for root in _compose(text, source):
        builder = _Builder(source)
        value = builder.value(root, "")
        if value is None:
            continue
        if not isinstance(value, dict):
            told = "is no object; an endpoint document begins with a line like `app_name: echo`"
            raise DocumentError([Fault(builder.places[""], told)])
        documents.append(SourceDocument(value, builder.places))
    if not documents:
        raise DocumentError([Fault(Place(source), "holds no document")])
    return documents


def read_value(text: str, source: str) -> object:
    """The one YAML value in a short text, e.g. `3`, `[a, b]` or `yes`.

    Raises:
        DocumentError: it is none.
    """
    roots = _compose(text, source)
    if len(roots) > 1:
        raise DocumentError([Fault(Place(source), "holds more than one value")])
    return _Builder(source).value(roots[0], "") if roots else None


def step(name: object) -> str:
    """The part of a JSON pointer for this key or index, its `/` included."""
    return "/" + str(name).replace("~", "~0").replace("/", "~1")


def _compose(text: str, source: str) -> list[yaml.Node]:
    if _is_json(text):
        # No text in JSON holds a tab, and YAML takes none between. These do not stand between.
        text = text.replace("\t", " ")
        text = _JSON_ONLY.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        return list(yaml.compose_all(text, Loader=_CoreLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(source, mark.line + 1, mark.column + 1) if mark else Place(source)
        told = ", ".join(part for part in (error.problem, error.context) if part)
        if mark is not None and mark.index and text[mark.index - 1 : mark.index + 1] == "${":
            told = "put the text with ${…} in quotes; within { } and [ ] a brace is YAML's own"
        raise DocumentError([Fault(place, told)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        told = f"the character U+{ord(text[error.position]):04X} is not allowed; write it escaped"
        raise DocumentError([Fault(Place(source, line, column), told)]) from None
    except RecursionError:
        raise DocumentError([Fault(Place(source), "is nested too deeply")]) from None


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # YAML in flow style, or broken: its parser says where
        return False
    return True


class _Builder:
    """Makes the values of one document."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._n_nodes = 0
        #: nodes that are being made, to find one within itself
        self._open: set[int] = set()
        self.places: dict[str, Place] = {}

    def value(self, node: yaml.Node, pointer: str, key: yaml.Node | None = None) -> Any:  # noqa: ANN401
        """The value of a node, which stands at `pointer`, behind `key` if in an object."""
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            raise self._refused(node, f"unfolds to more than {MAX_NODES} values")
        if id(node) in self._open:
            raise self._refused(node, "holds itself")
        self.places.setdefault(pointer, self._place(key or node))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                self._check_tag(node, "map")
                return self._object(node, pointer)
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "seq")
                return [self.value(n, pointer + step(i)) for i, n in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _object(self, node: yaml.MappingNode, pointer: str) -> dict[str, Any]:
        seen: dict[str, yaml.Node] = {}
        made: dict[str, Any] = {}
        merged: list[yaml.MappingNode] = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += self._merged(value)
                continue
            name = self._scalar(key) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                raise self._refused(key, "a key must be text; put it in quotes")
            if name in seen:
                first = self._place(seen[name])
                raise self._refused(key, f"'{name}' stands twice; first at line {first.line}")
            seen[name] = key
            made[name] = self.value(value, pointer + step(name), key)
        for other in merged:
            # What the object says itself wins, then what is merged first.
            for name, value, key in self._entries(other):
                if name not in made:
                    made[name] = self.value(value, pointer + step(name), key)
        return made

    def _entries(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """The entries that a merge of this node gives, merges within it included."""
        within: list[yaml.MappingNode] = []
        self._n_nodes += 1
        if id(node) in self._open or self._n_nodes > MAX_NODES:
            raise self._refused(node, "holds itself")
        self._open.add(id(node))
        try:
            for key, value in node.value:
                if key.tag == f"{_TAG}merge":
                    within += self._merged(value)
                    continue
                name = self._scalar(key) if isinstance(key, yaml.ScalarNode) else None
                if not isinstance(name, str):
                    raise self._refused(key, "a key must be text; put it in quotes")
                yield name, value, key
            for other in within:
                yield from self._entries(other)
        finally:
            self._open.discard(id(node))

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for inner in nodes:
            if not isinstance(inner, yaml.MappingNode):
                raise self._refused(
                    inner, "`<<` merges objects; give it an alias of one, or a list"
                )
        return list(nodes)

    def _scalar(self, node: yaml.Node) -> str | int | float | bool | None:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return _joined(text)
            case "null":
                return None
            case "bool" if text.lower() in {"true", "false"}:
                return text.lower() == "true"
            case "int" if _INT.fullmatch(text):
                return _whole(text)
            case "float" if _FLOAT.fullmatch(text):
                if text.lower().lstrip("+-") in {".inf", ".nan"}:
                    raise self._refused(node, f"{text} is no number that JSON knows")
                return float(text)
            case "bool" | "int" | "float" as kind:
                raise self._refused(node, f"'{text}' is no {kind}")
            case _:
                raise self._refused(node, f"the tag {node.tag} is not taken here")

    def _check_tag(self, node: yaml.Node, kind: str) -> None:
        if node.tag != f"{_TAG}{kind}":
            raise self._refused(node, f"the tag {node.tag} is not taken here")

    def _place(self, node: yaml.Node) -> Place:
        mark = node.start_mark
        return Place(self._source, mark.line + 1, mark.column + 1)

    def _refused(self, node: yaml.Node, message: str) -> DocumentError:
        return DocumentError([Fault(self._place(node), message)])


def _whole(text: str) -> int:
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)


def _joined(text: str) -> str:
    """The text with the halves of surrogate pairs, as JSON escapes them, made one character."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
