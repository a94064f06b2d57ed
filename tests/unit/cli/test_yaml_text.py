"""Documents in YAML and JSON: what is read, what is refused, and that both ways meet."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.input.yaml_text import TextError, parse_text
from penstock_cli.output.documents import json_text, yaml_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(["on", "No", "22:00", "0o17", "1e3", "2024-01-01", "~", "<<", "=", ".inf"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_what_is_printed_as_yaml_is_read_as_the_same_value(value: Any) -> None:
    assert parse_text(yaml_text(value)) == value


@given(JSON_VALUES)
def test_json_is_read_as_json_however_it_is_indented(value: Any) -> None:
    assert parse_text(json_text(value)) == value
    assert parse_text(json.dumps(value, indent="\t")) == value


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"k" * 2000: {"\u0301" * 300: [{"n" * 1025: 1}, "x" * 3000, {}]}}),
        '{"a"\n:\n{"b" :[1\n,\n{"c"\n\n:2}]}}',
    ],
    ids=["long keys", "keys and colons on lines of their own"],
)
def test_json_has_keys_that_yaml_has_not(text: str) -> None:
    assert parse_text(text) == parse_text(text, only_json=True) == json.loads(text)


def test_the_words_are_those_of_yaml_1_2() -> None:
    text = (
        "a: on\nb: 22:00\nc: 2024-01-01\nd: 0x1F\ne: 1e3\nf: ~\ng:\nh: 'null'\ni: !!str 1\nj: True"
    )
    assert parse_text(text) == {
        "a": "on",
        "b": "22:00",
        "c": "2024-01-01",
        "d": 31,
        "e": 1000.0,
        "f": None,
        "g": None,
        "h": "null",
        "i": "1",
        "j": True,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "a: 1\nb:\n  c: 1\n  c: 2\n",
            "line 4, column 3: key 'c' is there twice (first in line 3)",
        ),
        ('{"a": 1,\n\t"a": 2}', "line 2, column 2: key 'a' is there twice (first in line 1)"),
        ("a: 1\n---\nb: 2\n", "line 3, column 1: no YAML: two documents; give one"),
        ("a: b: c", "line 1, column 5: no YAML: mapping values are not allowed here"),
        ("a: \x01", "line 1, column 4: no YAML: a character that no text has"),
        ("a:\n  8000: x", "line 2, column 3: key 8000 is no text; put it in quotes"),
        ("a: !!int 1", "line 1, column 4: tag !!int is not taken; leave it out"),
        ("a: !load x", "line 1, column 4: tag !load is not taken; leave it out"),
        ("a: &x {b: *x}", "line 1, column 4: an object that holds itself cannot be said in JSON"),
        ("<<: {}", "line 1, column 1: merge keys (<<) are not of YAML 1.2; write the fields out"),
        ("a: .inf", "line 1, column 4: .inf is no number that JSON has"),
        ("a: 2e999", "line 1, column 4: this number is too large"),
        ('{"a": 2e999}', "line 1, column 7: this number is too large"),
        ("a: " + "9" * 5000, "line 1, column 4: this number is too large"),
        ('{"a": ' + "9" * 5000 + "}", "line 1, column 7: this number is too large"),
        ("", "line 1, column 1: there is nothing in it"),
    ],
)
def test_what_is_refused_is_said_with_its_place(text: str, told: str) -> None:
    with pytest.raises(TextError) as refused:
        parse_text(text)
    assert str(refused.value) == told


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "[" * 200 + "]" * 200 + "#"])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(TextError, match="nested too deep"):
        parse_text(text)


def test_a_json_file_gets_the_words_of_jsons_parser() -> None:
    with pytest.raises(TextError, match="line 2, column 1: no JSON: Expecting value"):
        parse_text('{"a":\n', only_json=True)


def test_yaml_for_people_has_blocks_their_letters_and_the_order_of_the_api() -> None:
    document = {"z": "日本 é 😀", "a": {"log": "one\ntwo\n", "tags": ["x"]}, "bell": "\x1b[2J"}
    assert yaml_text(document) == (
        'z: 日本 é 😀\na:\n  log: |\n    one\n    two\n  tags:\n  - x\nbell: "\\e[2J"\n'
    )
