"""Calls about network volumes."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.calls.listing import Listing
from penstock_client.documents import VolumeDocument, VolumeList
from penstock_client.transport import Transport, quoted

PATH: Final = "/v1/volumes"


class VolumeCalls:
    """Network volumes, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, document: Mapping[str, Any]) -> VolumeDocument:
        """The network volume made known by this document (docs/storage.md)."""
        return await self._transport.ask(VolumeDocument, "POST", PATH, document)

    def list(self) -> Listing[VolumeDocument, VolumeList]:
        """The network volumes, oldest first."""
        return Listing(self._transport, PATH, VolumeList, lambda page: page.volumes)

    async def show(self, volume: str) -> VolumeDocument:
        """The network volume with this id."""
        return await self._transport.ask(VolumeDocument, "GET", _path(volume))

    async def rename(self, volume: str, name: str) -> VolumeDocument:
        """The network volume with this id, from now on with another name."""
        return await self._transport.ask(VolumeDocument, "PATCH", _path(volume), {"name": name})

    async def delete(self, volume: str) -> VolumeDocument:
        """The network volume as it was; Penstock knows it no longer, its data stay."""
        return await self._transport.ask(VolumeDocument, "DELETE", _path(volume))


def _path(volume: str) -> str:
    return f"{PATH}/{quoted(volume)}"
