"""How far a pull is, from the engine's lines about its layers [pure]."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: After these all of a layer's bytes have come.
_WHOLE = frozenset({"Verifying Checksum", "Download complete", "Extracting", "Pull complete"})


@dataclass(frozen=True, slots=True)
class PulledBytes:
    """Bytes of the layers that the node lacked, compressed."""

    done: int = 0
    #: of the layers whose download has begun, so it may still grow
    total: int = 0


class PullCount:
    """Adds up the layers of one pull."""

    def __init__(self) -> None:
        self._layers: dict[str, PulledBytes] = {}

    def note(self, line: Mapping[str, Any]) -> PulledBytes:
        """The sum, with this line of the engine's answer taken in."""
        layer, status = str(line.get("id") or ""), line.get("status")
        before = self._layers.get(layer, PulledBytes())
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and "current" in detail:
            # A layer whose size the registry does not say has the size that has come.
            current = int(detail["current"])
            self._layers[layer] = PulledBytes(current, max(int(detail.get("total", 0)), current))
        elif status in _WHOLE:
            self._layers[layer] = PulledBytes(before.total, before.total)
        layers = self._layers.values()
        return PulledBytes(sum(x.done for x in layers), sum(x.total for x in layers))
