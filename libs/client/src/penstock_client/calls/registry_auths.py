"""Calls about registry auths."""

from typing import Final

from penstock_client.calls.listing import Listing
from penstock_client.documents import RegistryAuthDocument, RegistryAuthList
from penstock_client.transport import Transport, quoted

PATH: Final = "/v1/registry-auths"


class RegistryAuthCalls:
    """Credentials of image registries, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, *, name: str, username: str, password: str) -> RegistryAuthDocument:
        """The new registry auth; its password (or token) is sealed and never shown."""
        document = {"name": name, "username": username, "password": password}
        return await self._transport.ask(RegistryAuthDocument, "POST", PATH, document)

    def list(self) -> Listing[RegistryAuthDocument, RegistryAuthList]:
        """The registry auths, oldest first."""
        return Listing(self._transport, PATH, RegistryAuthList, lambda page: page.registry_auths)

    async def show(self, registry_auth: str) -> RegistryAuthDocument:
        """The registry auth with this id."""
        return await self._transport.ask(RegistryAuthDocument, "GET", _path(registry_auth))

    async def delete(self, registry_auth: str) -> RegistryAuthDocument:
        """The registry auth as it was; refused (409) while something pulls with it."""
        return await self._transport.ask(RegistryAuthDocument, "DELETE", _path(registry_auth))


def _path(registry_auth: str) -> str:
    return f"{PATH}/{quoted(registry_auth)}"
