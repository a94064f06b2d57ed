"""Which header fields pass through the router, and which it sets: the heads that it sends.

Sources: RFC 9110 §7.6.1 (hop-by-hop fields), §7.6.3 (Via), RFC 9112 §3.2 (Host);
`X-Forwarded-*` by convention. Heads are Latin-1 text, in which every byte has its character.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from penstock_router.proxy.heads import RequestFields, RequestHead, ResponseHead
from penstock_router.traces import TRACEPARENT, TRACESTATE, Trace

Fields = list[tuple[str, str]]

#: What the router sets on responses.
WORKER: Final = "X-Penstock-Worker"
QUEUE_MS: Final = "X-Penstock-Queue-Ms"
COLD_START: Final = "X-Penstock-Cold-Start"
REQUEST_ID: Final = "X-Request-Id"
#: What the router reads of requests, and keeps to itself: equal for requests that belong together.
AFFINITY: Final = "x-penstock-affinity"
#: How the router names itself where a worker's response does not name a server.
SERVER: Final = "penstock"

_VIA: Final = "1.1 penstock"
_GOOD_NAME: Final = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends requests, as a connection tells; one for all requests on it."""

    #: IP address of the peer
    address: str
    #: `http` or `https`
    scheme: str
    #: whether the peer is a proxy whose `X-Forwarded-*` are believed
    trusted: bool = False


class Service(Protocol):
    """How a request was served, for the headers of its response; a `SlotLease` tells it."""

    worker_id: str
    #: seconds that it waited for a slot
    waited_s: float
    #: whether no worker ran when it began to wait
    cold: bool


def given_request_id(head: RequestHead) -> str | None:
    """The client's own request id, if it is 1-128 printable characters."""
    given = head.fields.special.get("x-request-id")
    return given if given is not None and _GOOD_NAME.fullmatch(given) else None


def given_affinity(head: RequestHead) -> str | None:
    """The client's affinity key, if it is 1-128 printable characters."""
    given = head.fields.special.get(AFFINITY)
    return given if given is not None and _GOOD_NAME.fullmatch(given) else None


def build_request_start(
    head: RequestHead,
    *,
    path: str,
    host: str,
    client: Client,
    trace_goes_on: bool = False,
    pass_credentials: bool = True,
    upgrade: str | None = None,
) -> str:
    """The head of the request to the worker, up to its id: the same for every request like it.

    Args:
        head: as the client sent it.
        path: path and query to ask for.
        host: what the client calls its target.
        client: its connection.
        trace_goes_on: whether the client's `traceparent` is good, so that its `tracestate` counts.
        pass_credentials: whether the client's `Authorization` is for the worker.
        upgrade: the protocol to which the connection is to change.
    """
    variant = (host, trace_goes_on, pass_credentials, upgrade)
    fields = head.fields
    known = fields.forwarded
    if known is not None and known[0] == variant:
        text = known[1]
    else:
        text = _build_request_fields(fields, host, client, trace_goes_on, pass_credentials, upgrade)
        fields.forwarded = (variant, text)
    return f"{head.method} {path} HTTP/1.1{text}"


def build_request(start: str, request_id: str, trace: Trace, span_id: str) -> bytes:
    """The head of the request to the worker.

    Args:
        start: from `build_request_start`.
        request_id: goes into `X-Request-Id`.
        trace: to which the request belongs.
        span_id: of the router's part in it, 16 hexadecimal digits.
    """
    return (
        f"{start}{request_id}\r\n{TRACEPARENT}: 00-{trace.trace_id}-{span_id}-{trace.flags}\r\n\r\n"
    ).encode("latin-1")


def _build_request_fields(
    fields: RequestFields,
    host: str,
    client: Client,
    trace_goes_on: bool,
    pass_credentials: bool,
    upgrade: str | None,
) -> str:
    """All from behind the request line to the name of the field with the request's id."""
    special = fields.special
    lines = ["", f"Host: {host}", *fields.lines]
    authorization = special.get("authorization")
    if authorization is not None and pass_credentials:
        lines.append(f"Authorization: {authorization}")
    if fields.length is None:
        lines.append("Transfer-Encoding: chunked")
    elif "content-length" in special:
        lines.append(f"Content-Length: {fields.length}")
    if upgrade is not None:
        lines.append(f"Connection: Upgrade\r\nUpgrade: {upgrade}")
    state = special.get(TRACESTATE)
    if state and trace_goes_on:
        lines.append(f"{TRACESTATE}: {state}")
    via = special.get("via")
    lines.append(
        f"{_forwarded(special, host, client)}"
        f"Via: {f'{via}, {_VIA}' if via else _VIA}\r\n{REQUEST_ID}: "
    )
    return "\r\n".join(lines)


def _forwarded(special: dict[str, str], host: str, client: Client) -> str:
    """The lines that tell of the client; a stranger's own are not believed."""
    address, scheme, more = client.address, client.scheme, ""
    if client.trusted:
        before = special.get("x-forwarded-for")
        address = f"{before}, {address}" if before else address
        scheme = special.get("x-forwarded-proto", scheme)
        host = special.get("x-forwarded-host", host)
        forwarded = special.get("forwarded")
        more = f"Forwarded: {forwarded}\r\n" if forwarded else ""
    return (
        f"{more}X-Forwarded-For: {address}\r\nX-Forwarded-Proto: {scheme}\r\n"
        f"X-Forwarded-Host: {host}\r\n"
    )


def build_response(
    head: ResponseHead,
    service: Service,
    request_id: str,
    *,
    framing: str,
    connection: str,
    date: str,
) -> bytes:
    """The head of the response to the client.

    Args:
        head: as the worker sent it.
        service: how the request was served.
        request_id: of the request.
        framing: the field that frames the body, with its line end; may be empty.
        connection: the field that tells whether the connection goes on, likewise.
        date: now, as an HTTP date, for a worker that does not tell.
    """
    text = head.forwarded
    if text is None:
        lines = [f"HTTP/1.1 {head.status}{head.phrase}", *head.lines]
        lines.append(f"Server: {head.special.get('server', SERVER)}\r\nVia: {_VIA}\r\nDate: ")
        text = head.forwarded = "\r\n".join(lines)
    return (
        f"{text}{head.special.get('date', date)}\r\n"
        f"{REQUEST_ID}: {request_id}\r\n{WORKER}: {service.worker_id}\r\n"
        f"{QUEUE_MS}: {service.waited_s * 1000:.0f}\r\n"
        f"{COLD_START}: {'1' if service.cold else '0'}\r\n{framing}{connection}\r\n"
    ).encode("latin-1")


def build_interim(head: ResponseHead) -> bytes:
    """The head of an interim (1xx) response to the client."""
    lines = [f"HTTP/1.1 {head.status}{head.phrase}", *head.lines, f"Via: {_VIA}\r\n\r\n"]
    return "\r\n".join(lines).encode("latin-1")


def build_switch(head: ResponseHead, service: Service, request_id: str) -> bytes:
    """The head of a `101 Switching Protocols` to the client."""
    lines = [f"HTTP/1.1 {head.status}{head.phrase}", *head.lines]
    lines.append(
        f"Connection: Upgrade\r\nUpgrade: {head.special['upgrade']}\r\n"
        f"Via: {_VIA}\r\n{REQUEST_ID}: {request_id}\r\n{WORKER}: {service.worker_id}\r\n\r\n"
    )
    return "\r\n".join(lines).encode("latin-1")


def build_answer(
    status: int, phrase: str, fields: Fields, *, length: int, connection: str, date: str
) -> bytes:
    """The head of a response of the router's own."""
    lines = [f"HTTP/1.1 {status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in fields]
    lines.append(
        f"Server: {SERVER}\r\nDate: {date}\r\nContent-Length: {length}\r\n{connection}\r\n"
    )
    return "\r\n".join(lines).encode("latin-1")


def connection_line(*, http_11: bool, keep_alive: bool) -> str:
    """The `Connection` field with its line end, where one is needed."""
    if not keep_alive:
        return "Connection: close\r\n"
    return "" if http_11 else "Connection: keep-alive\r\n"
