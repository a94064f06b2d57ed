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
    number = int.from_bytes(entropy, "big")
    digits = [_ALPHABET[(number >> shift) & 31] for shift in range(60, -1, -5)]
    return f"{prefix}-{''.join(digits)}"
