"""The node's name servers, from resolv.conf(5).

systemd-resolved's stub (127.0.0.53 and .54) answers the node only; where nothing else is listed, its upstream servers
are read from the file that systemd-resolved.service(8) documents for that purpose. Refuses nothing: a line that is no
plain address (a zone, a typing error) is not a name server that a sandbox could use, and is left out.
"""

from ipaddress import ip_address

from cellwall.model.addresses import Address

UPSTREAM_CONF = "/run/systemd/resolve/resolv.conf"

_STUBS = frozenset({ip_address("127.0.0.53"), ip_address("127.0.0.54")})


def read_resolvers(path: str, upstream_path: str = UPSTREAM_CONF) -> tuple[Address, ...]:
    """The name servers in order; empty where the file is missing or lists none."""
    listed = _parse(path)
    if listed and _STUBS.issuperset(listed):
        return _parse(upstream_path)
    return listed


def _parse(path: str) -> tuple[Address, ...]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = stream.read(1 << 16).splitlines()
    except OSError:
        return ()
    found: dict[Address, None] = {}
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver" or "%" in words[1]:
            continue
        try:
            found[ip_address(words[1])] = None
        except ValueError:
            continue
    return tuple(found)
