# Made by libs/client/make_sync.py of penstock_client/calls/waiting.py: change that one.
"""Looking again and again, until there is what somebody waits for."""

import time
from collections.abc import Generator
from typing import Final, TypeVar

from penstock_client.documents import Document
from penstock_client.errors import ApiError, UnreachableError
from penstock_client.sync.transport import Transport
from penstock_common.clock import SystemClock

D = TypeVar("D", bound=Document)

_CLOCK: Final = SystemClock()
_NOT_FOUND: Final = 404


def looks(
    transport: Transport, answer: type[D], path: str, *, timeout_s: float, poll_s: float
) -> Generator[D | None, None, None]:
    """What there is at this path, look by look, for `timeout_s` seconds; None = nothing (404).

    A look that the api does not answer, being away for a moment, is left out.

    Args:
        transport: asks.
        answer: the document that it is.
        path: encoded.
        timeout_s: the last look begins before so many seconds have passed, and ends by then.
        poll_s: seconds between two looks.

    Raises:
        ApiError: the api refused, for another reason than that there is no such thing.
    """
    deadline = _CLOCK.monotonic() + timeout_s
    while (left_s := deadline - _CLOCK.monotonic()) > 0:
        seen: D | None = None
        is_known = True
        try:
            seen = transport.ask(answer, "GET", path, within_s=left_s)
        except ApiError as error:
            is_known = error.status == _NOT_FOUND
            if error.status < 500 and not is_known:
                raise
        except UnreachableError:
            is_known = False  # it may come back; the wait is bounded
        if is_known:
            yield seen
        time.sleep(max(0.0, min(poll_s, deadline - _CLOCK.monotonic())))
