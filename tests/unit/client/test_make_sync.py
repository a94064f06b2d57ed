"""The synchronous client is made of the asynchronous one, and is current."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from penstock_client.client import PenstockClient
from penstock_client.sync.client import PenstockSyncClient
from penstock_client.wire_async import Answer as AsyncAnswer
from penstock_client.wire_async import Wire as AsyncWire
from penstock_client.wire_sync import Answer as SyncAnswer
from penstock_client.wire_sync import Wire as SyncWire

SCRIPT = Path(__file__).parents[3] / "libs" / "client" / "make_sync.py"


@pytest.fixture(scope="module")
def make_sync() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sync", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_stands_in_the_tree_is_what_the_script_makes(make_sync: ModuleType) -> None:
    made = dict(make_sync.generated())
    assert set(make_sync.OUT.rglob("*.py")) == set(made)
    outdated = [path.name for path, text in made.items() if path.read_text() != text]
    assert outdated == [], f"run {SCRIPT.relative_to(Path.cwd())}"


def test_a_word_that_only_an_event_loop_understands_is_refused(make_sync: ModuleType) -> None:
    with pytest.raises(make_sync.UntranslatableError, match=r"calls/x\.py:2: 'asyncio'"):
        make_sync.translate("import asyncio\nasyncio.gather(a, b)\n", "calls/x.py")


def _shape(of: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_calls() -> None:
    resources = inspect.get_annotations(PenstockClient, eval_str=True)
    assert len(resources) >= 8
    synchronous = inspect.get_annotations(PenstockSyncClient, eval_str=True)
    assert set(synchronous) == set(resources)
    for name, calls in resources.items():
        assert _shape(synchronous[name]) == _shape(calls)
    assert _shape(PenstockSyncClient) == _shape(PenstockClient)


def test_the_two_written_by_hand_have_the_same_form() -> None:
    assert _shape(SyncWire) == _shape(AsyncWire)
    assert _shape(SyncAnswer) == _shape(AsyncAnswer)
