"""Listening sockets as the kernel tells them."""

import os
import socket
import sys

import pytest

from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.proc_net import (
    listeners_of_container,
    listeners_of_processes,
    parse_sockets,
)

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode\n"
FOUR = HEAD + (
    "   0: 0B00007F:A43D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
    " 41 1 0000000000000000 100 0 0 10 0\n"
    "   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
    " 42 1 0000000000000000 100 0 0 10 0\n"
    "   2: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0"
    " 43 1 0000000000000000 100 0 0 10 0\n"
)
SIX = HEAD + (
    "   0: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000     0        0 44 1 0000000000000000 100 0 0 10 0\n"
    "   1: 0000000000000000FFFF00000100007F:1389 00000000000000000000000000000000:0000 0A"
    " 00000000:00000000 00:00000000 00000000     0        0 45 1 0000000000000000 100 0 0 10 0\n"
)


@pytest.mark.skipif(sys.byteorder != "little", reason="the table of another machine")
def test_only_listening_sockets_are_read_and_their_addresses() -> None:
    assert [(s.listener, s.inode) for s in parse_sockets(FOUR)] == [
        (Listener("127.0.0.11", 42045), 41),
        (Listener("0.0.0.0", 8000), 42),
    ]
    assert [s.listener for s in parse_sockets(SIX)] == [
        Listener("::1", 5000),
        Listener("127.0.0.1", 5001),
    ]


def test_a_table_with_nothing_in_it_has_no_sockets() -> None:
    assert parse_sockets("") == parse_sockets(HEAD) == ()


def test_a_process_is_seen_to_listen_where_it_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = listeners_of_processes([os.getpid()])
        assert found is not None
        assert Listener("127.0.0.1", server.getsockname()[1]) in found
        assert listeners_of_processes([]) == ()


def test_a_process_that_is_not_the_containers_says_nothing_of_it() -> None:
    assert listeners_of_container(os.getpid(), "0123456789abcdef" * 4) is None
    assert listeners_of_container(2**22 + 1, "") is None
