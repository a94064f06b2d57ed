import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_node_agent.gpus.inventory import (
    cuda_version,
    is_static,
    link_groups,
    product_id,
    static_inventory,
)

MIB = 1024**2


@pytest.mark.parametrize(
    ("name", "mib", "product"),
    [
        ("NVIDIA GeForce RTX 4090", 24_564, "rtx-4090-24gb"),
        ("NVIDIA GeForce RTX 3090 Ti", 24_564, "rtx-3090-ti-24gb"),
        ("NVIDIA GeForce RTX 2080 Ti", 11_264, "rtx-2080-ti-11gb"),
        ("Tesla T4", 15_360, "t4-16gb"),
        ("Tesla V100-SXM2-16GB", 16_160, "v100-16gb"),
        ("NVIDIA A10G", 23_028, "a10g-24gb"),
        ("NVIDIA L4", 23_034, "l4-24gb"),
        ("NVIDIA L40S", 46_068, "l40s-48gb"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", 81_920, "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100-80gb"),
        ("NVIDIA H100 NVL", 95_830, "h100-nvl-94gb"),
        ("NVIDIA H200", 143_771, "h200-141gb"),
        ("NVIDIA B200", 183_359, "b200-180gb"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "rtx-6000-ada-48gb"),
        ("NVIDIA GeForce GT 1030", 2_048, "gt-1030-2gb"),
    ],
)
def test_products_are_called_as_they_are_sold(name: str, mib: int, product: str) -> None:
    assert product_id(name, mib * MIB) == product


@given(st.text(max_size=40), st.integers(0, 2**40))
def test_a_product_id_always_has_its_form(name: str, vram_bytes: int) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-\d+gb", product_id(name, vram_bytes))


@given(st.integers(1, 400))
def test_an_exact_size_is_never_rounded_far(gib: int) -> None:
    sold = int(product_id("x", gib * 1024**3).split("-")[-1].removesuffix("gb"))
    assert gib * 0.99 <= sold <= gib / 0.92


def test_a_static_list_counts_its_gpus() -> None:
    inventory = static_inventory("2 x rtx-4090-24gb, h100-80gb,1xT4-16gb")
    assert [(g.uuid, g.product) for g in inventory.gpus] == [
        ("static-0", "rtx-4090-24gb"),
        ("static-1", "rtx-4090-24gb"),
        ("static-2", "h100-80gb"),
        ("static-3", "t4-16gb"),
    ]
    assert inventory.static
    assert inventory.gpus[2].vram_bytes == 80 * 1024**3
    assert all(is_static(gpu.uuid) for gpu in inventory.gpus)


@pytest.mark.parametrize("text", ["", "4 x", "rtx 4090", "x rtx-4090-24gb", "0 x t4-16gb", "a,,b"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GPUs"):
        static_inventory(text)


def test_cuda_versions_are_read() -> None:
    assert [cuda_version(n) for n in (12080, 13000, 11040)] == ["12.8", "13.0", "11.4"]


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20),
        )
    )
)
def test_linked_gpus_share_a_group(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, linked = case
    groups = link_groups(linked, count)
    assert all(groups[a] == groups[b] for a, b in linked)
    assert all(groups[group] == group for group in groups)
    if not linked:
        assert groups == list(range(count))
