"""When a router says that it shows a write of the api."""

from typing import Any

from penstock_common.messages import Sight
from penstock_common.nats.wire import Received
from penstock_router.sight import Sightings
from tests.fakes.clock import ManualClock


class Scene:
    """A router's answers, over rows that a test sets."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.rows: dict[str, int] = {}
        self.clock = ManualClock()
        wire: Any = self
        self.sightings = Sightings(wire, "rt-1", self.shows, self.clock)

    def answer(self, reply: str) -> None:
        self.answers.append(reply)

    def shows(self, sight: Sight) -> bool:
        revision = self.rows.get(sight.key, 0)
        return revision == 0 if sight.revision == 0 else revision >= sight.revision

    def ask(self, key: str, revision: int, reply: str) -> None:
        data = Sight(bucket="B", key=key, revision=revision).encode()
        self.sightings.on_question(Received("asked", data, {}, reply))

    def put(self, key: str, revision: int) -> None:
        self.rows[key] = revision
        self.sightings.look("B", key)


def test_a_write_that_is_shown_is_answered_at_once() -> None:
    scene = Scene()
    scene.rows["ep-1"] = 7
    scene.ask("ep-1", 7, "first")
    scene.ask("ep-2", 0, "gone")
    assert scene.answers == ["first", "gone"]


def test_a_write_that_is_not_shown_is_answered_when_it_is() -> None:
    scene = Scene()
    scene.ask("ep-1", 8, "this one")
    scene.ask("ep-1", 9, "the next")
    scene.ask("ep-2", 3, "another")
    assert scene.answers == []
    scene.put("ep-1", 7)
    assert scene.answers == []
    scene.put("ep-1", 8)
    assert scene.answers == ["this one"]
    scene.put("ep-1", 12)
    assert scene.answers == ["this one", "the next"]
    assert scene.sightings.open == 1


def test_a_question_that_nobody_waits_for_is_forgotten() -> None:
    scene = Scene()
    scene.ask("ep-1", 8, "late")
    scene.clock.advance(4.0)
    scene.sightings.tick(scene.clock.monotonic())
    assert scene.sightings.open == 1
    scene.clock.advance(2.0)
    scene.sightings.tick(scene.clock.monotonic())
    assert scene.sightings.open == 0
    scene.put("ep-1", 8)
    assert scene.answers == []


def test_what_cannot_be_read_is_not_answered() -> None:
    scene = Scene()
    scene.sightings.on_question(Received("asked", b"{", {}, "reply"))
    assert scene.answers == []
