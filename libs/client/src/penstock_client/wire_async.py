"""The bytes of requests and answers, by aiohttp. `wire_sync.py` is its twin; keep them alike."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp
from yarl import URL

from penstock_client.wire import (
    BadAddressError,
    ClosedError,
    Reply,
    Request,
    TooSlowError,
    WireError,
    check_address,
)


class Answer:
    """The head of an answer, whose body comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    async def read(self) -> bytes:
        """The rest of the body.

        Raises:
            WireError: it broke off, or did not come in time.
        """
        with _as_wire_errors():
            return await self._response.read()

    async def read_some(self) -> bytes:
        """The bytes that have come, at least one; none = the end.

        Raises:
            WireError: it broke off, or nothing came in time.
        """
        with _as_wire_errors():
            return await self._response.content.readany()


class Wire:
    """Connections to whatever is asked, kept for the next request. For one event loop."""

    def __init__(self) -> None:
        self._made: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """Close every connection, also those of answers under way; safe to repeat."""
        self._closed = True
        if self._made is not None:
            await self._made.close()

    async def fetch(self, request: Request, *, timeout_s: float) -> Reply:
        """The whole answer.

        Raises:
            WireError: there is none within `timeout_s` seconds.
        """
        async with self.exchange(request, silence_s=timeout_s, total_s=timeout_s) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    @contextlib.asynccontextmanager
    async def exchange(
        self, request: Request, *, silence_s: float | None, total_s: float | None = None
    ) -> AsyncIterator[Answer]:
        """An answer whose body is read as it comes; left, its connection is kept or closed.

        Args:
            request: what is asked.
            silence_s: longest wait for a connection, and for each next byte; None = for ever.
            total_s: longest time for all of it; None = for ever.

        Raises:
            WireError: no answer came.
            ClosedError: after `close`.
        """
        check_address(request.url)
        session = self._session()
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=silence_s, sock_read=silence_s)
        with _as_wire_errors():
            response = await session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers=request.headers,
                timeout=timeout,
                allow_redirects=False,
            )
        async with response:
            yield Answer(response)

    def _session(self) -> aiohttp.ClientSession:
        """The one session, made in the loop that first asks."""
        if self._closed:
            raise ClosedError
        if self._made is None:
            self._made = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            # What is sent again is `retrying.py`'s decision; there is no public way to say so.
            self._made._retry_connection = False  # noqa: SLF001
        return self._made


@contextlib.contextmanager
def _as_wire_errors() -> Iterator[None]:
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise TooSlowError(str(error), sent=False) from None
    except TimeoutError as error:
        raise TooSlowError(str(error), sent=True) from None
    except aiohttp.ClientConnectorError as error:
        raise WireError(str(error), sent=False) from None
    except ValueError as error:  # of what is no URL, or cannot be a header
        raise BadAddressError(str(error)) from None
    except (aiohttp.ClientError, OSError) as error:
        raise WireError(str(error) or type(error).__name__, sent=True) from None
