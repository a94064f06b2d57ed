"""Which images to remove when the disk gets full [pure].

Only images that this agent pulled, that no container uses (a stopped one counts, and anybody's),
that nobody is about to start from or ordered ahead, and that nobody gave another name; the least
recently used first.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from penstock_common.image_references import repository

#: An image used so short a time ago stays: its worker may only just have crashed.
MIN_UNUSED_S: Final = 120.0
#: Once begun, cleaning goes on until so many times the low mark are free.
_RELIEF: Final = 4 / 3


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image that this agent pulled."""

    image_id: str
    #: by which it was pulled
    references: frozenset[str]
    #: last time that a container of it was there, or that it was pulled
    used_at: datetime


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image that the engine has."""

    image_id: str
    tags: tuple[str, ...]
    #: by digest, `repository@sha256:…`
    digests: tuple[str, ...]
    size_bytes: int

    @property
    def references(self) -> tuple[str, ...]:
        """Everything that it is called; tags first, since a digest alone goes with its last tag."""
        return (*self.tags, *self.digests)


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk that images lie on."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Marks:
    """When to clean."""

    #: cleaning begins when less than this share is free; 0 = not by share
    low_ratio: float = 0.0
    #: or fewer than so many bytes; 0 = not by bytes
    low_bytes: int = 0

    def missing_bytes(self, disk: DiskSpace) -> int:
        """How much cleaning has to free; 0 = nothing to do."""
        low = max(self.low_ratio * disk.total_bytes, self.low_bytes)
        if disk.free_bytes >= low:
            return 0
        return math.ceil(min(low * _RELIEF, disk.total_bytes)) - disk.free_bytes


def removable(
    pulled: Iterable[PulledImage],
    present: Mapping[str, EngineImage],
    *,
    used: Collection[str],
    wanted: Collection[str],
    now: datetime,
) -> list[EngineImage]:
    """Images that may go, the first to go first.

    Args:
        pulled: what this agent pulled.
        present: image id → what the engine has.
        used: ids of images that a container was made from, running or not.
        wanted: references that a start or an order needs; their repositories stay whole.
        now: the instant.
    """
    stay = {repository(reference) for reference in wanted}
    latest = now - timedelta(seconds=MIN_UNUSED_S)
    found: list[tuple[datetime, str]] = []
    for image in pulled:
        there = present.get(image.image_id)
        if there is None or image.image_id in used or image.used_at > latest:
            continue
        ours = {repository(reference) for reference in image.references}
        if ours & stay or not _only_ours(there, image, ours):
            continue
        found.append((image.used_at, image.image_id))
    return [present[image_id] for _, image_id in sorted(found)]


def _only_ours(there: EngineImage, image: PulledImage, repositories: Collection[str]) -> bool:
    """Whether nobody else gave the image a name: another's tag is another's wish to keep it."""
    return set(there.tags) <= image.references and all(
        repository(digest) in repositories for digest in there.digests
    )
