"""Bodies: the same bytes in any split give the same bytes, and h11 reads the same from them."""

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_router.proxy.bodies import BodyReader, ChunkedBody, FixedBody, OpenBody
from penstock_router.proxy.heads import HttpError


def feed(reader: BodyReader, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """(what passed, what followed), the data cut at these places."""
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    passed, rest = b"", b""
    for begin, end in itertools.pairwise(places):
        if reader.done:
            rest += data[begin:end]
            continue
        piece, left = reader.feed(data[begin:end])
        passed += piece
        rest += left
    return passed, rest


def content(framed: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]] | None:
    """(content, trailer fields) of a chunked body, as h11 reads it; None = it does not."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    connection.receive_data(framed)
    got = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                got += event.data
            elif isinstance(event, h11.EndOfMessage):
                return got, list(event.headers)
            else:
                return None
    except h11.RemoteProtocolError:
        return None


CUTS = st.lists(st.integers(0, 200), max_size=30)
EXTENSIONS = st.sampled_from([b"", b"", b"", b";a=b", b' ; q="x"'])
SIZES = st.sampled_from([b"%x", b"%X", b"00%x"])
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=30), SIZES, EXTENSIONS), max_size=6)
TRAILERS = st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\nContent-Length: 3\r\nC: d\r\n"])


def chunked(chunks: list[tuple[bytes, bytes, bytes]], trailer: bytes) -> bytes:
    framed = b"".join(
        size % len(data) + extension + b"\r\n" + data + b"\r\n" for data, size, extension in chunks
    )
    return framed + b"0\r\n" + trailer + b"\r\n"


@given(CHUNKS, TRAILERS, st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]), CUTS)
def test_chunks_in_any_split(
    chunks: list[tuple[bytes, bytes, bytes]], trailer: bytes, behind: bytes, cuts: list[int]
) -> None:
    data = chunked(chunks, trailer)
    whole = b"".join(piece for piece, _, _ in chunks)
    reader = ChunkedBody()
    passed, rest = feed(reader, data + behind, cuts)
    assert reader.done
    assert rest == behind
    assert passed == feed(ChunkedBody(), data + behind, [])[0]
    assert b";" not in passed.replace(whole, b"") or b";" in whole
    read = content(passed)
    assert read is not None
    assert read[0] == whole
    assert all(name != b"content-length" for name, _ in read[1])
    assert feed(ChunkedBody(unframe=True), data + behind, cuts) == (whole, behind)


PIECES = st.sampled_from(
    [
        b"0",
        b"3",
        b"a",
        b"abc",
        b"\r\n",
        b"\r",
        b"\n",
        b";",
        b" ",
        b"x",
        b"-1",
        b"+1",
        b"0x1",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"1_0",
        b"X: y\r\n",
        b"\x00",
        b"fffffffffffffffff",
    ]
)


@given(st.lists(PIECES, max_size=10).map(b"".join), CUTS)
def test_what_passes_h11_reads_too(data: bytes, cuts: list[int]) -> None:
    reader = ChunkedBody()
    try:
        passed, _ = feed(reader, data, cuts)
    except HttpError:
        with pytest.raises(HttpError):
            feed(ChunkedBody(), data, [])
        return
    if reader.done:
        unframed = feed(ChunkedBody(unframe=True), data, cuts)[0]
        read = content(passed)
        assert read is not None
        assert read[0] == unframed


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1;a\nb\r\n",
        b"1;\x00\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"1\r\nabc",
        b"0000000000000001\r\n",
        b"1" + b";x" * 200 + b"\r\n",
        b"1" + b";x" * 200,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nX: a\r\n folded\r\n\r\n",
        b"0\r\nX: a\nY: b\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: " + b"a" * 20_000,
    ],
)
def test_chunks_that_are_none(data: bytes) -> None:
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(HttpError):
            feed(ChunkedBody(), data, cuts)


def test_an_end_of_the_connection_is_an_end_only_without_a_length() -> None:
    reader: BodyReader = ChunkedBody()
    reader.feed(b"3\r\nabc\r\n")
    assert reader.feed_eof() is None
    reader = FixedBody(3)
    reader.feed(b"ab")
    assert reader.feed_eof() is None
    reader = OpenBody(chunking=True)
    assert reader.feed(b"abc") == (b"3\r\nabc\r\n", b"")
    assert reader.feed_eof() == b"0\r\n\r\n"
    reader = OpenBody(chunking=False)
    assert reader.feed(b"abc") == (b"abc", b"")
    assert reader.feed_eof() == b""


@given(st.binary(max_size=40), st.integers(0, 40), CUTS)
def test_a_length_ends_a_body_in_any_split(data: bytes, length: int, cuts: list[int]) -> None:
    reader = FixedBody(length)
    assert feed(reader, data, cuts) == (data[:length], data[length:])
    assert reader.done == (len(data) >= length)
