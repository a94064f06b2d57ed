"""Ids: what every one of them looks like."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_common import entropy, ids

PREFIXES = [
    value
    for name, value in vars(ids).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
]
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
random_bytes = st.binary(min_size=ids.ENTROPY_BYTES, max_size=ids.ENTROPY_BYTES)


def test_prefixes_differ() -> None:
    assert len(PREFIXES) == len(set(PREFIXES)) > 5


@given(prefix=st.sampled_from(PREFIXES), entropy_bytes=random_bytes)
def test_an_id_is_a_dns_label_and_one_nats_token(prefix: str, entropy_bytes: bytes) -> None:
    made = ids.make_id(prefix, entropy_bytes)
    assert DNS_LABEL.fullmatch(made)
    assert len(made) == len(prefix) + 1 + 13
    assert not set(made.removeprefix(f"{prefix}-")) & set("ilou")


@given(one=random_bytes, two=random_bytes)
def test_different_entropy_makes_different_ids(one: bytes, two: bytes) -> None:
    assert (ids.make_id("ep", one) == ids.make_id("ep", two)) == (one == two)


def test_a_forked_child_makes_ids_of_its_own() -> None:
    entropy.random_id(ids.ENDPOINT)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, "".join(entropy.random_id(ids.ENDPOINT) for _ in range(4)).encode())
        os._exit(0)
    ours = "".join(entropy.random_id(ids.ENDPOINT) for _ in range(4))
    os.waitpid(child, 0)
    assert os.read(reading, 4096).decode() != ours
    os.close(reading)
    os.close(writing)


def test_known_ids() -> None:
    assert ids.make_id("ep", bytes.fromhex("0123456789abcdef")) == "ep-028t5cy4tqkff"
    assert ids.make_id("ep", bytes(8)) == "ep-0000000000000"
    assert ids.make_id("wk", b"\xff" * 8) == "wk-fzzzzzzzzzzzz"


@pytest.mark.parametrize("size", [0, 7, 9])
def test_entropy_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="must be 8 bytes"):
        ids.make_id("ep", bytes(size))


def test_the_door_to_randomness() -> None:
    assert len({entropy.random_id(ids.ENDPOINT) for _ in range(1000)}) == 1000
    assert len({entropy.random_secret() for _ in range(1000)}) == 1000
    ratios = [entropy.random_ratio() for _ in range(1000)]
    assert all(0 <= ratio < 1 for ratio in ratios)
    assert min(ratios) < 0.2 < 0.8 < max(ratios)
