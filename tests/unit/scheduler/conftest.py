"""The scheduler's stories, told twice: decided on all at once, and endpoint by endpoint."""

import pytest

from tests.fakes.scheduler_world import World


@pytest.fixture(params=["whole", "by-parts"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs once with a plan over everything, once with a plan for each endpoint."""
    monkeypatch.setattr(World, "by_parts", request.param == "by-parts")
