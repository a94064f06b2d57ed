"""Endpoint documents as text: values as YAML 1.2 has them, and the line of each."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.deployment.documents import (
    DocumentError,
    SourceDocument,
    read_documents,
    read_value,
)
from penstock_cli.input.yaml_text import pointer_step as step

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=5)


def read(text: str) -> SourceDocument:
    (document,) = read_documents(text, "f.yaml")
    return document


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        read_documents(text, "f.yaml")
    return str(caught.value)


def pointers(value: Any, pointer: str = "") -> set[str]:
    found = {pointer}
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            found |= pointers(item, pointer + step(name))
    return found


@given(OBJECTS, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_json_means_what_it_means(value: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = read(text)
    assert document.value == json.loads(text)
    assert document.places.keys() == pointers(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("", None), ("yes", "yes"), ("'3'", "3"), ("[a, 1]", ["a", 1])],
)
def test_a_single_value_is_read_likewise(text: str, value: object) -> None:
    assert read_value(text, "--set") == value


def test_each_value_knows_its_line() -> None:
    document = read(
        "app_name: echo\n\nimage:\n  image: x  # here\n  http_port: 1\nl:\n  - {z: 1}\n"
    )
    told = {pointer: str(place) for pointer, place in document.places.items()}
    assert told == {
        "": "f.yaml:1:1",
        "/app_name": "f.yaml:1:1",
        "/image": "f.yaml:3:1",
        "/image/image": "f.yaml:4:3",
        "/image/http_port": "f.yaml:5:3",
        "/l": "f.yaml:6:1",
        "/l/0": "f.yaml:7:5",
        "/l/0/z": "f.yaml:7:6",
    }
    assert str(document.place_of("/image/command")) == "f.yaml:3:1"
    assert str(document.place_of("/gpu/count")) == "f.yaml:1:1"


def test_a_source_may_hold_several_documents() -> None:
    found = read_documents("---\na: 1\n---\n---\nb: 2\n...\n", "f.yaml")
    assert [document.value for document in found] == [{"a": 1}, {"b": 2}]
    assert found[1].place_of("/b").line == 5


def test_an_alias_stands_where_it_is_used() -> None:
    document = read("x: &x {a: 1}\ny: *x\n")
    assert document.value["y"] == {"a": 1}
    assert str(document.place_of("/y")) == "f.yaml:2:1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4:3: key 'c' is there twice (first in line 3)"),
        ("a: [1, 2\nb: 3", "f.yaml:2:2: no YAML: expected ',' or ']'"),
        ("a: {b: ${C}}", "f.yaml:1:9: no YAML: put the text with ${…} in quotes"),
        ("- a", "f.yaml:1:1: is no object"),
        ("echo", "f.yaml:1:1: is no object"),
        ("# nothing\n", "f.yaml: holds no document"),
        ("---\n---\n", "f.yaml: holds no document"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str) -> None:
    assert told in refusal(text)


def test_a_json_file_is_judged_as_json() -> None:
    with pytest.raises(DocumentError, match=r"^f.json:1:8: no JSON: Expecting ','"):
        read_documents('{"a":1 "b": 2}', "f.json")


def test_anchors_within_anchors_do_not_unfold_for_ever() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    assert "unfolds to more than 100000 values" in refusal("\n".join(lines))
