"""Following a stream while NATS comes and goes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from penstock_api import following
from penstock_api.following import Pause, follow
from penstock_api.open_streams import OpenStreams
from penstock_common.errors import BusDisconnectedError


@dataclass(frozen=True)
class Page:
    upto: int
    more: bool = False


def flaky(*answers: int | None) -> Callable[[int], Awaitable[Page]]:
    """Gives pages up to these sequences, one a call; None = NATS is away."""
    left = list(answers)

    async def fetch(_after: int) -> Page:
        upto = left.pop(0)
        if upto is None:
            raise BusDisconnectedError
        return Page(upto)

    return fetch


async def shown(
    fetch: Callable[[int], Awaitable[Page]], count: int, *, answered: bool
) -> list[Page | Pause]:
    """The first so many things that a follower from 3 on is given."""
    pages = follow(fetch, 3, woken=asyncio.Event(), streams=OpenStreams(limit=1), answered=answered)
    async with contextlib.aclosing(pages):
        return [await anext(pages) for _ in range(count)]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "TICK_S", 0.001)


async def test_a_first_page_that_cannot_be_fetched_is_a_refusal() -> None:
    with pytest.raises(BusDisconnectedError):
        await shown(flaky(None), 1, answered=False)


async def test_it_breaks_off_no_answer_that_has_begun() -> None:
    assert await shown(flaky(None, 3, 4), 4, answered=True) == [
        Pause.AWAY,
        Page(3),
        Pause.CAUGHT_UP,
        Page(4),
    ]


async def test_later_pages_are_waited_for() -> None:
    assert await shown(flaky(3, None, 4), 4, answered=False) == [
        Page(3),
        Pause.CAUGHT_UP,
        Pause.AWAY,
        Page(4),
    ]
