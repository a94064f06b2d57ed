"""The bytes of requests and answers, by urllib3. `wire_async.py` is its twin; keep them alike."""

import contextlib
import weakref
from collections.abc import Iterator, Mapping

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
)

from penstock_client.wire import (
    BadAddressError,
    ClosedError,
    Reply,
    Request,
    TooSlowError,
    WireError,
    check_address,
)
from penstock_common.clock import SystemClock

_CLOCK = SystemClock()
#: Most bytes that are read at once.
_BLOCK_BYTES = 65_536
#: Connections to one address that are kept for the next request.
_KEPT = 32


class Answer:
    """The head of an answer, whose body comes."""

    def __init__(self, response: urllib3.BaseHTTPResponse, deadline: float | None) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    def read(self) -> bytes:
        """The rest of the body.

        Raises:
            WireError: it broke off, or did not come in time.
        """
        parts = []
        while part := self.read_some():
            parts.append(part)
        return b"".join(parts)

    def read_some(self) -> bytes:
        """The bytes that have come, at least one; none = the end.

        Raises:
            WireError: it broke off, or nothing came in time.
        """
        if self._deadline is not None and _CLOCK.monotonic() > self._deadline:
            raise TooSlowError("the answer took too long", sent=True)
        with _as_wire_errors():
            return self._response.read1(_BLOCK_BYTES)


class Wire:
    """Connections to whatever is asked, kept for the next request. Any thread may use it."""

    def __init__(self) -> None:
        self._pools = urllib3.PoolManager(maxsize=_KEPT, retries=False)
        self._under_way: weakref.WeakSet[urllib3.BaseHTTPResponse] = weakref.WeakSet()
        self._closed = False

    def close(self) -> None:
        """Close every connection, also those of answers under way; safe to repeat."""
        self._closed = True
        for response in list(self._under_way):
            response.close()
        # Cleared alone, a pool would close its connections when the garbage collector finds it.
        for key in self._pools.pools.keys():  # noqa: SIM118 - this container is not iterable
            pool = self._pools.pools.get(key)
            if pool is not None:
                pool.close()
        self._pools.clear()

    def fetch(self, request: Request, *, timeout_s: float) -> Reply:
        """The whole answer.

        Raises:
            WireError: there is none within about `timeout_s` seconds.
        """
        with self.exchange(request, silence_s=timeout_s, total_s=timeout_s) as answer:
            return Reply(answer.status, answer.headers, answer.read())

    @contextlib.contextmanager
    def exchange(
        self, request: Request, *, silence_s: float | None, total_s: float | None = None
    ) -> Iterator[Answer]:
        """An answer whose body is read as it comes; left, its connection is kept or closed.

        Args:
            request: what is asked.
            silence_s: longest wait for a connection, and for each next byte; None = for ever.
            total_s: longest time for all of it, looked at between two reads; None = for ever.

        Raises:
            WireError: no answer came.
            ClosedError: after `close`.
        """
        check_address(request.url)
        if self._closed:
            raise ClosedError
        deadline = None if total_s is None else _CLOCK.monotonic() + total_s
        with _as_wire_errors():
            response = self._pools.urlopen(
                request.method,
                request.url,
                redirect=False,
                body=request.body,
                headers=request.headers,
                timeout=urllib3.Timeout(connect=silence_s, read=silence_s),
                preload_content=False,
            )
        self._under_way.add(response)
        try:
            yield Answer(response, deadline)
        finally:
            self._under_way.discard(response)
            # A body that was read to its end has given its connection back already; another
            # leaves one of no further use.
            response.close()


@contextlib.contextmanager
def _as_wire_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # of what is no URL, or cannot be a header
        raise BadAddressError(str(error)) from None
    except NewConnectionError as error:
        raise WireError(str(error), sent=False) from None
    except ConnectTimeoutError as error:
        raise TooSlowError(str(error), sent=False) from None
    except ReadTimeoutError as error:
        raise TooSlowError(str(error), sent=True) from None
    except (HTTPError, OSError) as error:
        raise WireError(str(error) or type(error).__name__, sent=True) from None
