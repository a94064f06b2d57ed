"""Names of things: how an id looks and which prefix says what it names.

An id is `<prefix>-<13 characters>`: 64 random bits in lower-case base 32 (Crockford's alphabet,
without i, l, o, u), so it is a valid DNS label, a valid NATS token and safe in a URL.
"""

from typing import Final

ENDPOINT: Final = "ep"
WORKER: Final = "wk"
NODE: Final = "node"
ROUTER: Final = "rt"
TICKET: Final = "tk"
SLOT_LEASE: Final = "sl"
API_KEY: Final = "key"
EVENT: Final = "ev"

ENTROPY_BYTES: Final = 8
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
#: Two digits at once.
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def make_id(prefix: str, entropy: bytes) -> str:
    """An id with this prefix from `ENTROPY_BYTES` random bytes.

    Args:
        prefix: one of this module's prefixes.
        entropy: exactly 8 bytes; the caller draws them (cores take randomness as an argument).

    Raises:
        ValueError: `entropy` has another length.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"entropy must be {ENTROPY_BYTES} bytes, got {len(entropy)}")
    n = int.from_bytes(entropy, "big")
    # Written out, since requests wait for it.
    return (
        f"{prefix}-{_ALPHABET[n >> 60]}{_PAIRS[n >> 50 & 1023]}{_PAIRS[n >> 40 & 1023]}"
        f"{_PAIRS[n >> 30 & 1023]}{_PAIRS[n >> 20 & 1023]}{_PAIRS[n >> 10 & 1023]}{_PAIRS[n & 1023]}"
    )
