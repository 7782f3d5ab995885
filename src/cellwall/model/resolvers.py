"""Whether a sandbox can ask a name server: the one answer for the configuration, a conflist and the node's own."""

from collections.abc import Iterable

from cellwall.model.addresses import Address, Prefix
from cellwall.model.floor import floor_denies
from cellwall.model.settings import Settings

_NAMES = 53


def askable(settings: Settings, address: Address, node: Iterable[Prefix] = ()) -> bool:
    """A sandbox reaches port 53 of `address` over UDP and TCP: the floor does not deny it, or the operator opened both.

    One without the other would lose every answer that is too long for a datagram. `node` are the node's own networks,
    for whoever knows the node: what is valid anywhere cannot depend on them.
    """
    opened = {row.protocol for row in settings.openings if row.address == address and row.port == _NAMES}
    return opened == {"tcp", "udp"} or not floor_denies(address, (*settings.denied, *node))
