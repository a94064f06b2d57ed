"""Variables and `--set`: what goes into a document, and what is said when it cannot."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.deployment.documents import DocumentError, SourceDocument, read_documents
from penstock_cli.deployment.filling import check_texts, fill_in, override


def read(text: str) -> SourceDocument:
    return read_documents(text, "f.yaml")[0]


def test_a_variable_is_filled_in_as_text_and_never_read_as_yaml() -> None:
    document = read("a: x-${A}-${B}\nb: [ '${A}' ]\nc: 1\n")
    filled = fill_in(document, {"A": "1\nz: 2", "B": "${A}"})
    assert filled.value == {"a": "x-1\nz: 2-${A}", "b": ["1\nz: 2"], "c": 1}
    assert filled.variables == {"/a": "A", "/b/0": "A"}


def test_what_is_not_set_is_told_all_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        fill_in(read("a: ${A}\nb:\n  c: ${B} ${C-x}\n  d: ${E}\n"), {"E": ""})
    assert [str(fault.place) for fault in caught.value.faults] == [
        "f.yaml:1:1",
        "f.yaml:3:3",
        "f.yaml:3:3",
    ]
    assert "A is not set" in caught.value.faults[0].message
    assert "'${' begins no variable" in caught.value.faults[2].message


def test_a_doubled_dollar_stands_for_the_characters() -> None:
    filled = fill_in(read("a: $${A} $A $$ ${A}\n"), {"A": "1"})
    assert filled.value == {"a": "${A} $A $$ 1"}


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    document = SourceDocument({"a": text.replace("${", "$${")}, {})
    assert fill_in(document, {}).value == {"a": text}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("workers.max=5", {"workers": {"max": 5, "min": 1}}),
        ("gpu.products=[a, b]", {"gpu": {"products": ["a", "b"]}}),
        ("image.image=acme/echo:1=x", {"image": {"image": "acme/echo:1=x"}}),
        ("env.DEBUG=1", {"env": {"DEBUG": "1"}}),
        ("health.path=null", {"health": {"path": None}}),
        (r"placement.node_selector.a\.b/c=x", {"placement": {"node_selector": {"a.b/c": "x"}}}),
        ("volumes.0.size=2", {"volumes": [{"size": 2}]}),
        ("volumes.1=x", {"volumes": [{"size": 1}, "x"]}),
        ("env={A: b}", {"env": {"A": "b"}}),
        ("name=", {"name": None}),
    ],
)
def test_a_setting_goes_where_its_path_says(setting: str, value: dict[str, Any]) -> None:
    document = read("workers: {max: 3, min: 1}\nvolumes: [{size: 1}]\n")
    changed = override(document, [setting])
    for name, wanted in value.items():
        assert changed.value[name] == wanted
    assert document.value["workers"] == {"max": 3, "min": 1}


def test_a_value_that_was_set_stands_on_the_command_line() -> None:
    document = fill_in(read("workers: {max: '${N}', min: 1}\n"), {"N": "3"})
    changed = override(document, ["workers.max=many"])
    assert str(changed.place_of("/workers/max")) == "--set workers.max=many"
    assert str(changed.place_of("/workers/min")) == "f.yaml:1:24"
    assert changed.variables == {}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("workers", "is not like workers.max=5"),
        ("workers..max=1", "is not like workers.max=5"),
        ("volumes.7=x", "'7' is no place in a list of 1"),
        ("volumes.x=x", "'x' is no place in a list of 1"),
        ("workers.max.most=1", "there is a value where 'most' would go"),
        ("workers.max=[1", "expected ',' or ']'"),
    ],
)
def test_a_setting_that_fits_nowhere_is_told(setting: str, told: str) -> None:
    with pytest.raises(DocumentError, match=r"^--set ") as caught:
        override(read("workers: {max: 3}\nvolumes: [1]\n"), [setting])
    assert told in str(caught.value)


def test_numbers_and_truths_among_the_variables_are_to_be_quoted() -> None:
    check_texts(read("env: {A: '1', C: }\nsecrets:\n"))
    with pytest.raises(DocumentError) as caught:
        check_texts(read("env:\n  A: 1\n  B: true\nsecrets: {C: 1.5}\n"))
    assert [str(fault) for fault in caught.value.faults] == [
        "f.yaml:2:3: env.A must be text, and is a number; put it in quotes",
        "f.yaml:3:3: env.B must be text, and is true or false; put it in quotes",
        "f.yaml:4:11: secrets.C must be text, and is a number; put it in quotes",
    ]
