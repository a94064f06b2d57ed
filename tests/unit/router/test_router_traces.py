"""W3C Trace Context: which trace a request belongs to."""

import pytest

from penstock_router.traces import Trace, begin_trace, read_trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_a_trace_goes_on_with_its_flags(flags: str) -> None:
    assert read_trace(f"00-{TRACE}-{PARENT}-{flags}") == Trace(TRACE, flags)


def test_of_a_later_version_what_is_known_is_taken() -> None:
    assert read_trace(f"01-{TRACE}-{PARENT}-ff-more") == Trace(TRACE, "01")
    assert read_trace(f"cc-{TRACE}-{PARENT}-02") == Trace(TRACE, "00")


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE}-{PARENT}-01-more",
        f"01-{TRACE}-{PARENT}-01more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
    ],
)
def test_a_broken_one_counts_as_none(broken: str | None) -> None:
    assert read_trace(broken) is None


def test_a_new_trace_is_well_formed() -> None:
    trace = begin_trace(bytes(range(16)).hex())
    assert read_trace(f"00-{trace.trace_id}-{PARENT}-{trace.flags}") == trace
