"""Which header fields pass, and which the router sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_router.catalogue import Address
from penstock_router.headers import (
    Client,
    Fields,
    build_request,
    build_request_start,
    build_response,
    given_request_id,
)
from penstock_router.lanes import SlotLease
from penstock_router.proxy.heads import HOP_BY_HOP, Limits, parse_request, parse_response
from penstock_router.traces import Trace

CLIENT = Client("10.0.0.7", "http")
SERVICE = SlotLease(
    "sl-1", "ep-1", "wk-1", Address("h", 1), "rt-1", waited_s=0.1234, cold=True, dispatched_at=0
)
LIMITS = Limits(line_bytes=8192, head_bytes=65536, fields=100)


def head_of(first: str, fields: tuple[tuple[str, str], ...] | Fields) -> bytes:
    return "\r\n".join([first, *(f"{n}: {v}" for n, v in fields)]).encode("latin-1")


def fields_of(head: bytes) -> Fields:
    assert head.endswith(b"\r\n\r\n")
    lines = head[:-4].decode("latin-1").split("\r\n")[1:]
    return [(n, v.strip()) for n, _, v in (line.partition(":") for line in lines)]


def request(*fields: tuple[str, str], client: Client = CLIENT, key: bool = True) -> Fields:
    head = parse_request(head_of("GET / HTTP/1.0", fields), LIMITS)
    host = head.fields.special.get("host", "")
    start = build_request_start(head, path="/", host=host, client=client, pass_credentials=key)
    return fields_of(build_request(start, "r-1", Trace("a" * 32, "01"), "b" * 16))


def response(*fields: tuple[str, str]) -> Fields:
    head = parse_response(head_of("HTTP/1.1 200 OK", fields), LIMITS)
    framing = "" if head.length is None else f"Content-Length: {head.length}\r\n"
    return fields_of(
        build_response(head, SERVICE, "r-1", framing=framing, connection="", date="now")
    )


def values(fields: list[tuple[str, str]], name: str) -> list[str]:
    return [v for n, v in fields if n.lower() == name.lower()]


def test_sets_what_a_worker_may_want_to_know() -> None:
    fields = request(("Host", "api.example.com"))
    assert values(fields, "X-Forwarded-For") == ["10.0.0.7"]
    assert values(fields, "X-Forwarded-Proto") == ["http"]
    assert values(fields, "X-Forwarded-Host") == ["api.example.com"]
    assert values(fields, "Host") == ["api.example.com"]
    assert values(fields, "Via") == ["1.1 penstock"]
    assert values(fields, "X-Request-Id") == ["r-1"]


def test_does_not_believe_what_a_stranger_says_of_himself() -> None:
    fields = request(("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"))
    assert values(fields, "X-Forwarded-For") == ["10.0.0.7"]
    assert values(fields, "X-Forwarded-Proto") == ["http"]


def test_appends_to_what_a_trusted_proxy_says() -> None:
    trusted = Client("10.0.0.7", "http", trusted=True)
    fields = request(
        ("X-Forwarded-For", "1.2.3.4"),
        ("x-forwarded-for", "5.6.7.8"),
        ("X-Forwarded-Proto", "https"),
        client=trusted,
    )
    assert values(fields, "X-Forwarded-For") == ["1.2.3.4, 5.6.7.8, 10.0.0.7"]
    assert values(fields, "X-Forwarded-Proto") == ["https"]


def test_drops_what_connection_names_but_never_the_framing() -> None:
    fields = request(
        ("Host", "h"),
        ("Connection", "close, X-Secret ,Content-Length, host"),
        ("X-Secret", "s"),
        ("Content-Length", "3"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
    )
    names = {n.lower() for n, _ in fields}
    assert "x-secret" not in names
    assert not names & HOP_BY_HOP
    assert values(fields, "Content-Length") == ["3"]
    assert values(fields, "Host") == ["h"]


def test_drops_the_key_where_asked() -> None:
    assert values(request(("Authorization", "Bearer k"), key=False), "authorization") == []
    assert values(request(("Authorization", "Basic b")), "authorization") == ["Basic b"]


def test_repeated_fields_keep_their_order() -> None:
    fields = response(("Set-Cookie", "a=1"), ("X", "y"), ("Set-Cookie", "b=2"))
    assert values(fields, "Set-Cookie") == ["a=1", "b=2"]


def test_a_worker_cannot_pretend_to_be_another() -> None:
    fields = response(("X-Penstock-Worker", "wk-9"), ("Connection", "close"), ("X-Request-Id", "z"))
    assert values(fields, "X-Penstock-Worker") == ["wk-1"]
    assert values(fields, "X-Penstock-Queue-Ms") == ["123"]
    assert values(fields, "X-Penstock-Cold-Start") == ["1"]
    assert values(fields, "X-Request-Id") == ["r-1"]
    assert values(fields, "Connection") == []


def test_via_grows_at_its_end() -> None:
    assert values(request(("Via", "1.0 a"), ("Via", "1.1 b")), "Via") == [
        "1.0 a, 1.1 b, 1.1 penstock"
    ]


@pytest.mark.parametrize(
    ("given_id", "chosen"),
    [("abc-123", "abc-123"), ("", None), ("a b", None), ("é", None), ("x" * 129, None)],
)
def test_keeps_a_good_request_id(given_id: str, chosen: str | None) -> None:
    head = parse_request(head_of("GET / HTTP/1.0", [("x-request-ID", given_id)]), LIMITS)
    assert given_request_id(head) == chosen


NAMES = st.sampled_from(
    ["Connection", "Keep-Alive", "X-A", "X-B", "Via", "X-Forwarded-For", "TE", "Proxy-Connection"]
)
VALUES = st.sampled_from(["x-a", "X-B, close", "keep-alive", "1", "host, content-length", ""])


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_nothing_hop_by_hop_ever_passes(fields: Fields) -> None:
    named = {
        option.strip().lower()
        for name, value in fields
        if name == "Connection"
        for option in value.split(",")
    }
    framed = [*fields, ("Host", "h"), ("Content-Length", "0")]
    for passed in (request(*framed), response(*framed)):
        names = [n.lower() for n, _ in passed]
        assert not set(names) & (HOP_BY_HOP | named - {"host", "content-length"})
        assert names.count("content-length") == 1
