"""What the person at `penstock top` wants to see, and what a key changes of it [pure]."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Order(StrEnum):
    """By which column endpoints are sorted; what needs a look comes first."""

    WAITING = "WAITING"
    RATE = "REQ/S"
    IN_FLIGHT = "IN FLIGHT"
    WORKERS = "WORKERS"
    SLOW = "P99"
    STATE = "STATE"
    NAME = "APP"


class Key(StrEnum):
    """Keys that have no character."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    ENTER = "enter"
    ESCAPE = "escape"
    BACKSPACE = "backspace"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be seen."""

    order: Order = Order.WAITING
    #: only endpoints with this in their name, and nodes
    part: str = ""
    #: keys are letters of `part`
    typing: bool = False
    #: first endpoint that is shown, from 0
    first: int = 0
    #: it is to end
    leaves: bool = False


_ESCAPES: Final = {
    b"\x1b[A": Key.UP,
    b"\x1bOA": Key.UP,
    b"\x1b[B": Key.DOWN,
    b"\x1bOB": Key.DOWN,
    b"\x1b[5~": Key.PAGE_UP,
    b"\x1b[6~": Key.PAGE_DOWN,
    b"\x1b[H": Key.HOME,
    b"\x1bOH": Key.HOME,
    b"\x1b[1~": Key.HOME,
}
_SINGLE: Final = {
    "\r": Key.ENTER,
    "\n": Key.ENTER,
    "\x7f": Key.BACKSPACE,
    "\x08": Key.BACKSPACE,
}
_ORDERS: Final = tuple(Order)
_PAGE: Final = 10


def keys_in(data: bytes) -> Iterator[str]:
    """The keys in what a terminal sent at once; sequences that mean nothing here are left out."""
    while data:
        if data[:1] == b"\x1b":
            found = next((code for code in _ESCAPES if data.startswith(code)), None)
            if found is not None:
                yield _ESCAPES[found]
                data = data[len(found) :]
                continue
            if data[1:2] not in (b"[", b"O"):
                yield Key.ESCAPE
                data = data[1:]
                continue
            data = _behind_sequence(data)
            continue
        text = data.partition(b"\x1b")[0]
        data = data[len(text) :]
        for character in text.decode(errors="ignore"):
            if character in _SINGLE:
                yield _SINGLE[character]
            elif character.isprintable():
                yield character


def _behind_sequence(data: bytes) -> bytes:
    """What follows on a control sequence: it ends with a byte of 0x40 to 0x7e."""
    for place in range(2, len(data)):
        if 0x40 <= data[place] <= 0x7E:
            return data[place + 1 :]
    return b""


def press(wishes: Wishes, key: str) -> Wishes:
    """The wishes after this key."""
    if wishes.typing:
        return _type(wishes, key)
    match key:
        case "q" | "Q":
            return replace(wishes, leaves=True)
        case "s":
            following = (_ORDERS.index(wishes.order) + 1) % len(_ORDERS)
            return replace(wishes, order=_ORDERS[following], first=0)
        case "/":
            return replace(wishes, typing=True)
        case Key.ESCAPE:
            return replace(wishes, part="", first=0)
        case _:
            return replace(wishes, first=max(wishes.first + _scrolled(wishes, key), 0))


def _scrolled(wishes: Wishes, key: str) -> int:
    match key:
        case Key.DOWN | "j":
            return 1
        case Key.UP | "k":
            return -1
        case Key.PAGE_DOWN | " ":
            return _PAGE
        case Key.PAGE_UP:
            return -_PAGE
        case Key.HOME | "g":
            return -wishes.first
        case _:
            return 0


def _type(wishes: Wishes, key: str) -> Wishes:
    match key:
        case Key.ENTER:
            return replace(wishes, typing=False)
        case Key.ESCAPE:
            return replace(wishes, typing=False, part="", first=0)
        case Key.BACKSPACE:
            return replace(wishes, part=wishes.part[:-1], first=0)
        case _ if len(key) == 1:
            return replace(wishes, part=wishes.part + key, first=0)
        case _:
            return wishes
