"""Lines as a person reads them."""

from datetime import UTC, datetime

from penstock_cli.output.worker_lines import LinePrinter
from penstock_client.documents import LogGapDocument, LogLineDocument

AT = datetime(2030, 1, 2, tzinfo=UTC)


def line(text: str, worker_id: str = "wk-1", stream: str = "stdout") -> LogLineDocument:
    return LogLineDocument.of(
        {"worker_id": worker_id, "n": 1, "at": AT, "stream": stream, "text": text}
    )


def test_into_a_pipe_a_line_is_itself() -> None:
    printer = LinePrinter(colours=False, terminal=False, with_workers=False)
    assert printer.text(line("a\x1b[31m b", stream="stderr")) == "a\x1b[31m b"
    with_workers = LinePrinter(colours=False, terminal=False, with_workers=True)
    assert with_workers.text(line("a")) == "wk-1 a"


def test_on_a_terminal_a_worker_drives_nothing() -> None:
    printer = LinePrinter(colours=True, terminal=True, with_workers=False)
    assert printer.text(line("a\x1b[2Jb\rc")) == "a\ufffd[2Jb\ufffdc"
    assert printer.text(line("oh", stream="stderr")) == "\x1b[31moh\x1b[0m"


def test_workers_keep_their_colours() -> None:
    printer = LinePrinter(colours=True, terminal=True, with_workers=True)
    one, two = printer.text(line("x")), printer.text(line("x", "wk-2"))
    assert one != two.replace("wk-2", "wk-1")
    assert printer.text(line("x")) == one


def test_what_is_cut_or_missing_is_said() -> None:
    printer = LinePrinter(colours=False, terminal=False, with_workers=False)
    cut = line("long").model_copy(update={"cut": True})
    assert printer.text(cut) == "long …"
    gap = LogGapDocument(worker_id="wk-1", n=3, last=3, lines=1, at=None, why="dropped")
    assert printer.text(gap) == "--- 1 line is missing: older than what is kept, or lost ---"
    unknown = gap.model_copy(update={"lines": None, "why": "rotated"})
    assert printer.text(unknown).startswith("--- some lines are missing: thrown away on the node")
