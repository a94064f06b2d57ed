"""Sealed secrets: only the key opens them, and only as they were."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.sealing import SealBrokenError, Sealer, new_key

SEALER = Sealer(new_key())


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_what_was_sealed_opens_as_it_was(secrets: dict[str, str]) -> None:
    sealed = SEALER.seal(secrets)
    assert sealed.keys() == secrets.keys()
    assert SEALER.open(sealed) == secrets
    assert all(len(value) < 4 or value not in sealed[name] for name, value in secrets.items())


def test_sealing_twice_does_not_tell_that_values_are_equal() -> None:
    assert SEALER.seal({"a": "x"}) != SEALER.seal({"a": "x"})


def test_another_key_does_not_open_it() -> None:
    sealed = Sealer(new_key()).seal({"TOKEN": "x"})
    with pytest.raises(SealBrokenError, match="'TOKEN'"):
        SEALER.open(sealed)


@given(st.data())
def test_a_changed_token_does_not_open(data: st.DataObject) -> None:
    token = SEALER.seal({"a": "secret"})["a"].rstrip("=")
    # The last character holds bits that decoding drops.
    at = data.draw(st.integers(0, len(token) - 2))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != token[at]))
    with pytest.raises(SealBrokenError):
        SEALER.open({"a": token[:at] + other + token[at + 1 :]})


@pytest.mark.parametrize("token", ["", "x", "gAAAAA==", "é"])
def test_what_is_no_token_does_not_open(token: str) -> None:
    with pytest.raises(SealBrokenError, match="'a'"):
        SEALER.open({"a": token})


def test_a_key_from_a_file(tmp_path: Path) -> None:
    key, file = new_key(), tmp_path / "key"
    file.write_text(f"{key}\n")
    assert Sealer.from_file(file).open(Sealer(key).seal({"a": "b"})) == {"a": "b"}


@pytest.mark.parametrize("key", ["", "short", "é" * 44])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Sealer(key)


def test_a_seal_says_whether_it_holds_a_value() -> None:
    sealer = Sealer(new_key())
    token = sealer.seal({"A": "välue"})["A"]
    assert sealer.holds(token, "välue")
    assert not sealer.holds(token, "value")
    assert not Sealer(new_key()).holds(token, "välue")
