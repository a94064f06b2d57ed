"""Which header fields pass through the router, and which it sets.

Fields are pairs in the order of the wire, so that repeated ones (`Set-Cookie`) keep their order.
Sources: RFC 9110 §7.6.1 (hop-by-hop fields), §7.6.3 (Via); `X-Forwarded-*` by convention.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

Fields = list[tuple[str, str]]

#: Fields that concern one connection only; never passed on, in either direction. `TE` and `Trailer`
#: are among them since the router passes no trailers; `Expect` since it answers that itself.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Fields that a client cannot have removed by naming them in `Connection`: they frame the message
#: and name its target.
_KEPT: Final = frozenset({"content-length", "host"})
#: Fields that the router itself sets on requests; a client's own are believed from a trusted proxy.
_FORWARDED: Final = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
#: What the router sets on responses.
WORKER: Final = "X-Penstock-Worker"
QUEUE_MS: Final = "X-Penstock-Queue-Ms"
COLD_START: Final = "X-Penstock-Cold-Start"
REQUEST_ID: Final = "X-Request-Id"
_SET_ON_RESPONSE: Final = frozenset(
    name.lower() for name in (WORKER, QUEUE_MS, COLD_START, REQUEST_ID)
)

_VIA: Final = "1.1 penstock"
_GOOD_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request, as its connection tells."""

    #: IP address of the peer
    address: str
    #: `http` or `https`
    scheme: str
    #: whether the peer is a proxy whose `X-Forwarded-*` are believed
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """How a request was served, for the headers of its response."""

    worker_id: str
    #: seconds that it waited for a slot
    waited_s: float
    #: whether no worker ran when it began to wait
    cold: bool
    request_id: str


def connection_options(fields: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The options named by every `Connection` field, in lower case."""
    return frozenset(
        option.strip().lower()
        for name, value in fields
        if name.lower() == "connection"
        for option in value.split(",")
        if option.strip()
    )


def first_value(fields: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of the field `name` (in lower case); None when there is none."""
    return next((value for n, value in fields if n.lower() == name), None)


def given_request_id(fields: Iterable[tuple[str, str]]) -> str | None:
    """The client's own request id, if it is 1-128 printable characters."""
    given = first_value(fields, "x-request-id")
    return given if given is not None and _GOOD_REQUEST_ID.fullmatch(given) else None


def build_request(
    fields: Collection[tuple[str, str]],
    *,
    client: Client,
    request_id: str,
    drop: Collection[str] = (),
) -> Fields:
    """The fields of the request to the worker.

    Args:
        fields: as the client sent them.
        client: its connection.
        request_id: goes into `X-Request-Id`.
        drop: further names, in lower case, that do not pass.
    """
    removed = HOP_BY_HOP | (connection_options(fields) - _KEPT)
    kept: Fields = []
    forwarded: dict[str, str] = {}
    via = host = ""
    for name, value in fields:
        lower = name.lower()
        if lower == "via":
            via = f"{via}, {value}" if via else value
        elif lower in _FORWARDED:
            if client.trusted and lower not in removed:
                before = forwarded.get(lower)
                forwarded[lower] = f"{before}, {value}" if before else value
        elif lower == "x-request-id" or lower in removed or lower in drop:
            continue
        else:
            if lower == "host":
                host = value
            kept.append((name, value))
    before = forwarded.get("x-forwarded-for")
    kept += [
        ("X-Forwarded-For", f"{before}, {client.address}" if before else client.address),
        ("X-Forwarded-Proto", forwarded.get("x-forwarded-proto", client.scheme)),
        ("X-Forwarded-Host", forwarded.get("x-forwarded-host", host)),
        ("Via", f"{via}, {_VIA}" if via else _VIA),
        (REQUEST_ID, request_id),
    ]
    return kept


def build_response(fields: Collection[tuple[str, str]], service: Service) -> Fields:
    """The fields of the response to the client, from those that the worker sent."""
    removed = HOP_BY_HOP | _SET_ON_RESPONSE | (connection_options(fields) - _KEPT)
    kept = [(n, v) for n, v in fields if n.lower() not in removed]
    kept += [
        ("Via", _VIA),
        (REQUEST_ID, service.request_id),
        (WORKER, service.worker_id),
        (QUEUE_MS, str(round(service.waited_s * 1000))),
        (COLD_START, "1" if service.cold else "0"),
    ]
    return kept
