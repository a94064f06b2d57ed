"""Calls about API keys."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.calls.listing import Listing
from penstock_client.documents import ApiKeyDocument, ApiKeyList, ApiKeyMade
from penstock_client.transport import Transport

PATH: Final = "/v1/api-keys"


class ApiKeyCalls:
    """API keys, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> ApiKeyMade:
        """The new API key made from this document; its `key` is shown this once.

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return await self._transport.ask(
            ApiKeyMade, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[ApiKeyDocument, ApiKeyList]:
        """The API keys, oldest first."""
        return Listing(self._transport, PATH, ApiKeyList, lambda page: page.api_keys)

    async def show(self, key_id: str) -> ApiKeyDocument:
        """The API key with this id, and what its endpoints hold now."""
        return await self._transport.ask(ApiKeyDocument, "GET", _path(key_id))

    async def update(self, key_id: str, patch: Mapping[str, Any]) -> ApiKeyDocument:
        """The API key after a JSON merge patch of its name, quota or expiry."""
        return await self._transport.ask(ApiKeyDocument, "PATCH", _path(key_id), patch)

    async def rotate(
        self, key_id: str, *, old_expires_in_s: int = 0, idempotency_key: str | None = None
    ) -> ApiKeyMade:
        """The same API key with another secret, its `key`, which is shown this once.

        Args:
            key_id: of the key, which keeps what it owns and its quota.
            old_expires_in_s: so long the secret before opens as well; 0 = no longer.
            idempotency_key: as for `create`.
        """
        document = {"old_expires_in_s": old_expires_in_s}
        return await self._transport.ask(
            ApiKeyMade,
            "POST",
            f"{_path(key_id)}/rotate",
            document,
            idempotency_key=idempotency_key,
        )

    async def revoke(self, key_id: str) -> ApiKeyDocument:
        """The API key, which opens nothing from now on."""
        return await self._transport.ask(ApiKeyDocument, "DELETE", _path(key_id))


def _path(key_id: str) -> str:
    return f"{PATH}/{quoted(key_id)}"
