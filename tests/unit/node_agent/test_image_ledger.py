"""What is written down of pulled images, and what becomes of it after a restart."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock_node_agent.runtimes.docker.image_choice import PulledImage
from penstock_node_agent.runtimes.docker.image_ledger import ImageLedger

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)


def test_what_was_pulled_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    ledger = ImageLedger(path)
    ledger.note_pulled("sha256:1", "a/b:1", was_there=False, at=AT)
    ledger.note_pulled("sha256:1", "a/b@sha256:2", was_there=True, at=AT)
    ledger.note_used(["sha256:1", "sha256:other"], LATER)
    known = [PulledImage("sha256:1", frozenset({"a/b:1", "a/b@sha256:2"}), LATER)]
    assert ledger.images() == known
    assert ImageLedger(path).images() == known


def test_what_was_there_before_is_somebody_elses(tmp_path: Path) -> None:
    ledger = ImageLedger(tmp_path / "images.json")
    ledger.note_pulled("sha256:1", "a/b:1", was_there=True, at=AT)
    ledger.note_used(["sha256:1"], LATER)
    assert ledger.images() == []


def test_what_the_engine_lost_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    ledger = ImageLedger(path)
    for image_id in ("sha256:1", "sha256:2"):
        ledger.note_pulled(image_id, "a/b:1", was_there=False, at=AT)
    ledger.keep_only(["sha256:2", "sha256:3"])
    assert [image.image_id for image in ImageLedger(path).images()] == ["sha256:2"]


@pytest.mark.parametrize("content", ["", "[]", '{"sha256:1": {"references": ["a"]}}', "\0"])
def test_a_broken_file_names_nothing(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "images.json"
    path.write_text(content)
    with caplog.at_level(logging.ERROR):
        ledger = ImageLedger(path)
    assert ledger.images() == []
    assert "cannot be read" in caplog.text
    ledger.note_pulled("sha256:1", "a/b:1", was_there=False, at=AT)
    assert len(ImageLedger(path).images()) == 1


def test_a_disk_that_takes_nothing_is_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ImageLedger(tmp_path / "none" / "images.json")
    ledger.note_pulled("sha256:1", "a/b:1", was_there=False, at=AT)
    assert len(ledger.images()) == 1
    assert "not written" in caplog.text
