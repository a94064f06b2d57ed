"""Bodies: strict JSON, and a reason for whatever is not."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.bodies import MAX_DEPTH, parse_json
from penstock_api.problems import RefusedError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refusal(body: bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        parse_json(body)
    assert caught.value.status == 400
    return str(caught.value)


def test_the_place_of_an_error_is_named() -> None:
    assert "line 2, column 3" in refusal(b'{"a": 1,\n  x}')


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "line 1, column 1"),
        (b"\xff\xfe", "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1" * 5000, "digits"),
        (b"[" * 500_000, "deep"),
        (b"[" * 33 + b"]" * 33, "deep"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\uDFFF": 1}', "surrogate"),
    ],
)
def test_what_is_no_strict_json_is_refused(body: bytes, told: str) -> None:
    assert told in refusal(body)


def test_the_deepest_document_and_a_whole_surrogate_pair_pass() -> None:
    body = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(body) == json.loads(body)
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@given(values)
def test_every_json_value_comes_through(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(RefusedError):
        parse_json(body)
