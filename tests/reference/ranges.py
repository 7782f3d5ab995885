"""The address ranges that the reference model says are closed, written down apart from the product's own table."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""RFC 1918 and RFC 4193."""

LINK_LOCAL = ("169.254.0.0/16", "fe80::/10")
LOOPBACK = ("127.0.0.0/8", "::1/128")
METADATA = ("169.254.169.254", "fd00:ec2::254")
"""AWS, Google and Azure answer at the first; AWS at the second too."""

CRITICAL = (*PRIVATE, *LINK_LOCAL, *LOOPBACK)

NEXT_TO_THEM = (
    "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "169.253.255.255",
    "169.255.0.0", "126.255.255.255", "128.0.0.0", "2000::", "3ffe:ffff::1",
)  # fmt: skip
"""Public addresses right beside a closed range: closing must end where the range ends."""


def ends(prefix: str) -> Iterator[IPv4Address | IPv6Address]:
    """The first, the middle and the last address of a range."""
    network = ip_network(prefix)
    for number in {0, network.num_addresses // 2, network.num_addresses - 1}:
        yield network[number]
