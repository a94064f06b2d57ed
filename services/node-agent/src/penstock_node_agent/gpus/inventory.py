"""What GPUs a node has, and what they are called.

A product id is `<model>-<vram>gb` in lower case, e.g. `rtx-4090-24gb`: the model as its maker
names it, without vendor, brand line and bus, and the memory size it is sold with. NVML reports
usable memory, which lies up to a twelfth below that (ECC and driver reserves), hence the table.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from penstock_common.messages import Gpu, GpuReading

_GIB: Final = 1024**3
#: Memory sizes that GPUs are sold with, in GB (makers mean GiB).
_SOLD_GB: Final = (
    2, 3, 4, 6, 8, 10, 11, 12, 16, 20, 22, 24, 32, 40, 48, 64, 80, 94, 96,
    128, 141, 144, 180, 192, 256, 288,
)  # fmt: skip
#: Usable memory is at least this share of the size on the box (T4: 15 of 16 GB).
_USABLE_RATIO: Final = 0.92
_DROPPED_WORDS: Final = frozenset({"nvidia", "geforce", "tesla", "quadro", "generation", "pcie"})
_DROPPED_FORMS: Final = re.compile(r"\d+gb|hbm\d\w*|sxm\d*", re.ASCII)
_STATIC_ITEM: Final = re.compile(r"(?:(\d{1,3})\s*x\s*)?([a-z0-9][a-z0-9-]*-(\d{1,4})gb)", re.ASCII)
#: Marks the ids of an operator's list; no GPU of a driver is called so.
STATIC_PREFIX: Final = "static-"


@dataclass(frozen=True, slots=True)
class GpuInventory:
    """The GPUs of a node at one instant."""

    gpus: tuple[Gpu, ...] = ()
    #: UUID → what it measures; also of GPUs that are split into MIG instances
    readings: Mapping[str, GpuReading] = field(default_factory=lambda: MappingProxyType({}))
    #: e.g. "570.86.15"; None = no driver
    driver_version: str | None = None
    #: highest CUDA version that the driver supports, e.g. "12.8"; None = no driver
    cuda_version: str | None = None
    #: true = an operator's list
    static: bool = False


def product_id(name: str, vram_bytes: int) -> str:
    """Product id of a GPU.

    Args:
        name: as NVML gives it, e.g. "NVIDIA GeForce RTX 4090".
        vram_bytes: memory as NVML gives it.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    kept = [w for w in words if w not in _DROPPED_WORDS and not _DROPPED_FORMS.fullmatch(w)]
    return "-".join([*(kept or ["gpu"]), f"{_sold_gb(vram_bytes)}gb"])


def _sold_gb(vram_bytes: int) -> int:
    gib = vram_bytes / _GIB
    for size in _SOLD_GB:
        if size * _USABLE_RATIO <= gib <= size * 1.005:
            return size
    return max(1, round(gib))


def cuda_version(number: int) -> str:
    """The version in NVML's number: 12080 → "12.8"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def static_inventory(text: str) -> GpuInventory:
    """GPUs of an operator's list, called `static-0`, `static-1` and so on.

    Args:
        text: comma-separated items `[<n> x] <product>`, e.g. "4 x rtx-4090-24gb, h100-80gb".

    Raises:
        ValueError: an item has another form, or there are none.
    """
    gpus: list[Gpu] = []
    for item in text.split(","):
        match = _STATIC_ITEM.fullmatch(item.strip().lower())
        if match is None:
            raise ValueError(
                f"'{item.strip()}' is no list of GPUs; write e.g. '4 x rtx-4090-24gb, 2 x h100-80gb'"
            )
        count, product, gigabytes = match.groups()
        for _ in range(int(count or 1)):
            gpus.append(
                Gpu(
                    uuid=f"{STATIC_PREFIX}{len(gpus)}",
                    product=product,
                    vram_bytes=int(gigabytes) * _GIB,
                )
            )
    if not gpus:
        raise ValueError("the list of GPUs counts none; write 'none' for a node without GPUs")
    return GpuInventory(gpus=tuple(gpus), static=True)


def is_static(uuid: str) -> bool:
    """Whether this id comes from an operator's list, so that no driver knows it."""
    return uuid.startswith(STATIC_PREFIX)


def link_groups(linked: Sequence[tuple[int, int]], count: int) -> list[int]:
    """Group number of each GPU, given which pairs share an NVLink domain or PCIe switch.

    Args:
        linked: pairs of indices below `count`, in any order.
        count: number of GPUs.

    Returns:
        For each GPU the lowest index of its group: equal for GPUs linked directly or by others.
    """
    groups = list(range(count))
    for a, b in linked:
        low, high = sorted((groups[a], groups[b]))
        groups = [low if group == high else group for group in groups]
    return groups
