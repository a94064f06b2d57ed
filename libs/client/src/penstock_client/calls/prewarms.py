"""Calls about prewarms."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.calls.listing import Listing
from penstock_client.documents import PrewarmDocument, PrewarmList
from penstock_client.transport import Transport

PATH: Final = "/v1/prewarms"


class PrewarmCalls:
    """Images pulled ahead of need; each prewarm is named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> PrewarmDocument:
        """The prewarm made from this document (docs/storage.md).

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return await self._transport.ask(
            PrewarmDocument, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[PrewarmDocument, PrewarmList]:
        """The prewarms, oldest first."""
        return Listing(self._transport, PATH, PrewarmList, lambda page: page.prewarms)

    async def show(self, prewarm: str) -> PrewarmDocument:
        """The prewarm with this id, and how far each node is."""
        return await self._transport.ask(PrewarmDocument, "GET", _path(prewarm))

    async def delete(self, prewarm: str) -> PrewarmDocument:
        """The prewarm as it was; its image may be cleaned up from now on."""
        return await self._transport.ask(PrewarmDocument, "DELETE", _path(prewarm))


def _path(prewarm: str) -> str:
    return f"{PATH}/{quoted(prewarm)}"
