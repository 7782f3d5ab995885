"""Networks that routers announce to the node: few that hold all, however many there are.

Anybody on the LAN can announce thousands in a second, and each is a neighbour's network that sandboxes must not reach.
So beyond a number they are taken together: what is denied then is more than was announced, and never less.
"""

from collections.abc import Collection

MOST = 64
"""How many are told apart on one interface; more than any node has that is not being flooded."""

_COARSER = (48, 32, 16, 3)
"""The lengths that more of them are cut to: a site's, a provider's, a registry's, and what leaves eight at most."""

Network = tuple[bytes, int]
"""(the 16 bytes of the address, prefix length)."""


def cover(announced: Collection[Network]) -> tuple[list[Network], bool]:
    """At most MOST networks in which all of these lie, and whether they are coarser than what was announced."""
    blocks = set(announced)
    coarser = len(blocks) > MOST
    for length in _COARSER:
        if len(blocks) <= MOST:
            break
        blocks = {_cut(block, length) for block in blocks}
    return sorted(blocks), coarser


def _cut(block: Network, length: int) -> Network:
    raw, own = block
    if own <= length:
        return block
    value = int.from_bytes(raw, "big") >> (128 - length) << (128 - length)
    return value.to_bytes(16, "big"), length
