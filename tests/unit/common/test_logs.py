"""JSON logs: one object a line, whatever is in the record."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common.logs import JsonFormatter, configure_logs

FORMATTER = JsonFormatter("router")


def record(message: str, extra: dict[str, object] | None = None) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "file", 1, message, (), None)
    vars(made).update(extra or {})
    return made


def test_a_line() -> None:
    line = json.loads(
        FORMATTER.format(record("ticket evicted", {"action": "ticket_evicted", "n": 1}))
    )
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "warning",
        "service": "router",
        "logger": "a.b",
        "message": "ticket evicted",
        "action": "ticket_evicted",
        "n": 1,
    }


@given(st.text(), st.text())
def test_whatever_the_text_it_is_one_line_of_json(message: str, value: str) -> None:
    text = FORMATTER.format(record(message.replace("%", ""), {"value": value}))
    assert "\n" not in text
    assert json.loads(text)["value"] == value


def test_what_json_does_not_know_is_told_as_text() -> None:
    line = json.loads(FORMATTER.format(record("m", {"path": Path("/a"), "error": ValueError("x")})))
    assert (line["path"], line["error"]) == ("/a", "x")


def test_an_exception_stands_in_the_line() -> None:
    made = record("failed")
    try:
        raise LookupError("gone")
    except LookupError:
        made.exc_info = sys.exc_info()
    text = FORMATTER.format(made)
    assert "\n" not in text
    assert "LookupError: gone" in json.loads(text)["exception"]


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_the_process_logs_to_stderr_from_the_level_on(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("api", "info")
    configure_logs("api", "info")  # repeated, yet each line once
    logging.getLogger("x").debug("no")
    logging.getLogger("x").info("yes %s", "sir", extra={"action": "said"})
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = map(json.loads, err.splitlines())
    assert (line["service"], line["message"], line["action"]) == ("api", "yes sir", "said")
