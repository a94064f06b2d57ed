"""Calls about join tokens."""

from collections.abc import Mapping
from typing import Final

from penstock_client.api_requests import quoted
from penstock_client.calls.listing import Listing
from penstock_client.documents import JoinTokenDocument, JoinTokenList, JoinTokenMade
from penstock_client.transport import Transport

PATH: Final = "/v1/join-tokens"


class JoinTokenCalls:
    """What lets hosts become nodes, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        *,
        name: str = "",
        expires_in_s: int = 3_600,
        max_uses: int = 1,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> JoinTokenMade:
        """A new join token; its `token` is shown this once.

        Args:
            name: for people.
            expires_in_s: nobody joins with it after so many seconds.
            max_uses: so many hosts join with it at most.
            labels: of the nodes that join with it, beside their own.
            idempotency_key: sent again with the same within a day, it makes no second one; None = a
                fresh one for this call and what the client repeats of it.
        """
        document = {
            "name": name,
            "expires_in_s": expires_in_s,
            "max_uses": max_uses,
            "labels": dict(labels or {}),
        }
        return await self._transport.ask(
            JoinTokenMade, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[JoinTokenDocument, JoinTokenList]:
        """The join tokens, oldest first."""
        return Listing(self._transport, PATH, JoinTokenList, lambda page: page.join_tokens)

    async def show(self, token_id: str) -> JoinTokenDocument:
        """The join token with this id, and who joined with it."""
        return await self._transport.ask(JoinTokenDocument, "GET", _path(token_id))

    async def delete(self, token_id: str) -> JoinTokenDocument:
        """The join token as it was; nobody joins with it any more, and who has stays."""
        return await self._transport.ask(JoinTokenDocument, "DELETE", _path(token_id))


def _path(token_id: str) -> str:
    return f"{PATH}/{quoted(token_id)}"
