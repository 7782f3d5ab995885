"""Where the daemon's metrics are, over TCP: an address of the node, and a port. Nobody is asked there who they are."""

from ipaddress import IPv6Address

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, parse_address
from cellwall.model.endpoint import parse_port

_OPEN = "open "


class Scraped(msgspec.Struct, frozen=True):
    """`anybodys`: it was said that whoever reaches the address may know."""

    address: Address
    port: int
    anybodys: bool = False

    def __str__(self) -> str:
        host = f"[{self.address}]" if isinstance(self.address, IPv6Address) else str(self.address)
        return f"{_OPEN if self.anybodys else ''}{host}:{self.port}"


def parse_scraped(text: str, field: str) -> Scraped:
    """Parse `127.0.0.1:9469`, `[::1]:9469`; `open 10.0.0.5:9469` for an address that others than the node's own users
    reach. InvalidSpec for such a one without the word."""
    anybodys = text.startswith(_OPEN)
    host, colon, port = text.removeprefix(_OPEN).strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or bracketed != (":" in host):
        raise InvalidSpec(field, text, "must be ADDRESS:PORT, an IPv6 address in brackets")
    address = parse_address(host[1:-1] if bracketed else host, field)
    if not (address.is_loopback or anybodys):
        raise InvalidSpec(field, text, f"is no loopback address, and nobody is asked who they are: {_OPEN}{text}")
    return Scraped(address, parse_port(port, field), anybodys)
