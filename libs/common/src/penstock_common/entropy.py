"""The one door to randomness, as `clock.py` is the one door to time."""

import os
import secrets
from collections.abc import Callable
from typing import Final

from penstock_common.ids import ALPHABET, DIGITS

#: Bytes that one call to the system gives: each call costs as much as making many ids.
_BLOCK_BYTES: Final = 4_096
#: Every byte to one digit; each digit stands for eight of them.
_TO_DIGITS: Final = (ALPHABET * 8).encode()


class _Pool:
    """Random digits, drawn ahead, since requests wait for them. Each is given out once.

    Not for secrets: the next ones lie in memory before they are used.
    """

    def __init__(self, draw: Callable[[], str]) -> None:
        self._draw = draw
        self._digits = ""
        self._at = 0

    def take(self, count: int) -> str:
        """So many digits that nobody else gets."""
        at = self._at
        end = self._at = at + count
        if end > len(self._digits):
            self._digits = self._draw()
            at, self._at = 0, count
        return self._digits[at : self._at]

    def clear(self) -> None:
        """Draw anew: a forked child has its parent's digits."""
        self._digits = ""


def _draw_digits() -> str:
    return secrets.token_bytes(_BLOCK_BYTES).translate(_TO_DIGITS).decode()


_digits = _Pool(_draw_digits)
_hex_digits = _Pool(lambda: secrets.token_hex(_BLOCK_BYTES))
os.register_at_fork(after_in_child=_digits.clear)
os.register_at_fork(after_in_child=_hex_digits.clear)


def random_id(prefix: str) -> str:
    """A fresh id with this prefix (`ids.py` lists them)."""
    return f"{prefix}-{_digits.take(DIGITS)}"


def random_hex(count: int) -> str:
    """So many (at most 1,024) hexadecimal digits for a name; not for secrets."""
    return _hex_digits.take(count)


def random_secret() -> str:
    """256 random bits as 43 URL-safe characters: API keys, NATS passwords."""
    return secrets.token_urlsafe(32)


def random_key() -> bytes:
    """256 random bits: keys of signatures."""
    return secrets.token_bytes(32)


def random_ratio() -> float:
    """A random number in [0, 1): the jitter of retries."""
    return secrets.randbelow(1 << 32) / (1 << 32)
