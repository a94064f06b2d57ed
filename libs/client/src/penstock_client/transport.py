"""How every call reaches the api: one session, one key, answers parsed, refusals raised."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from pydantic import ValidationError
from yarl import URL

from penstock_client.documents import Document, ProblemDocument
from penstock_client.errors import ApiError, UnreachableError
from penstock_client.following import read_events
from penstock_client.sse import ServerEvent

D = TypeVar("D", bound=Document)

_MERGE_PATCH: Final = "application/merge-patch+json"


class Transport:
    """Asks one api with one key."""

    def __init__(self, url: str, key: str, *, timeout_s: float) -> None:
        """A transport that has not connected yet; the arguments are those of `PenstockClient`."""
        self._url = url.rstrip("/")
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready to ask."""
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close every connection; safe to repeat."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, answer: type[D], method: str, path: str, document: object = None) -> D:
        """The answer to one request, as a document of this type.

        Args:
            answer: what a successful answer is.
            method: of HTTP.
            path: with its query, both encoded.
            document: sent as JSON; None = no body. With PATCH, a JSON merge patch (RFC 7396).

        Raises:
            ApiError, UnreachableError: as for `send`.
        """
        value = await self.send(method, path, document)
        try:
            return answer.of(value)
        except ValidationError as error:
            raise UnreachableError(
                f"{self._url} answered what this client does not understand "
                f"(is the api newer?): {error}"
            ) from None

    async def send(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        """The parsed JSON of the answer; the arguments are those of `ask`.

        Raises:
            ApiError: the api refused.
            UnreachableError: it could not be asked, or the answer is none of a Penstock api.
        """
        headers = {}
        if document is not None:
            headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else "application/json"
        data = None if document is None else json.dumps(document).encode()
        try:
            async with self._opened.request(
                method, self._at(path), data=data, headers=headers, allow_redirects=False
            ) as answer:
                status, body = answer.status, await answer.read()
        except TimeoutError:
            raise UnreachableError(
                f"{self._url} did not answer within {self._timeout.total:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreachableError(f"{self._url} cannot be reached: {error}") from None
        return self._parse(status, body)

    def follow(
        self,
        path: str,
        parse: Callable[[ServerEvent], D | None],
        is_last: Callable[[D], bool],
    ) -> AsyncGenerator[D, None]:
        """Documents as the api sends them in a stream of server-sent events.

        It goes on over connections that break, behind the last event that came, and ends with the
        document that `is_last`.

        Args:
            path: with its query, both encoded.
            parse: gives an event's document; None = the event says nothing to this client.
            is_last: whether a document ends the stream.

        Raises:
            ApiError: the api refused, while iterating.
            UnreachableError: it could not be reached for a minute, or sent what is no such stream.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.total)
        session, url = self._opened, self._at(path)

        def ask(headers: dict[str, str]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.get(url, headers=headers, timeout=timeout, allow_redirects=False)

        async def refuse(answer: aiohttp.ClientResponse) -> object:
            return self._parse(answer.status, await answer.read())

        return read_events(ask, refuse, parse, is_last)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None, "use it as `async with PenstockClient(...)`"
        return self._session

    def _at(self, path: str) -> URL:
        return URL(self._url + path, encoded=True)

    def _parse(self, status: int, body: bytes) -> object:
        try:
            value: object = json.loads(body)
            if status < 300:
                return value
            problem = ProblemDocument.of(value)
        except (ValueError, ValidationError):
            raise UnreachableError(
                f"{self._url} is no Penstock api: it answered {status} without its JSON"
            ) from None
        raise ApiError(problem)


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def with_query(path: str, asked: Mapping[str, object]) -> str:
    """The path with these parameters behind it; those that are None are left out."""
    query = urlencode({name: _text(value) for name, value in asked.items() if value is not None})
    return f"{path}?{query}" if query else path


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
