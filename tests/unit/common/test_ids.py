"""Ids: what every one of them looks like."""

import os
import re

import pytest

from penstock_common import entropy, ids

PREFIXES = [
    value
    for name, value in vars(ids).items()
    if name.isupper() and name != "ALPHABET" and isinstance(value, str)
]
DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def test_prefixes_differ() -> None:
    assert len(PREFIXES) == len(set(PREFIXES)) > 5


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_is_a_dns_label_and_one_nats_token(prefix: str) -> None:
    for _ in range(1000):
        made = entropy.random_id(prefix)
        assert DNS_LABEL.fullmatch(made)
        assert len(made) == len(prefix) + 1 + ids.DIGITS
        assert not set(made.removeprefix(f"{prefix}-")) & set("ilou")


def test_every_digit_of_an_id_takes_every_value() -> None:
    made = [entropy.random_id("x").removeprefix("x-") for _ in range(2000)]
    for place in zip(*made, strict=True):
        assert set(place) == set(ids.ALPHABET)


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


def test_the_door_to_randomness() -> None:
    assert len({entropy.random_id(ids.ENDPOINT) for _ in range(10_000)}) == 10_000
    assert len({entropy.random_hex(16) for _ in range(10_000)}) == 10_000
    assert all(re.fullmatch("[0-9a-f]{48}", entropy.random_hex(48)) for _ in range(1000))
    assert len({entropy.random_secret() for _ in range(1000)}) == 1000
    ratios = [entropy.random_ratio() for _ in range(1000)]
    assert all(0 <= ratio < 1 for ratio in ratios)
    assert min(ratios) < 0.2 < 0.8 < max(ratios)
