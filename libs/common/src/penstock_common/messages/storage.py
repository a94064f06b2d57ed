"""What outlives workers: network volumes, and images on nodes."""

from typing import Self

from pydantic import AwareDatetime
from typing_extensions import override

from penstock_common.messages.base import Message
from penstock_common.volumes import VolumeSource


class VolumeRecord(Message):
    """A network volume. Bucket VOLUMES; written by the api."""

    volume_id: str
    #: for people
    name: str
    source: VolumeSource
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @classmethod
    @override
    def decode(cls, data: bytes) -> Self:
        """As for every message; what a newer Penstock says of the source is ignored, too."""
        return cls.model_validate_json(data, extra="ignore")


class ImageRemoved(Message):
    """A node agent removed an image that nothing used. Event `penstock.node.image_removed`."""

    node_id: str
    #: the engine's id of it
    image_id: str
    #: what it was called there
    references: tuple[str, ...]
    #: its size, layers that other images share included
    size_bytes: int
    #: the disk of the engine's images, and what was free on it
    disk_total_bytes: int
    free_before_bytes: int
    #: null = could not be read
    free_after_bytes: int | None = None
