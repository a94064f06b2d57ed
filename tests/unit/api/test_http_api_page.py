"""docs/http-api.md says what the code does."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from penstock_api.app import ROUTES
from penstock_api.error_forms import NATIVE, form_of
from penstock_api.store import MAX_RECORD_BYTES
from penstock_client.documents import EndpointDocument
from penstock_common.errors import PenstockError
from penstock_common.specs import REVISION_SECTIONS, REVISION_WORKER_FIELDS, EndpointSpec

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/http-api.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|")
]


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_routes_are_those_of_the_table() -> None:
    documented = [row for row in ROWS if row[0] in {"GET", "POST", "PUT", "PATCH", "DELETE"}]
    assert documented == [
        [route.method, f"`{route.path}`", route.scope, str(route.status), route.summary]
        for route in ROUTES
        if form_of(route.path) is NATIVE  # the others stand on the pages of their platforms
    ]


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= fields(inner, f"{prefix}{name}.")
        elif not field.is_required():
            found[f"`{prefix}{name}`"] = f"`{json.dumps(field.default)}`"
    return found


def test_every_field_stands_there_with_its_default() -> None:
    documented = {row[0]: row[1] for row in ROWS if len(row) == 3}
    for name, default in fields(EndpointSpec).items():
        assert documented[name] == default
    for name in EndpointDocument.model_fields:
        assert f"`{name}`" in PAGE or f"`{name}." in PAGE, name


def test_what_makes_a_revision_stands_there() -> None:
    told = section("Changes").split("makes a new revision")[0].rsplit("A change of", 1)[1]
    named = set(re.findall(r"`([a-z_.]+)`", told))
    assert named == {*REVISION_SECTIONS, *(f"workers.{name}" for name in REVISION_WORKER_FIELDS)}


def subclasses(base: type[PenstockError]) -> set[type[PenstockError]]:
    return {base} | {deeper for direct in base.__subclasses__() for deeper in subclasses(direct)}


def test_every_reason_stands_there_and_no_other() -> None:
    documented = set(
        re.findall(r"`([a-z_]+)`", " ".join(row[1] for row in ROWS if row[0].isdigit()))
    )
    source = "".join(path.read_text() for path in (ROOT / "services/api/src").rglob("*.py"))
    raised = set(re.findall(r'RefusedError\(\s*\d{3},\s*"([a-z_]+)"', source))
    never_leave = {
        "api_refused",
        "api_unreachable",
        "wait_timeout",
        "not_serving",
        "drain_ended",  # of the client
        "illegal_transition",
        "misconfigured",
        "seal_broken",
        "bad_request",
    }
    own = {
        error.error_type
        for error in subclasses(PenstockError)
        if error.__module__.startswith(("penstock_common.errors", "penstock_api"))
    }
    assert documented == (raised | own) - never_leave


def test_the_limit_of_a_record_stands_there() -> None:
    assert f"{MAX_RECORD_BYTES // 1024} KiB as stored" in PAGE
