"""The pure parts of the NATS layer: encoding, parsing, pauses."""

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.errors import BusRefusedError, WrongRevisionError
from penstock_common.nats.connection import parse_api_answer
from penstock_common.nats.retry import Backoff
from penstock_common.nats.wire import (
    AckSubject,
    Received,
    encode_headers,
    encode_publish,
    encode_subscribe,
    is_marker,
    parse_ack_subject,
    parse_headers,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)


@given(st.dictionaries(names, st.text(max_size=20), max_size=4))
def test_headers_survive_the_wire_as_single_lines(headers: dict[str, str]) -> None:
    block = encode_headers(headers)
    assert block.startswith(b"NATS/1.0\r\n")
    assert block.endswith(b"\r\n\r\n")
    assert block.count(b"\r\n") == len(headers) + 2
    expected = {k: v.replace("\r", " ").replace("\n", " ").strip() for k, v in headers.items()}
    assert parse_headers(block) == expected


@given(st.binary(max_size=50), st.dictionaries(names, st.text(max_size=9), max_size=2))
def test_a_publish_tells_its_sizes(data: bytes, headers: dict[str, str]) -> None:
    head = encode_headers(headers) if headers else b""
    command = encode_publish("a.b", "re.ply", head, data)
    line, _, rest = command.partition(b"\r\n")
    assert rest == head + data + b"\r\n"
    verb, subject, reply, *sizes = line.split()
    assert (subject, reply) == (b"a.b", b"re.ply")
    if head:
        assert (verb, sizes) == (b"HPUB", [b"%d" % len(head), b"%d" % (len(head) + len(data))])
    else:
        assert (verb, sizes) == (b"PUB", [b"%d" % len(data)])


@given(st.text(max_size=10))
def test_no_subject_adds_a_command(subject: str) -> None:
    encoders: list[Callable[[], bytes]] = [
        lambda: encode_publish(subject, "", b"", b""),
        lambda: encode_publish("a", subject or " ", b"", b""),
        lambda: encode_subscribe(subject, "", 1),
        lambda: encode_subscribe("a", subject or " ", 1),
    ]
    for encode in encoders:
        try:
            command = encode()
        except ValueError:
            continue
        assert command.count(b"\n") <= 2
        assert subject
        assert not any(c.isspace() for c in subject)


def test_a_reply_subject_of_jetstream() -> None:
    numbers = AckSubject(
        attempt=1, stream_sequence=22, consumer_sequence=3, stored_at_ns=1700000000, pending=4
    )
    assert parse_ack_subject("$JS.ACK.S.c.1.22.3.1700000000.4") == numbers
    assert parse_ack_subject("$JS.ACK.dom.acc.S.c.1.22.3.1700000000.4.rnd") == numbers


@pytest.mark.parametrize(
    "reply", ["", "_INBOX.x", "$JS.ACK.S.c.1.2.3", "$JS.ACK.S.c.x.2.3.4.5", "$JS.FC.S.c.1.2.3.4.5"]
)
def test_what_is_no_reply_subject_of_jetstream(reply: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_ack_subject(reply)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 0), ({"a": "b"}, 0), ({"Status": "503"}, 503), ({"Status": "x"}, 0)],
)
def test_the_status_of_a_message(headers: dict[str, str], status: int) -> None:
    assert status_of(Received("s", b"", headers, "")) == status


@pytest.mark.parametrize(
    ("headers", "marker"),
    [
        ({}, False),
        ({"Nats-TTL": "5s"}, False),
        ({"KV-Operation": "PUT"}, False),
        ({"KV-Operation": "DEL"}, True),
        ({"KV-Operation": "PURGE"}, True),
        ({"Nats-Marker-Reason": "MaxAge"}, True),
    ],
)
def test_markers(headers: dict[str, str], marker: bool) -> None:
    assert is_marker(headers) is marker


@pytest.mark.parametrize("code", [10071, 10164])
def test_a_wrong_revision_has_its_own_error(code: int) -> None:
    with pytest.raises(WrongRevisionError, match="wrong last"):
        parse_api_answer(
            json.dumps({"error": {"err_code": code, "description": "wrong last"}}).encode()
        )


@pytest.mark.parametrize("data", [b"", b"-ERR", b"[]", b"1", b"\xff"])
def test_what_is_no_answer_of_jetstream(data: bytes) -> None:
    with pytest.raises(BusRefusedError) as refused:
        parse_api_answer(data)
    assert refused.value.code == 0


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
def test_pauses_begin_short_grow_and_stay_below_the_cap(ratios: list[float]) -> None:
    backoff = Backoff(first_s=0.05, cap_s=2.0)
    for n, ratio in enumerate(ratios):
        whole = min(0.05 * 2**n, 2.0)
        assert whole / 2 <= backoff.pause_s(ratio) <= whole
    backoff.reset()
    assert backoff.pause_s(1.0) == 0.05
