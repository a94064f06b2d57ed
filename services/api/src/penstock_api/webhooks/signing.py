"""Signatures of the Standard Webhooks specification, symmetric scheme `v1` [pure].

Signed is `<id>.<timestamp>.<body>` with HMAC-SHA256. A secret is `whsec_` and its 24 to 64 bytes in
base64. While a secret is rotated a delivery bears a signature of the new one and of the old one.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 (what a secret begins with)
ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

_MIN_BYTES: Final = 24
_MAX_BYTES: Final = 64


def secret_of(key: bytes) -> str:
    """The text form of a secret of these random bytes.

    Raises:
        ValueError: they are fewer than 24 or more than 64.
    """
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise ValueError(f"a secret has {_MIN_BYTES} to {_MAX_BYTES} bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def key_of(secret: str) -> bytes:
    """The bytes of a secret in its text form.

    Raises:
        ValueError: it is none; the message does not show it.
    """
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a webhook's secret is `whsec_` and base64") from None


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,<base64>`.

    Args:
        secret: in its text form.
        message_id: the event's id; holds no full stop.
        timestamp: of this attempt, seconds since 1970.
        body: as it is sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def signed_headers(
    secrets: Sequence[str], *, message_id: str, at: datetime, body: bytes
) -> dict[str, str]:
    """The headers that prove who sent this body, and when.

    Args:
        secrets: those that are valid, the newest first; at least one.
        message_id: the event's id, the same at every attempt.
        at: of this attempt.
        body: as it is sent.
    """
    timestamp = int(at.timestamp())
    return {
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: " ".join(
            sign(secret, message_id=message_id, timestamp=timestamp, body=body)
            for secret in secrets
        ),
    }
