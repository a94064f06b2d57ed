"""RunPod's names of GPUs, which do not say how much memory they have, as products of ours [pure].

Several names may be one product: the bus makes none of its own. A name that does not stand here is
taken as a product, so that the ids of this installation's GPUs work as well.
"""

from collections.abc import Iterable, Mapping
from typing import Final

#: Name → GB of memory that it is sold with, and product.
GPU_TYPES: Final[Mapping[str, tuple[int, str]]] = {
    "NVIDIA GeForce RTX 4090": (24, "rtx-4090-24gb"),
    "NVIDIA GeForce RTX 5090": (32, "rtx-5090-32gb"),
    "NVIDIA GeForce RTX 3090": (24, "rtx-3090-24gb"),
    "NVIDIA H100 80GB HBM3": (80, "h100-80gb"),
    "NVIDIA H100 PCIe": (80, "h100-80gb"),
    "NVIDIA H100 NVL": (94, "h100-nvl-94gb"),
    "NVIDIA H200": (141, "h200-141gb"),
    "NVIDIA B200": (180, "b200-180gb"),
    "NVIDIA A100-SXM4-80GB": (80, "a100-80gb"),
    "NVIDIA A100 80GB PCIe": (80, "a100-80gb"),
    "NVIDIA L4": (24, "l4-24gb"),
    "NVIDIA L40": (48, "l40-48gb"),
    "NVIDIA L40S": (48, "l40s-48gb"),
    "NVIDIA A40": (48, "a40-48gb"),
    "NVIDIA A30": (24, "a30-24gb"),
    "NVIDIA RTX A2000": (12, "rtx-a2000-12gb"),
    "NVIDIA RTX A4000": (16, "rtx-a4000-16gb"),
    "NVIDIA RTX A4500": (20, "rtx-a4500-20gb"),
    "NVIDIA RTX A5000": (24, "rtx-a5000-24gb"),
    "NVIDIA RTX A6000": (48, "rtx-a6000-48gb"),
    "NVIDIA RTX 2000 Ada Generation": (16, "rtx-2000-ada-16gb"),
    "NVIDIA RTX 4000 Ada Generation": (20, "rtx-4000-ada-20gb"),
    "NVIDIA RTX 5000 Ada Generation": (32, "rtx-5000-ada-32gb"),
    "NVIDIA RTX 6000 Ada Generation": (48, "rtx-6000-ada-48gb"),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": (
        96,
        "rtx-pro-6000-blackwell-server-edition-96gb",
    ),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": (
        96,
        "rtx-pro-6000-blackwell-workstation-edition-96gb",
    ),
    "Tesla T4": (16, "t4-16gb"),
    "Tesla V100-PCIE-16GB": (16, "v100-16gb"),
    "Tesla V100-PCIE-32GB": (32, "v100-32gb"),
    "Tesla V100-SXM2-16GB": (16, "v100-16gb"),
    "Tesla V100-SXM2-32GB": (32, "v100-32gb"),
}


def products_of(names: Iterable[str]) -> list[str]:
    """The products that these names are, each once, in their order."""
    return list(dict.fromkeys(GPU_TYPES[name][1] if name in GPU_TYPES else name for name in names))


def names_of(products: Iterable[str]) -> tuple[str, ...]:
    """A name of each product: the first that stands here, else the product itself."""
    names: dict[str, str] = {}
    for name, (_, product) in GPU_TYPES.items():
        names.setdefault(product, name)
    return tuple(names.get(product, product) for product in products)
