"""Which api the command talks to, and with which key."""

import json
from pathlib import Path

import pytest

from penstock_cli.exits import CliError
from penstock_cli.target import Target, find_target


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_API_KEY", raising=False)


def test_a_running_up_is_found_by_its_data_directory(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("k1\n")
    assert find_target(None, tmp_path) == Target("http://127.0.0.1:8000", "k1")
    (tmp_path / "ready.json").write_text(json.dumps({"api": "http://127.0.0.1:9"}))
    assert find_target(None, tmp_path) == Target("http://127.0.0.1:9", "k1")
    assert find_target("https://gpu.example/", tmp_path).url == "https://gpu.example"


def test_a_key_in_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "admin.key").write_text("k1")
    monkeypatch.setenv("PENSTOCK_API_KEY", " k2 ")
    assert find_target(None, tmp_path).key == "k2"


@pytest.mark.parametrize("ready", ["", "[]", '{"api": 3}', '{"router": "x"}'])
def test_an_unusable_ready_file_counts_as_none(tmp_path: Path, ready: str) -> None:
    (tmp_path / "admin.key").write_text("k1")
    (tmp_path / "ready.json").write_text(ready)
    assert find_target(None, tmp_path).url == "http://127.0.0.1:8000"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="PENSTOCK_API_KEY"):
        find_target(None, tmp_path)
    (tmp_path / "admin.key").write_text("\n")
    with pytest.raises(CliError, match="empty"):
        find_target(None, tmp_path)
    (tmp_path / "admin.key").write_text("k")
    with pytest.raises(CliError, match="http://"):
        find_target("localhost:8000", tmp_path)
