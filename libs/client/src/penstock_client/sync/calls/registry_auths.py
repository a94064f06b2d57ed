# Made by libs/client/make_sync.py of penstock_client/calls/registry_auths.py: change that one.
"""Calls about registry auths."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.documents import RegistryAuthDocument, RegistryAuthList
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.transport import Transport

PATH: Final = "/v1/registry-auths"


class RegistryAuthCalls:
    """Credentials of image registries, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> RegistryAuthDocument:
        """The new registry auth made from this document (docs/http-api.md).

        Its password (or token) is sealed and never shown.

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return self._transport.ask(
            RegistryAuthDocument, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[RegistryAuthDocument, RegistryAuthList]:
        """The registry auths, oldest first."""
        return Listing(self._transport, PATH, RegistryAuthList, lambda page: page.registry_auths)

    def show(self, registry_auth: str) -> RegistryAuthDocument:
        """The registry auth with this id."""
        return self._transport.ask(RegistryAuthDocument, "GET", _path(registry_auth))

    def delete(self, registry_auth: str) -> RegistryAuthDocument:
        """The registry auth as it was; refused (409) while something pulls with it."""
        return self._transport.ask(RegistryAuthDocument, "DELETE", _path(registry_auth))


def _path(registry_auth: str) -> str:
    return f"{PATH}/{quoted(registry_auth)}"
