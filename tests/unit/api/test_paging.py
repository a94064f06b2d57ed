"""Pages: every item that stays is shown exactly once, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.paging import MAX_LIMIT, MalformedPageError, Page, parse_page


def place(item: int) -> tuple[str, ...]:
    return (f"{item:05d}",)


@given(st.sets(st.integers(0, 99_999), max_size=60), st.integers(1, 20))
def test_all_pages_together_are_the_list(items: set[int], limit: int) -> None:
    shown: list[int] = []
    query = {"limit": str(limit)}
    while True:
        page, cursor = parse_page(query).of(items, place)
        assert len(page) <= limit
        shown += page
        if cursor is None:
            break
        query["cursor"] = cursor
    assert shown == sorted(items)


@given(
    st.sets(st.integers(0, 999), min_size=4, max_size=60),
    st.sets(st.integers(0, 999), max_size=20),
    st.integers(1, 5),
)
def test_items_that_come_and_go_hide_and_repeat_no_other(
    items: set[int], changed: set[int], limit: int
) -> None:
    first, cursor = Page(limit).of(items, place)
    query = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
    rest, _ = parse_page(query).of(items ^ changed, place) if cursor else ([], None)
    stayed = items - changed
    assert stayed <= {*first, *rest}
    assert not set(first) & set(rest)


@pytest.mark.parametrize(
    "query",
    [
        *({"limit": text} for text in ("0", "-1", "1001", "x", "", "1.0", "٣", "9" * 99)),
        *({"cursor": text} for text in ("", "x", "%", "e30", "WzFd", "ü", "W" * 4_000)),
    ],
)
def test_what_is_no_page_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(MalformedPageError):
        parse_page(query)


def test_without_parameters_a_page_is_long() -> None:
    assert parse_page({}) == Page(MAX_LIMIT, None)
