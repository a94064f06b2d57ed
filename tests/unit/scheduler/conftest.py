"""The scheduler's stories, told twice: decided on all at once, and endpoint by endpoint."""

import pytest

from tests.fakes.scheduler_records import make_node
from tests.fakes.scheduler_world import World


@pytest.fixture(params=["whole", "by-parts"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs once with a plan over everything, once with a plan for each endpoint."""
    monkeypatch.setattr(World, "by_parts", request.param == "by-parts")


@pytest.fixture
def world() -> World:
    """Two nodes with two GPUs each."""
    made = World(start_s=5, service_s=1)
    made.join(make_node("node-a", n_gpus=2), make_node("node-b", n_gpus=2))
    return made
