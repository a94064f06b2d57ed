"""Names of things: how an id looks and which prefix says what it names.

An id is `<prefix>-<13 characters>`: 65 random bits in lower-case base 32 (Crockford's alphabet,
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
REGISTRY_AUTH: Final = "ra"
VOLUME: Final = "vol"
TEMPLATE: Final = "tpl"
PREWARM: Final = "pw"
AUDIT: Final = "au"
REQUEST: Final = "req"
JOIN_TOKEN: Final = "jt"  # noqa: S105 (of what names one)
WEBHOOK: Final = "wh"

#: Characters of an id behind its prefix, and what they are taken from.
DIGITS: Final = 13
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def is_id(prefix: str, text: str) -> bool:
    """Whether the text is an id that begins with this prefix."""
    digits = text.removeprefix(f"{prefix}-")
    return len(digits) == DIGITS and digits != text and set(digits) <= set(ALPHABET)
