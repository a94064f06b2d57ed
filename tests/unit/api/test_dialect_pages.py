"""The pages about other platforms' APIs say what the code does."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock_api.app import ROUTES
from penstock_api.dialects import FieldRow
from penstock_api.novita import prewarms, v1, v2
from penstock_api.novita.states import ENDPOINT_STATES, WORKER_STATES
from penstock_api.openapi import tag_of
from penstock_api.runpod import v1 as runpod
from penstock_api.runpod.gpu_types import GPU_TYPES
from tests.support.dialect_rig import columns

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("page", "tag"),
    [("novita.md", "Novita v1"), ("novita.md", "Novita v2"), ("runpod.md", "RunPod v1")],
)
def test_the_routes_are_those_of_the_table(page: str, tag: str) -> None:
    told = columns((DOCS / page).read_text(), f"### {tag}: routes")
    assert list(told) == [
        (route.method, f"`{route.path}`", route.scope, str(route.status), route.summary)
        for route in ROUTES
        if tag_of(route) == tag
    ]


@pytest.mark.parametrize(
    ("page", "tag", "rows"),
    [
        ("novita.md", "Novita v1", v1.FIELDS),
        ("novita.md", "Prewarms", prewarms.FIELDS),
        ("novita.md", "Novita v2", v2.FIELDS),
        ("runpod.md", "Endpoints", runpod.FIELDS),
        ("runpod.md", "Templates", runpod.TEMPLATE_FIELDS),
    ],
)
def test_the_fields_are_those_of_the_table(page: str, tag: str, rows: Sequence[FieldRow]) -> None:
    told = columns((DOCS / page).read_text(), f"### {tag}: fields")
    assert list(told) == [
        (f"`{row.theirs}`", f"`{row.ours}`" if row.ours else "", row.note) for row in rows
    ]


def test_the_states_are_those_of_the_table() -> None:
    page = (DOCS / "novita.md").read_text()
    assert list(columns(page, "### States of an endpoint")) == [
        (f"`{ours}`", f"`{theirs}`") for ours, theirs in ENDPOINT_STATES.items()
    ]
    assert list(columns(page, "### States of a worker")) == [
        (f"`{ours}`", f"`{theirs}`") for ours, theirs in WORKER_STATES.items()
    ]
    assert list(columns(page, "### States of a prewarm")) == [
        (f"`{ours}`", f"`{theirs}`") for ours, theirs in prewarms.STATES.items()
    ]


def test_the_gpus_are_those_of_the_table() -> None:
    page = (DOCS / "runpod.md").read_text()
    assert list(columns(page, "### GPUs")) == [
        (f"`{name}`", f"`{product}`") for name, (_, product) in GPU_TYPES.items()
    ]
