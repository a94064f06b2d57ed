"""Calls are taken from the start on, also from a server that is slow at that moment."""

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import pytest

from penstock_api.rpc import bus_client
from penstock_api.rpc.bus_client import BusClient
from penstock_common.errors import BusDisconnectedError, BusTimeoutError

if TYPE_CHECKING:
    from penstock_common.nats.connection import Bus


class SlowBus:
    """Passes for a bus whose first subscriptions end like this."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = deque(failures)
        self.subscribed: list[str] = []

    async def subscribe(self, subject: str, handler: Any, *, queue: str) -> object:
        if self._failures:
            raise self._failures.popleft()
        self.subscribed.append(subject)
        return object()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_client, "_START_PAUSE_S", 0.0)


async def test_a_server_that_is_slow_to_confirm_is_asked_again() -> None:
    bus = SlowBus(BusTimeoutError("silent"), BusDisconnectedError("gone"))
    await BusClient(cast("Bus", bus)).start()
    assert len(bus.subscribed) == 1


async def test_one_that_never_confirms_ends_the_start() -> None:
    bus = SlowBus(*(BusTimeoutError("silent") for _ in range(5)))
    with pytest.raises(BusTimeoutError):
        await BusClient(cast("Bus", bus)).start()
    assert bus.subscribed == []
