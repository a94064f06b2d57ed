"""The ports that `penstock up` chooses."""

import socket

import pytest

from penstock_cli.local import ports


def test_a_chosen_port_is_none_that_the_kernel_gives_to_others() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        given = sock.getsockname()[1]
    assert given not in ports._PORTS
    assert ports.free_port("127.0.0.1") in ports._PORTS


def test_a_chosen_port_is_free_and_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ports.free_port("127.0.0.1")
    monkeypatch.setattr(ports, "_PORTS", range(first, first + 1))
    with pytest.raises(OSError, match="is free on 127"):
        ports.free_port("127.0.0.1", but=[first])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()
        with pytest.raises(OSError, match="is free on 127"):
            ports.free_port("127.0.0.1")
