"""Lists in pages: `?limit=` items, and a cursor to where the next page begins [pure].

A cursor is the place of a page's last item in the list's order, not a count, so items that come and
go meanwhile neither hide nor repeat others.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, TypeVar

from penstock_common.errors import PenstockError

T = TypeVar("T")

MAX_LIMIT: Final = 1_000
DEFAULT_LIMIT: Final = 1_000
_MAX_CURSOR_LENGTH: Final = 512


class MalformedPageError(PenstockError):
    """limit is a number from 1 to 1000; cursor is the `next_cursor` of the page before."""

    error_type: ClassVar[str] = "malformed_page"
    status_hint: ClassVar[int] = 400


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    limit: int = DEFAULT_LIMIT
    #: place of the last item that was seen; None = from the beginning
    after: tuple[str, ...] | None = None

    def of(
        self, items: Iterable[T], place: Callable[[T], tuple[str, ...]]
    ) -> tuple[list[T], str | None]:
        """The page's items in their order, and the cursor of the next page; None = the last.

        Args:
            items: the whole list, in any order.
            place: of an item in the order; no two have the same.
        """
        after = self.after
        ordered = sorted(
            (item for item in items if after is None or place(item) > after), key=place
        )
        shown = ordered[: self.limit]
        return shown, encode_cursor(place(shown[-1])) if len(ordered) > self.limit else None


def oldest(at: datetime, name: str) -> tuple[str, ...]:
    """Place in a list that begins with the oldest, of what began then and has this id."""
    return at.isoformat(timespec="microseconds"), name


def parse_page(query: Mapping[str, str]) -> Page:
    """The page that these parameters of a URL ask for.

    Raises:
        MalformedPageError: they are none.
    """
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise MalformedPageError
    cursor = query.get("cursor")
    return Page(int(text), None if cursor is None else _place(cursor))


def encode_cursor(place: tuple[str, ...]) -> str:
    """The cursor of the page behind this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[str, ...]:
    if len(cursor) > _MAX_CURSOR_LENGTH:
        raise MalformedPageError
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):  # of JSON and of UTF-8 as well
        raise MalformedPageError from None
    if not isinstance(place, list) or not all(isinstance(part, str) for part in place):
        raise MalformedPageError
    return tuple(place)
