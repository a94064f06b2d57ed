"""What this agent has pulled and when each image was last used, in a file of its data folder.

The engine cannot say who pulled an image, and what is not in this file is never removed: a lost or
broken file costs disk space and nothing else.
"""

import json
import logging
import threading
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, TypeAdapter, ValidationError

from penstock_node_agent.runtimes.docker.image_choice import PulledImage

logger = logging.getLogger(__name__)

#: The file in the data folder.
IMAGE_LEDGER: Final = "images.json"
#: A use is written down when the one before it is so long ago.
_USE_STEP: Final = timedelta(seconds=30)


class _Entry(BaseModel):
    references: frozenset[str]
    used_at: AwareDatetime


_FORM: Final = TypeAdapter(dict[str, _Entry])


class ImageLedger:
    """Reads and writes the file; several threads may use it."""

    def __init__(self, path: Path) -> None:
        """What is in the file; nothing, when there is none or it cannot be read."""
        self._path = path
        self._lock = threading.Lock()
        self._images: dict[str, PulledImage] = {}
        try:
            entries = _FORM.validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            logger.error(
                "record of pulled images cannot be read; what it named will not be cleaned up",
                extra={"action": "image_ledger_unreadable", "path": str(path), "error": str(error)},
            )
            return
        self._images = {
            image_id: PulledImage(image_id, entry.references, entry.used_at)
            for image_id, entry in entries.items()
        }

    def images(self) -> list[PulledImage]:
        """Everything that it holds."""
        with self._lock:
            return list(self._images.values())

    def note_pulled(self, image_id: str, reference: str, *, was_there: bool, at: datetime) -> None:
        """This agent had the image pulled by this reference.

        Args:
            image_id: of the engine.
            reference: by which it was pulled, as the engine lists it.
            was_there: the engine had the image before; one that the ledger does not know then is
                somebody else's, and stays so.
            at: the instant.
        """
        with self._lock:
            known = self._images.get(image_id)
            if known is None and was_there:
                return
            references = (known.references if known else frozenset()) | {reference}
            self._images[image_id] = PulledImage(image_id, references, at)
            self._write()

    def note_used(self, image_ids: Collection[str], at: datetime) -> None:
        """Containers of these images are there now."""
        with self._lock:
            old = [
                image
                for image_id in image_ids
                if (image := self._images.get(image_id)) and at - image.used_at >= _USE_STEP
            ]
            for image in old:
                self._images[image.image_id] = PulledImage(image.image_id, image.references, at)
            if old:
                self._write()

    def keep_only(self, image_ids: Collection[str]) -> None:
        """The engine has these and no others: forget the rest."""
        with self._lock:
            gone = self._images.keys() - set(image_ids)
            for image_id in gone:
                del self._images[image_id]
            if gone:
                self._write()

    def _write(self) -> None:
        entries = {
            image.image_id: {
                "references": sorted(image.references),
                "used_at": image.used_at.isoformat(),
            }
            for image in self._images.values()
        }
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.write_text(json.dumps(entries, indent=1))
            new.replace(self._path)
        except OSError as error:
            # The disk may be full just now, which is when images must go: memory goes on.
            logger.warning(
                "record of pulled images not written",
                extra={"action": "image_ledger_unwritten", "error": str(error)},
            )
