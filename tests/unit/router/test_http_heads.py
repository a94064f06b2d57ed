"""Heads read strictly; h11 is the oracle of what is a head at all."""

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock_router.proxy.heads import (
    FieldNames,
    HttpError,
    Limits,
    check_beginning,
    parse_request,
    parse_response,
)

LIMITS = Limits(line_bytes=200, head_bytes=1000, fields=10)
GET = b"GET / HTTP/1.1\r\nHost: h"


def request_error(head: bytes) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        parse_request(head, LIMITS)
    return caught.value.refusal.status, caught.value.refusal.reason


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"what",
        b"GET /",
        b"GET / HTTP/1.1 x\r\nHost: h",
        b"GET  / HTTP/1.1\r\nHost: h",
        b" GET / HTTP/1.1\r\nHost: h",
        b"GET\t/\tHTTP/1.1\r\nHost: h",
        b"G(T / HTTP/1.1\r\nHost: h",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h",
        b"GET /#a HTTP/1.1\r\nHost: h",
        b"GET / http/1.1\r\nHost: h",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: h",
        b"GET / HTTP/1.1\r\nHost: a b",
        b"GET / HTTP/1.1\r\nHost: a@b/c",
        GET + b"\r\nX: a\nY: b",
        GET + b"\r\nX: a\rY: b",
        GET + b"\nX: a",
        GET + b"\r\nX: a\x00b",
        GET + b"\r\nX: a\x7fb",
        GET + b"\r\nX: a\r\n folded",
        GET + b"\r\n folded: a",
        GET + b"\r\nX : a",
        GET + b"\r\n: a",
        GET + b"\r\nno colon",
        GET + b"\r\nHost",
        GET + b"\r\nX\xe9: a",
        GET + b"\r\nContent-Length: 1\r\nContent-Length: 1",
        GET + b"\r\nContent-Length: 1\r\ncontent-length: 2",
        GET + b"\r\nContent-Length: 1, 1",
        GET + b"\r\nContent-Length: +1",
        GET + b"\r\nContent-Length: -1",
        GET + b"\r\nContent-Length: 0x1",
        GET + b"\r\nContent-Length: 1_0",
        GET + b"\r\nContent-Length: \xb2",
        GET + b"\r\nContent-Length:",
        GET + b"\r\nContent-Length: 1" + b"0" * 18,
        GET + b"\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        GET + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        GET + b"\r\nTransfer-Encoding: chunked, chunked",
        GET + b"\r\nTransfer-Encoding: gzip, chunked",
        GET + b"\r\nTransfer-Encoding: identity",
        GET + b"\r\nTransfer-Encoding: xchunked",
        GET + b"\r\nTransfer-Encoding: \x0bchunked",
        GET + b"\r\nTransfer-Encoding:",
        GET + b"\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
    ],
)
def test_what_is_no_request_is_refused(head: bytes) -> None:
    assert request_error(head)[0] == 400


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: h", 414, "target_too_long"),
        (GET + b"\r\nX: " + b"a" * 200, 431, "header_too_long"),
        (GET + b"".join(b"\r\nX%d: 1" % i for i in range(10)), 431, "too_many_headers"),
        (GET + b"".join(b"\r\nX: " + b"a" * 190 for _ in range(6)), 431, "headers_too_large"),
        (b"PRI * HTTP/2.0", 505, "version_not_supported"),
        (b"GET / HTTP/1.1", 400, "missing_host"),
    ],
)
def test_what_is_too_much_says_so(head: bytes, status: int, reason: str) -> None:
    assert request_error(head) == (status, reason)


def test_a_field_passes_as_it_came() -> None:
    head = parse_request(GET + b"\r\nX-Odd:\t a;\xe9 \r\nACCEPT: */*", LIMITS)
    assert head.fields.lines == ["X-Odd:\t a;\xe9 ", "ACCEPT: */*"]
    assert head.fields.special == {"host": "h"}
    assert (head.fields.length, head.fields.keep_alive) == (0, True)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", None, True),
        (b"1.1", b"Close", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"close", False),
    ],
)
def test_whether_the_connection_goes_on(
    version: bytes, connection: bytes | None, keep_alive: bool
) -> None:
    line = b"" if connection is None else b"\r\nConnection: " + connection
    head = parse_request(b"GET / HTTP/%b\r\nHost: h%b" % (version, line), LIMITS)
    assert head.fields.keep_alive is keep_alive


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1 200\tOK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b",
    ],
)
def test_what_is_no_response_is_refused(head: bytes) -> None:
    with pytest.raises(HttpError):
        parse_response(head, LIMITS)


def test_a_response_needs_no_phrase() -> None:
    assert parse_response(b"HTTP/1.1 200", LIMITS).phrase == " "
    assert parse_response(b"HTTP/1.1 200 ", LIMITS).phrase == " "
    assert parse_response(b"HTTP/1.0 404 Not Found", LIMITS).status == 404


def test_names_are_not_learnt_without_end() -> None:
    names = FieldNames(("host",))
    for i in range(5000):
        assert names.learn(f"x-{i}") == ""
    names.learn("y" * 1000)
    assert len(names.known) <= 2048


PIECES = st.sampled_from(
    [
        b"GET",
        b"POST",
        b" ",
        b"  ",
        b"/",
        b"/a?b",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"\r\n",
        b"\r",
        b"\n",
        b"Host: h",
        b"Host",
        b":",
        b"X: y",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"\t",
        b"\x00",
        b"\xe9",
        b"\x0b",
        b",",
        b"chunked",
        b"Content-Length",
    ]
)
HEADS = st.one_of(
    st.lists(PIECES, max_size=14).map(b"".join),
    st.lists(PIECES, max_size=8).map(lambda tail: GET + b"\r\n" + b"".join(tail)),
    st.binary(max_size=60).map(lambda tail: GET + b"\r\n" + tail),
)


def by_h11(head: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=100_000)
    connection.receive_data(head + b"\r\n\r\n")
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


@given(HEADS)
@example(GET + b"\r\nX:\x0by")
def test_what_is_taken_h11_takes_for_the_same(head: bytes) -> None:
    try:
        ours = parse_request(head, LIMITS)
    except HttpError:
        return
    theirs = by_h11(head)
    assert theirs is not None, "only h11 refuses it"
    assert ours.method.encode() == theirs.method
    assert ours.target.encode() == theirs.target
    assert ours.fields.http_11 == (theirs.http_version == b"1.1")
    framing = dict(theirs.headers)
    assert (ours.fields.length is None) == (b"transfer-encoding" in framing)
    if ours.fields.length is not None:
        assert ours.fields.length == int(framing.get(b"content-length", b"0"))
    passed = [line.partition(":")[0].lower().encode() for line in ours.fields.lines]
    assert [n for n in (name for name, _ in theirs.headers) if n in passed] == passed


@given(HEADS, st.integers(0, 80))
def test_the_beginning_of_a_good_head_is_never_refused(head: bytes, cut: int) -> None:
    try:
        parse_request(head, LIMITS)
    except HttpError:
        return
    begun, rest = head[:cut], head[cut:]
    check_beginning(begun)
    check_beginning((b"\r" if begun.endswith(b"\r") else b"") + rest)
