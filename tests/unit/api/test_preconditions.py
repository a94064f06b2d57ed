"""If-Match: which revisions a change may be made to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.preconditions import (
    MalformedAbsenceError,
    MalformedConditionError,
    PreconditionFailedError,
    etag,
    parse_if_match,
    parse_if_none_match,
)


@given(st.integers(1, 1 << 62), st.integers(1, 1 << 62))
def test_a_tag_matches_its_own_revision_alone(seen: int, now: int) -> None:
    condition = parse_if_match(etag(seen))
    if seen == now:
        condition.check(now)
    else:
        with pytest.raises(PreconditionFailedError):
            condition.check(now)


@pytest.mark.parametrize("header", [None, "*", " * ", '"7"', '"6", "7"', 'W/"6" ,"7"', '"", "7"'])
def test_these_allow_revision_7(header: str | None) -> None:
    parse_if_match(header).check(7)


@pytest.mark.parametrize("header", ['"8"', 'W/"7"', '"07"', '"7,8"', '""'])
def test_these_do_not(header: str) -> None:
    with pytest.raises(PreconditionFailedError):
        parse_if_match(header).check(7)


@pytest.mark.parametrize(
    "header", ["", "7", '"7', '7"', '"7";"8"', '*, "7"', '"7",', 'w/"7"', '"a b"']
)
def test_these_are_malformed(header: str) -> None:
    with pytest.raises(MalformedConditionError):
        parse_if_match(header)


def test_a_write_may_ask_that_there_is_nothing_yet() -> None:
    assert parse_if_none_match("*")
    assert not parse_if_none_match(None)
    with pytest.raises(MalformedAbsenceError):
        parse_if_none_match('"7"')
