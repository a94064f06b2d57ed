"""Which addresses a webhook may reach [pure].

A webhook makes the api send requests to where somebody says, from where the api stands: inside.
So, unless the operator allows more, only addresses of the public internet are asked. What counts is
the address that a request goes to, not the name that led there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: IPv6 addresses of these hold an IPv4 address in their last 32 bits (RFC 6052: NAT64).
_NAT64: Final = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What the operator allows beside public addresses, and what not even so."""

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def permits(self, text: str) -> bool:
        """Whether a request may go to this address; what is no address, it may not."""
        try:
            address = _inner(ip_address(text.partition("%")[0].strip("[]")))
        except ValueError:
            return False
        if _within(address, self.denied):
            return False
        return _within(address, self.allowed) or (address.is_global and not address.is_multicast)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, comma-separated.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def is_address(host: str) -> bool:
    """Whether a URL's host is an address and no name."""
    try:
        ip_address(host.partition("%")[0].strip("[]"))
    except ValueError:
        return False
    return True


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == n.version and address in n for n in networks)
