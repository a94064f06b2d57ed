"""docs/client.md names every call, every error and every default."""

import dataclasses
import inspect
import re
from pathlib import Path

from penstock_client import call_errors, errors
from penstock_client.client import PenstockClient
from penstock_client.retrying import RetryPolicy
from penstock_common.errors import PenstockError

PAGE = (Path(__file__).parents[3] / "docs/client.md").read_text()
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_every_call_stands_in_the_table() -> None:
    for name, calls in inspect.get_annotations(PenstockClient, eval_str=True).items():
        public = {
            call
            for call, _ in inspect.getmembers(calls, inspect.isfunction)
            if not call.startswith("_")
        }
        assert set(re.findall(r"`(\w+)`", ROWS[name][0])) == public, name


def test_every_error_stands_in_its_table() -> None:
    for module in (errors, call_errors):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, PenstockError) and kind is not PenstockError:
                assert name in ROWS, name


def test_the_defaults_are_those_of_the_code() -> None:
    timeout = inspect.signature(PenstockClient).parameters["timeout_s"].default
    assert float(ROWS["timeout_s"][0]) == timeout
    for field in dataclasses.fields(RetryPolicy):
        assert float(ROWS[field.name][0]) == field.default
