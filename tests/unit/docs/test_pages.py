"""Pages that are made from the code are the code's."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from penstock_common.states import NodeState, WorkerReason

ROOT = Path(__file__).parents[3]


def maker(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"make_{name}", ROOT / f"docs/make_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["states", "events", "subjects"])
def test_a_page_is_what_its_script_writes(name: str) -> None:
    assert (ROOT / f"docs/{name}.md").read_text() == maker(name).page()


def test_the_page_of_the_command_is_made_from_its_code() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    assert page == maker("cli").page(page), "run `python docs/make_cli.py`"


def test_every_reason_of_a_worker_is_explained_once() -> None:
    page = (ROOT / "docs/failures.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(explained) == sorted(WorkerReason)


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_states_of_nodes_are_explained() -> None:
    page = (ROOT / "docs/nodes.md").read_text()
    table = page.split("## States\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1].strip(" `") for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == [state.value for state in NodeState]
