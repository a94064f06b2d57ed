from typing import Any

from penstock_node_agent.runtimes.pull_bytes import PullCount, PulledBytes


def line(layer: str, status: str, **detail: int) -> dict[str, Any]:
    return {"id": layer, "status": status, "progressDetail": detail}


def test_layers_are_added_up_and_whole_ones_count_whole() -> None:
    count = PullCount()
    assert count.note({"status": "Pulling from acme/echo", "id": "1"}) == PulledBytes()
    assert count.note(line("a", "Downloading", current=10, total=100)) == PulledBytes(10, 100)
    assert count.note(line("b", "Downloading", current=5, total=50)) == PulledBytes(15, 150)
    assert count.note(line("a", "Download complete")) == PulledBytes(105, 150)
    # Unpacking counts other bytes than the download.
    assert count.note(line("a", "Extracting", current=1, total=100)) == PulledBytes(105, 150)
    assert count.note(line("b", "Pull complete")) == PulledBytes(150, 150)


def test_a_layer_of_unknown_size_has_the_size_that_has_come() -> None:
    count = PullCount()
    assert count.note(line("a", "Downloading", current=10)) == PulledBytes(10, 10)
    assert count.note(line("a", "Already exists")) == PulledBytes(10, 10)
