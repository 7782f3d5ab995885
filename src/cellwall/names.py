"""Names of links, tables and chains. No I/O, no state."""

from typing import Literal

from cellwall.digests import blake2s
from cellwall.model.endpoint import EndpointKey

TABLE = "cellwall"
"""The name of our table in every nft family."""

SPARE_TABLE = "cellwall-spare"
"""The name of the copy of our tables that stands while the tables themselves are replaced."""

SECURITY_CHAIN = "B9-FORWARD"
"""The chain that all forwarded container traffic traverses (the reference model's name)."""

VOUCHING = "port"
"""The chain of the bridge family through which every frame of a sandbox goes (`compile/pins.py`)."""

MET: dict[tuple[Literal["inet", "bridge"], str], int] = {
    ("inet", "early"): 0,
    ("inet", "tracked"): 0,
    ("inet", "input"): 0,
    ("inet", "output"): 0,
    ("inet", "forward"): 0,
    ("inet", SECURITY_CHAIN): 2,
    ("bridge", "frame"): 0,
    ("bridge", VOUCHING): 1,
}
"""What every packet and every frame meets, which a flush takes away, whatever it is of: base chains, and those to which
this many rules lead. The kernel counts a chain's rules and these together: one with no more uses is empty."""

NODE_SETS = frozenset(f"{name}{version}" for name in ("floor", "noclients", "opened", "services") for version in (4, 6))
"""Sets whose content is the node's and not endpoints': it is part of the rules."""

REAPER_GROUP = 0xB9
"""Link group of host links that wait for their deletion in the background."""

LINK_ALIAS = "cellwall"
"""The ifalias that marks a bridge as ours (linux/if_link.h IFLA_IFALIAS)."""


_LONGEST_FILE_NAME = 200
"""NAME_MAX is 255 bytes; the rest is for whoever needs a suffix."""


def owner_file(container_id: str) -> str:
    """The file name of the lock of a process that attached for its own lifetime. A container id may be 253 characters
    long, which with a suffix is more than a file name may have."""
    return f"{blake2s(container_id.encode(), digest_size=16).hexdigest()}.lock"


def host_link(prefix: str, key: EndpointKey, attempt: int = 0) -> str:
    """The host side's name: the prefix and 48 bits of a hash over the whole key, 15 characters in all.

    Truncated ids collide (five hex characters at about 1,200 containers); 48 bits do at about 20 million. The link
    is created exclusively all the same, and a name that is taken by another key is tried again with `attempt` + 1.
    """
    text = f"{key.container_id}\0{key.ifname}\0{attempt}".encode()
    return prefix + blake2s(text, digest_size=6).hexdigest()


def namespace_file(key: EndpointKey) -> str:
    """The file name of a namespace that cellwall makes: the container's id where that is enough and short enough.
    An `@`, which no id and no interface name has, keeps every other name apart from all ids."""
    name = key.container_id if key.ifname == "eth0" else f"{key.container_id}@{key.ifname}"
    if len(name) <= _LONGEST_FILE_NAME:
        return name
    return "@" + blake2s(name.encode(), digest_size=16).hexdigest()
