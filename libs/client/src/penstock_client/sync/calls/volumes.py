# Made by libs/client/make_sync.py of penstock_client/calls/volumes.py: change that one.
"""Calls about network volumes."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.documents import VolumeDocument, VolumeList
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.transport import Transport

PATH: Final = "/v1/volumes"


class VolumeCalls:
    """Network volumes, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> VolumeDocument:
        """The network volume made known by this document (docs/storage.md).

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return self._transport.ask(
            VolumeDocument, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[VolumeDocument, VolumeList]:
        """The network volumes, oldest first."""
        return Listing(self._transport, PATH, VolumeList, lambda page: page.volumes)

    def show(self, volume: str) -> VolumeDocument:
        """The network volume with this id."""
        return self._transport.ask(VolumeDocument, "GET", _path(volume))

    def rename(self, volume: str, name: str) -> VolumeDocument:
        """The network volume with this id, from now on with another name."""
        return self._transport.ask(VolumeDocument, "PATCH", _path(volume), {"name": name})

    def delete(self, volume: str) -> VolumeDocument:
        """The network volume as it was; Penstock knows it no longer, its data stay."""
        return self._transport.ask(VolumeDocument, "DELETE", _path(volume))


def _path(volume: str) -> str:
    return f"{PATH}/{quoted(volume)}"
