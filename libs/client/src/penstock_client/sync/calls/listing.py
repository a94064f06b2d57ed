# Made by libs/client/make_sync.py of penstock_client/calls/listing.py: change that one.
"""Lists that the api gives in pages, as one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

from penstock_client.api_requests import with_query
from penstock_client.documents import Document
from penstock_client.sync.transport import Transport

T = TypeVar("T", bound=Document)
L = TypeVar("L", bound=Document)

_CURSOR: Final = "next_cursor"


class Listing(Generic[T, L]):
    """A list that is not fetched yet: iterate over its items, its pages, or have it whole.

    Pages are fetched as they are needed. What is made or deleted meanwhile may be in it or not; no
    item comes twice. Each iteration asks anew.
    """

    def __init__(
        self,
        transport: Transport,
        path: str,
        page: type[L],
        items: Callable[[L], Iterable[T]],
        query: Mapping[str, object] | None = None,
    ) -> None:
        """A list at this path.

        Args:
            transport: asks for the pages.
            path: encoded, without query.
            page: the document that a page is; beside `next_cursor` it has one member.
            items: of a page.
            query: filters, and the `limit` of a page; those that are None are left out.
        """
        self._transport = transport
        self._path = path
        self._page = page
        self._items = items
        self._query = dict(query or {})

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from self._items(page)

    def pages(self) -> Iterator[L]:
        """The pages as the api gives them, one after the other."""
        cursor: object = None
        while True:
            path = with_query(self._path, {**self._query, "cursor": cursor})
            page = self._transport.ask(self._page, "GET", path)
            yield page
            cursor = page.raw.get(_CURSOR)
            if cursor is None:
                return

    def whole(self) -> L:
        """All pages as one document, as if the api had given the list in one."""
        pages = list(self.pages())
        if len(pages) == 1:
            return pages[0]
        (member,) = (name for name in self._page.model_fields if name != _CURSOR)
        items: list[Any] = [item for page in pages for item in page.raw[member]]
        return self._page.of({**pages[-1].raw, member: items})
