"""A frame fits its terminal, whatever it shows; keys do what the last line says."""

from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.top.frame import Scene, frame
from penstock_cli.top.rows import Sample
from penstock_cli.top.wishes import Key, Order, Wishes, keys_in, press
from tests.support.documents import endpoint_document, gpu_document, node_document


def sample(n_endpoints: int = 2, n_nodes: int = 1, n_gpus: int = 2) -> Sample:
    endpoints = tuple(
        endpoint_document(
            id=f"ep-{n}",
            app_name=f"app-{n:04}",
            reason="no_capacity",
            message="no\x1b[2J capacity " + "x" * 60,
            load={"waiting": n, "in_flight": n, "oldest_wait_s": 1.5, "arrivals_per_s": 0.25},
            workers_running=1,
        )
        for n in range(n_endpoints)
    )
    gpus = [gpu_document(f"GPU-{n:08}", utilization_ratio=0.5) for n in range(n_gpus)]
    nodes = tuple(node_document(f"node-{n}", gpus=gpus) for n in range(n_nodes))
    return Sample(endpoints, nodes, at=5.0)


def drawn(looked: Sample | None = None, **fields: Any) -> list[str]:
    size = {"width": fields.pop("width", 140), "height": fields.pop("height", None)}
    wishes = fields.pop("wishes", Wishes())
    scene = Scene("http://api.test", looked, fields.pop("before", None), wishes, **fields)
    return [line.plain for line in frame(scene, 20.0, **size)]


def test_a_frame_in_a_pipe_has_every_line() -> None:
    lines = drawn(sample(3, 2), clock="12:00:00 UTC")
    assert lines[0] == "penstock top  http://api.test  12:00:00 UTC"
    assert lines[1] == "2 nodes   GPUs 0 of 4 held   workers 3 running"
    assert lines[2] == (
        "3 endpoints   requests 3 in flight, 3 waiting (oldest 1.5 s), 0.8 arrive a second"
    )
    assert lines[4].split()[:3] == ["APP", "STATE", "WORKERS"]
    assert [line.split()[:4] for line in lines[5:8]] == [
        ["app-0002", "serving", "1/0/3", "2/1"],
        ["app-0001", "serving", "1/0/3", "1/1"],
        ["app-0000", "serving", "1/0/3", "0/1"],
    ]
    assert lines[9].split()[:3] == ["NODE", "STATE", "GPUS"]
    assert [line.split()[0] for line in lines[10:]] == [
        "node-0",
        "rtx-4090-24gb",
        "rtx-4090-24gb",
        "node-1",
        "rtx-4090-24gb",
        "rtx-4090-24gb",
    ]


def test_before_the_first_look_there_is_a_title() -> None:
    assert drawn(None) == ["penstock top  http://api.test"]
    lines = drawn(None, away=("cannot be reached", 8.0))
    assert lines[1] == "no answer for 12 s: cannot be reached"


def test_while_the_api_is_away_the_last_look_stays_with_its_age() -> None:
    lines = drawn(sample(), away=("cannot be reached", 8.0))
    assert lines[1] == "no answer for 12 s: cannot be reached; what is shown is 15 s old"
    assert any(line.startswith("app-0001") for line in lines)


def test_of_many_endpoints_those_that_fit_are_drawn_and_the_others_counted() -> None:
    lines = drawn(sample(1_000, 2), height=24)
    assert len(lines) == 24
    apps = [line.split()[0] for line in lines if line.startswith("app-")]
    assert apps[0] == "app-0999"
    below = 1_000 - len(apps)
    assert f"… 0 above, {below} below" in lines
    assert lines[-1].startswith("q quit  s sort (WAITING)")

    far = drawn(sample(1_000, 2), height=24, wishes=Wishes(first=99_999))
    assert f"… {below} above, 0 below" in far
    assert any(line.startswith("app-0000") for line in far)


def test_a_narrow_terminal_loses_the_least_needed_columns_first() -> None:
    wide, narrow = (drawn(sample(), width=width)[4].split() for width in (200, 50))
    assert "P50" in wide
    assert "P50" not in narrow
    assert narrow[:3] == ["APP", "STATE", "WORKERS"]


@given(
    st.integers(1, 250),
    st.none() | st.integers(1, 60),
    st.integers(0, 40),
    st.integers(0, 5),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.integers(0, 60),
)
def test_a_frame_stays_within_its_terminal(
    width: int,
    height: int | None,
    n_endpoints: int,
    n_nodes: int,
    n_gpus: int,
    away: bool,
    typing: bool,
    first: int,
) -> None:
    scene = Scene(
        "http://api.test",
        sample(n_endpoints, n_nodes, n_gpus),
        sample(1, 0, 0),
        Wishes(first=first, typing=typing),
        ("x" * 300, 1.0) if away else None,
    )
    lines = frame(scene, 20.0, width=width, height=height)
    assert height is None or len(lines) <= height
    assert all(line.cell_len <= width for line in lines)
    assert all("\x1b" not in line.plain for line in lines)


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1bOBs", [Key.UP, Key.DOWN, "s"]),
        (b"\x1b", [Key.ESCAPE]),
        (b"\x1b[5~\x1b[6~", [Key.PAGE_UP, Key.PAGE_DOWN]),
        (b"\x1b[1;5Cx", ["x"]),  # a sequence that means nothing here
        (b"a\r\x7f", ["a", Key.ENTER, Key.BACKSPACE]),
        ("é\xff".encode()[:2] + b"\xff", ["é"]),
        (b"", []),
    ],
)
def test_keys_are_told_apart(data: bytes, keys: list[str]) -> None:
    assert list(keys_in(data)) == keys


@given(st.binary(max_size=40))
def test_whatever_a_terminal_sends_is_survived(data: bytes) -> None:
    wishes = reduce(press, keys_in(data), Wishes())
    assert wishes.first >= 0
    assert wishes.part.isprintable()


def pressed(*keys: str) -> Wishes:
    return reduce(press, keys, Wishes())


def test_s_goes_through_every_order_and_round() -> None:
    seen = [pressed(*["s"] * n).order for n in range(len(Order) + 1)]
    assert seen == [*Order, Order.WAITING]


def test_a_name_is_typed_kept_and_thrown_away() -> None:
    assert pressed("/", "s", "q", "x", Key.BACKSPACE).part == "sq"
    kept = pressed("/", "a", Key.ENTER)
    assert (kept.part, kept.typing, kept.leaves) == ("a", False, False)
    assert pressed("/", "a", Key.ENTER, Key.ESCAPE).part == ""
    assert pressed("/", "a", Key.ESCAPE) == Wishes()
    assert pressed("q").leaves


def test_scrolling_ends_at_the_top() -> None:
    assert pressed(Key.DOWN, "j", Key.PAGE_DOWN, Key.UP).first == 11
    assert pressed(Key.UP, Key.PAGE_UP).first == 0
    assert pressed(" ", Key.HOME).first == 0
