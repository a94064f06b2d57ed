"""Connections that never send a request."""

from types import SimpleNamespace
from typing import Any

from penstock_api.connections import ConnectionSweep


class Connection:
    closed = False

    def force_close(self) -> None:
        self.closed = True


def heard(connection: Connection) -> Any:
    return SimpleNamespace(protocol=connection)


def test_only_a_connection_that_stays_silent_is_closed() -> None:
    sweep = ConnectionSweep(10)
    silent, busy, late = Connection(), Connection(), Connection()
    sweep.note(heard(busy))
    sweep.tick([silent, busy], now=0)
    sweep.tick([silent, busy, late], now=5)
    sweep.note(heard(late))
    assert sweep.tick([silent, busy, late], now=10) == 0
    assert sweep.tick([silent, busy, late], now=10.5) == 1
    assert (silent.closed, busy.closed, late.closed) == (True, False, False)
    assert sweep.tick([busy, late], now=100) == 0


def test_connections_that_are_gone_are_forgotten() -> None:
    sweep = ConnectionSweep(10)
    connections = [Connection() for _ in range(10)]
    for connection in connections[:5]:
        sweep.note(heard(connection))
    sweep.tick(connections, now=0)
    sweep.tick([], now=1)
    assert not sweep._heard
    assert not sweep._first_seen
