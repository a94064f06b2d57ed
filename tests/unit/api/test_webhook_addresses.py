"""Which addresses webhooks may be sent to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_api.settings import ApiSettings
from penstock_api.webhooks.addresses import AddressPolicy, is_address, parse_networks

PUBLIC = AddressPolicy()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("2002:7f00:1::", "2002:a00:1::1", "localhost", "", "1.2.3", "2130706433"),
    ],
)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    assert not PUBLIC.permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_public_is(address: str) -> None:
    assert PUBLIC.permits(address)


def test_the_operator_allows_and_denies() -> None:
    policy = AddressPolicy(
        parse_networks("10.1.0.0/16, fd00::/8,"), parse_networks("10.1.2.0/24,8.8.8.0/24")
    )
    assert policy.permits("10.1.0.1")
    assert policy.permits("fd00::1")
    assert policy.permits("::ffff:10.1.0.1"), "what counts is the address within"
    assert not policy.permits("10.2.0.1")
    assert not policy.permits("10.1.2.3")
    assert not policy.permits("8.8.8.8")


@given(st.ip_addresses(v=4))
def test_no_way_of_writing_it_lets_a_denied_address_through(address: object) -> None:
    text = str(address)
    number = int.from_bytes(bytes(map(int, text.split("."))), "big")
    high, low = f"{number >> 16:x}", f"{number & 0xFFFF:x}"
    for other in (f"::ffff:{text}", f"64:ff9b::{high}:{low}", f"2002:{high}:{low}::1"):
        assert PUBLIC.permits(other) == PUBLIC.permits(text), other
        assert is_address(other)


def test_settings_read_networks() -> None:
    settings = ApiSettings(webhook_allowed_networks="10.0.0.0/8,::1/128")
    assert settings.webhook_addresses.permits("10.1.2.3")
    assert settings.webhook_addresses.permits("::1")
    with pytest.raises(ValueError, match="has host bits set"):
        ApiSettings(webhook_denied_networks="10.0.0.1/8")
