"""The one door to randomness, as `clock.py` is the one door to time."""

import os
import secrets
from typing import Final

from penstock_common.ids import ENTROPY_BYTES, make_id

#: Draws that one call to the system gives: each call costs as much as making several ids.
_BATCH: Final = 256

#: Drawn and not given out yet. Each is given out once; a forked child draws its own.
_drawn: list[bytes] = []
os.register_at_fork(after_in_child=_drawn.clear)


def random_bytes() -> bytes:
    """`ENTROPY_BYTES` random bytes for a name: cheap enough for every request.

    Not for secrets, since the next ones lie in memory before they are used.
    """
    if not _drawn:
        block = secrets.token_bytes(ENTROPY_BYTES * _BATCH)
        _drawn.extend(block[i : i + ENTROPY_BYTES] for i in range(0, len(block), ENTROPY_BYTES))
    return _drawn.pop()


def random_id(prefix: str) -> str:
    """A fresh id with this prefix (`ids.py` lists them)."""
    return make_id(prefix, random_bytes())


def random_secret() -> str:
    """256 random bits as 43 URL-safe characters: API keys, NATS passwords."""
    return secrets.token_urlsafe(32)


def random_ratio() -> float:
    """A random number in [0, 1): the jitter of retries."""
    return secrets.randbelow(1 << 32) / (1 << 32)
