"""Secrets in KV are sealed: encrypted and authenticated with a key that only lies in a file.

Fernet (AES-128-CBC with HMAC-SHA256, `cryptography`), a token per value. The api seals, only the
node agent opens; the api may ask whether a seal holds a value that somebody brings.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from penstock_common.errors import PenstockError


class SealBrokenError(PenstockError):
    """The sealed value was made with another key, or was changed."""

    error_type = "seal_broken"


def new_key() -> str:
    """A fresh key as text, for the key file."""
    return Fernet.generate_key().decode()


def is_key(text: str) -> bool:
    """Whether this text can be a key."""
    try:
        Fernet(text.encode())
    except ValueError:
        return False
    return True


class Sealer:
    """Seals and opens values with one key."""

    def __init__(self, key: str) -> None:
        """Take a key that `new_key` made.

        Raises:
            ValueError: it is no such key.
        """
        self._fernet = Fernet(key.encode())

    @classmethod
    def from_file(cls, path: Path) -> "Sealer":
        """A sealer with the key in this file."""
        return cls(path.read_text().strip())

    def seal(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Each value sealed."""
        return {
            name: self._fernet.encrypt(value.encode()).decode() for name, value in secrets.items()
        }

    def holds(self, token: str, value: str) -> bool:
        """Whether this value was sealed in `token`, with this key."""
        try:
            return hmac.compare_digest(self._fernet.decrypt(token.encode()), value.encode())
        except InvalidToken:
            return False

    def open(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """Each value as it was before `seal`.

        Raises:
            SealBrokenError: a value was not sealed with this key; the message names it.
        """
        opened = {}
        for name, token in sealed.items():
            try:
                opened[name] = self._fernet.decrypt(token.encode()).decode()
            except InvalidToken:
                raise SealBrokenError(f"secret '{name}' was sealed with another key") from None
        return opened
