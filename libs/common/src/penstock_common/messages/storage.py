"""What outlives workers: network volumes."""

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
