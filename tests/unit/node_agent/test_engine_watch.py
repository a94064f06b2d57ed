"""What is made of looks at an engine, without one."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from docker import APIClient
from docker.errors import DockerException

from penstock_node_agent.runtimes.docker import engine_disk
from penstock_node_agent.runtimes.docker.watch import EngineWatch, parse_instant
from tests.fakes.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Collection

NEVER = "0001-01-01T00:00:00Z"


class Engine:
    """What the watch asks, and what a test lets it answer."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.live_restore = False
        self.running: list[str] = []
        self.idle: list[str] = []

    def connect(self, _timeout_s: float) -> APIClient:
        if self.error is not None:
            raise DockerException(self.error)
        return cast("APIClient", self)

    def containers(self, **_filters: Any) -> list[dict[str, Any]]:
        return [
            {"Labels": {"penstock.worker": name}, "State": state}
            for state, names in (("running", self.running), ("created", self.idle))
            for name in names
        ]

    def info(self) -> dict[str, Any]:
        return {"LiveRestoreEnabled": self.live_restore, "DockerRootDir": "/"}

    def close(self) -> None:
        """As a client."""


class Rig:
    def __init__(self) -> None:
        self.engine = Engine()
        self.clock = ManualClock()
        self.listed: list[tuple[Collection[str], Collection[str]]] = []
        self.backs = 0
        self.watch = EngineWatch(
            self.engine.connect,
            "node-a",
            self.clock,
            answer_s=10,
            local=False,
            on_listed=lambda running, idle: self.listed.append((running, idle)),
            on_back=self._back,
        )

    def _back(self) -> None:
        self.backs += 1

    async def look(self) -> None:
        """Until a look that begins now, or soon, is done and seen."""
        for _ in range(5):
            self.watch.tend()
            if self.watch._looking is not None:
                break
        assert self.watch._looking is not None
        await asyncio.wait({self.watch._looking})
        self.watch.tend()

    def ended(self, *, code: int = 143, after_s: float = 0.0) -> dict[str, Any]:
        at = self.clock.utc() + timedelta(seconds=after_s)
        return {"State": {"FinishedAt": at.strftime("%Y-%m-%dT%H:%M:%S.%f000Z"), "ExitCode": code}}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_look_tells_who_runs(rig: Rig) -> None:
    rig.engine.running, rig.engine.idle = ["wk-1"], ["wk-2"]
    await rig.look()
    assert (rig.watch.problem, rig.listed) == (None, [({"wk-1"}, {"wk-2"})])


async def test_an_engine_that_cannot_be_asked_is_away_until_it_can(rig: Rig) -> None:
    rig.engine.error = "connection refused"
    await rig.look()
    problem = rig.watch.problem
    assert problem is not None
    assert (problem.message, problem.since) == ("connection refused", rig.clock.utc())
    rig.clock.advance(3)
    rig.engine.error = None

    await rig.look()

    assert (rig.watch.problem, rig.backs) == (None, 1)


async def test_an_engine_that_takes_too_long_is_away(rig: Rig) -> None:
    hold = asyncio.get_running_loop().create_future()
    rig.watch._looking, rig.watch._looking_since = hold, rig.clock.monotonic()
    rig.clock.advance(9)
    rig.watch.tend()
    assert rig.watch.problem is None

    rig.clock.advance(2)
    rig.watch.tend()

    assert rig.watch.problem is not None
    assert "within 10 s" in rig.watch.problem.message


async def test_an_end_between_the_last_good_look_and_the_engines_return_is_the_engines(
    rig: Rig,
) -> None:
    await rig.look()
    before = rig.ended(after_s=-1)
    rig.clock.advance(1)
    while_away = rig.ended()
    rig.clock.advance(1)
    rig.engine.error = "connection refused"
    await rig.look()
    rig.clock.advance(5)
    while_coming = rig.ended()
    rig.clock.advance(1)
    rig.engine.error = None
    await rig.look()
    rig.clock.advance(1)
    after = rig.ended()

    judged = [
        await rig.watch.ended_with_engine(ended)
        for ended in (before, while_away, while_coming, after)
    ]

    assert judged == [False, True, True, False]


async def test_an_end_that_is_seen_before_anything_else_makes_it_knock(rig: Rig) -> None:
    await rig.look()
    rig.clock.advance(1)
    rig.engine.error = "connection refused"

    assert await rig.watch.ended_with_engine(rig.ended())

    assert rig.watch.away


@pytest.mark.parametrize(
    ("live_restore", "code", "expected"), [(True, 143, False), (True, 255, True), (False, 1, True)]
)
async def test_an_engine_that_leaves_containers_alone_ends_none(
    rig: Rig, live_restore: bool, code: int, expected: bool
) -> None:
    rig.engine.live_restore = live_restore
    await rig.look()
    rig.clock.advance(1)
    rig.watch.note_trouble("its event stream ended", gone=True)

    assert await rig.watch.ended_with_engine(rig.ended(code=code)) is expected


async def test_an_engine_that_only_hung_ended_nothing(rig: Rig) -> None:
    await rig.look()
    rig.clock.advance(1)
    rig.watch.note_trouble("does not answer within 10 s", gone=False)
    ended = rig.ended(code=1)
    assert not await rig.watch.ended_with_engine(ended)
    rig.clock.advance(1)
    await rig.look()

    assert not await rig.watch.ended_with_engine(ended)


async def test_a_worker_out_of_memory_did_not_end_with_the_engine(rig: Rig) -> None:
    rig.watch.note_trouble("gone", gone=True)
    ended = rig.ended(code=137)
    ended["State"]["OOMKilled"] = True
    assert not await rig.watch.ended_with_engine(ended)


async def test_a_full_disk_that_cannot_be_measured_counts_for_a_minute(rig: Rig) -> None:
    rig.watch.note_no_space()
    problem = rig.watch.problem
    assert problem is not None
    assert problem.full
    rig.clock.advance(59)
    await rig.look()
    assert rig.watch.problem is not None
    rig.clock.advance(2)

    await rig.look()

    assert rig.watch.problem is None


@pytest.mark.parametrize(("free", "full"), [(0, True), (999_999_999, True), (1_000_000_000, False)])
def test_a_disk_that_can_be_measured_is_full_below_a_gigabyte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, full: bool
) -> None:
    monkeypatch.setattr(engine_disk, "_free", lambda _folder: (free, 10**12))
    room = engine_disk.DiskRoom(ManualClock(), local=True)

    room.look(str(tmp_path))

    assert (room.problem is not None) is full


def test_of_a_small_disk_a_twentieth_must_be_left() -> None:
    assert engine_disk.least_free(10**12) == 10**9
    assert engine_disk.least_free(10**9) == 5 * 10**7


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123_457, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (NEVER, None),
        ("", None),
    ],
)
def test_an_engines_instants_are_read(text: str, instant: datetime | None) -> None:
    assert parse_instant(text) == instant
