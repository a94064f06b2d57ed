"""The one door to randomness, as `clock.py` is the one door to time."""

import secrets

from penstock_common.ids import ENTROPY_BYTES, make_id


def random_id(prefix: str) -> str:
    """A fresh id with this prefix (`ids.py` lists them)."""
    return make_id(prefix, secrets.token_bytes(ENTROPY_BYTES))


def random_secret() -> str:
    """256 random bits as 43 URL-safe characters: API keys, NATS passwords."""
    return secrets.token_urlsafe(32)


def random_ratio() -> float:
    """A random number in [0, 1): the jitter of retries."""
    return secrets.randbelow(1 << 32) / (1 << 32)
