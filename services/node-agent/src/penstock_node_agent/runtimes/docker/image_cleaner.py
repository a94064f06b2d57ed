"""Removes unused images when the engine's disk gets full (`image_choice.py` says which)."""

import logging
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from docker import APIClient

from penstock_common.clock import Clock, SystemClock
from penstock_common.image_references import repository
from penstock_common.messages import ImageRemoved
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation, is_status
from penstock_node_agent.runtimes.docker.image_choice import (
    DiskSpace,
    EngineImage,
    Marks,
    removable,
)
from penstock_node_agent.runtimes.docker.image_ledger import ImageLedger

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

_PERIOD_TICKS: Final = 10

_Clean: TypeAlias = Callable[[APIClient], list[ImageRemoved]]


def engine_disk(client: APIClient) -> DiskSpace | None:
    """The disk of the engine's data, when it is one of this machine; None = cannot be told."""
    if not client.base_url.startswith("http+docker://"):
        return None  # an engine elsewhere
    root = Path(client.info()["DockerRootDir"])
    try:
        usage = shutil.disk_usage(root)
    except OSError:
        return None  # the agent runs in a container of its own, perhaps
    return DiskSpace(usage.total, usage.free)


@dataclass(frozen=True, slots=True)
class ImageCare:
    """How images are cleaned up."""

    #: where it is written down what was pulled; None = nothing is ever removed
    ledger: ImageLedger | None = None
    marks: Marks = field(default_factory=Marks)
    #: reads the disk that images lie on; blocks
    read_disk: Callable[[APIClient], DiskSpace | None] = engine_disk
    clock: Clock = field(default_factory=SystemClock)


class ImageCleaner:
    """Looks every few ticks, in a thread."""

    def __init__(
        self, node_id: str, care: ImageCare, wanted: Callable[[], Collection[str]]
    ) -> None:
        """`wanted` gives the references that starts and orders need; called in any thread."""
        self._node_id = node_id
        self._care = care
        self._wanted = wanted
        self._cleaning: asyncio.Future[list[ImageRemoved]] | None = None
        self._ticks = 0
        self._told_unknown = False

    def tend(
        self, in_thread: "Callable[[_Clean], asyncio.Future[list[ImageRemoved]]]"
    ) -> list[ImageRemoved]:
        """See what was removed, and look again; a slow engine holds nobody up.

        Args:
            in_thread: begins a look in a thread.
        """
        self._ticks += 1
        removed: list[ImageRemoved] = []
        cleaning = self._cleaning
        if cleaning is not None and cleaning.done():
            self._cleaning = None
            error = cleaning.exception()
            if error is None:
                removed = cleaning.result()
            else:
                logger.warning(
                    "images not looked at",
                    extra={"action": "images_unseen", "error": str(error)},
                )
        if (
            self._cleaning is None
            and self._care.ledger is not None
            and self._ticks % _PERIOD_TICKS == 0
        ):
            self._cleaning = in_thread(self.clean)
        return removed

    def clean(self, client: APIClient) -> list[ImageRemoved]:
        """Note what is in use, and remove images until enough is free. Blocks.

        Raises:
            DockerException, RequestException: the engine did not tell what it has.
        """
        ledger = self._care.ledger
        if ledger is None:
            return []
        present = {image.image_id: image for image in map(_read_image, client.images())}
        ledger.keep_only(present.keys())
        used = {str(item["ImageID"]) for item in client.containers(all=True)}
        now = self._care.clock.utc()
        ledger.note_used(used, now)
        disk = self._read_disk(client)
        if disk is None or not self._care.marks.missing_bytes(disk):
            return []
        missing = self._care.marks.missing_bytes(disk)
        candidates = removable(ledger.images(), present, used=used, wanted=self._wanted(), now=now)
        removed: list[ImageRemoved] = []
        goal = disk.free_bytes + missing
        while disk is not None and disk.free_bytes < goal and candidates:
            image = candidates.pop(0)
            if self._remove(client, image):
                after = self._read_disk(client)
                removed.append(self._tell(image, disk, after))
                disk = after
        if disk is not None and disk.free_bytes < goal and not candidates:
            logger.warning(
                "disk of images stays nearly full: no image is left that may be removed",
                extra={"action": "images_exhausted", "free_bytes": disk.free_bytes},
            )
        return removed

    def _remove(self, client: APIClient, image: EngineImage) -> bool:
        # A start may have begun since the choice was made.
        wanted = {repository(reference) for reference in self._wanted()}
        if any(repository(reference) in wanted for reference in image.references):
            return False
        gone = False
        for reference in image.references or (image.image_id,):
            try:
                # Without force the engine keeps whatever a container was made from.
                client.remove_image(reference, force=False)
                gone = True
            except ENGINE_ERRORS as error:
                if is_status(error, 404):  # a digest goes with its last tag
                    continue
                logger.info(
                    "image not removed",
                    extra={
                        "action": "image_kept",
                        "image": reference,
                        "error": explanation(error),
                    },
                )
                return False
        return gone

    def _tell(self, image: EngineImage, before: DiskSpace, after: DiskSpace | None) -> ImageRemoved:
        told = ImageRemoved(
            node_id=self._node_id,
            image_id=image.image_id,
            references=image.references,
            size_bytes=image.size_bytes,
            disk_total_bytes=before.total_bytes,
            free_before_bytes=before.free_bytes,
            free_after_bytes=after.free_bytes if after else None,
        )
        logger.info(
            "unused image removed",
            extra={
                "action": "image_removed",
                "image": image.references[0] if image.references else image.image_id,
                "size_bytes": image.size_bytes,
                "free_bytes": told.free_after_bytes,
            },
        )
        return told

    def _read_disk(self, client: APIClient) -> DiskSpace | None:
        disk = self._care.read_disk(client)
        if disk is None and not self._told_unknown:
            self._told_unknown = True
            logger.warning(
                "free space of the engine's disk cannot be read here; images are not cleaned up",
                extra={"action": "engine_disk_unknown"},
            )
        return disk


def _read_image(item: dict[str, Any]) -> EngineImage:
    def named(kind: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in item.get(kind) or () if "<none>" not in name))

    return EngineImage(
        item["Id"], named("RepoTags"), named("RepoDigests"), int(item.get("Size") or 0)
    )
