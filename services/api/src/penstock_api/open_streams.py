"""The streams that clients of this process read: bounded in number, ended when the api stops."""

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from penstock_common.errors import PenstockError

#: More open streams than this, of lines and of events together, are refused.
MAX_STREAMS: Final = 256


class TooManyStreamsError(PenstockError):
    """Too many streams are open; close one, or ask another api."""

    error_type: ClassVar[str] = "too_many_streams"
    status_hint: ClassVar[int] = 503


class OpenStreams:
    """Counts them, and ends them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wakes: set[Callable[[], None]] = set()
        #: the api stops: no reader goes on
        self.closing = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._wakes)

    @contextlib.contextmanager
    def opened(self, wake: Callable[[], None]) -> Iterator[None]:
        """Count one more; `wake` is called when it shall end.

        Raises:
            TooManyStreamsError: there are too many.
        """
        if len(self._wakes) >= self._limit:
            raise TooManyStreamsError
        self._wakes.add(wake)
        try:
            yield
        finally:
            self._wakes.discard(wake)

    def close(self) -> None:
        """Have all end."""
        self.closing = True
        for wake in self._wakes:
            wake()
