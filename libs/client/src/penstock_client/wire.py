"""What goes over the wire, whoever moves it [pure]: `wire_async.py` and `wire_sync.py` do."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    #: complete, and encoded
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, whole."""

    status: int
    #: names in lower case
    headers: Mapping[str, str]
    body: bytes


class WireError(Exception):
    """There is no answer, or it broke off. `sent`: whether the other side may have seen it."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class BadAddressError(WireError):
    """The URL is none."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class TooSlowError(WireError):
    """It did not come in time."""


class ClosedError(RuntimeError):
    """The client is closed; make another one."""

    def __init__(self) -> None:
        super().__init__("the client is closed; make another one")


def check_address(url: str) -> None:
    """Nothing, when this may be a URL of HTTP.

    Raises:
        BadAddressError: it cannot be one.
    """
    if not url.startswith(("http://", "https://")):
        raise BadAddressError(f"{url} begins with neither http:// nor https://")
