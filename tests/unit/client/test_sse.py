"""Server-sent events, however their bytes come."""

from hypothesis import given
from hypothesis import strategies as st

from penstock_client.sse import EventReader, ServerEvent

STREAM = (
    ": alive\n\n"
    'id: 1.1\nevent: line\ndata: {"text": "zwei ü"}\n\n'
    "data:a\r\ndata: b\r\n\r\n"
    "event: end\n\n"
    "id\ndata: c\n\n"
    "unfinished: x\ndata: d\n"
).encode()
EVENTS = [
    ServerEvent("line", '{"text": "zwei ü"}', "1.1"),
    ServerEvent("message", "a\nb", "1.1"),
    ServerEvent("message", "c", ""),
]


@given(st.lists(st.integers(1, 30), min_size=1))
def test_events_do_not_depend_on_how_the_bytes_come(sizes: list[int]) -> None:
    reader, data, n = EventReader(), STREAM, 0
    found: list[ServerEvent] = []
    while data:
        size = sizes[n % len(sizes)]
        found += reader.feed(data[:size])
        data, n = data[size:], n + 1
    assert found == EVENTS


def test_an_id_counts_once_its_block_is_whole_though_it_brings_no_event() -> None:
    reader = EventReader(last_id="3")
    assert not list(reader.feed(b": alive\n\nid: 4\n"))
    assert reader.last_id == "3"
    assert not list(reader.feed(b"\n"))
    assert reader.last_id == "4"
    (event,) = reader.feed(b"data: a\n\nid: 5\n")
    assert (event.id, reader.last_id) == ("4", "4")
