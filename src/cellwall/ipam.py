"""Addresses of a network: a pool of IPv4 offsets, one lease an endpoint. Pure; a lease is O(1) but for the taken
addresses that the cursor passes over, each once a round, and asks after no other.

The IPv6 address follows from the IPv4 one, so there is one pool, and both addresses of the gateway take a number out
of it. Who has what is the journal's to know, so a release is a row of it that moves: from the endpoints to those that
drain, and from there away when the link is gone and the flows are purged. (A quarantine by clock exhausts a /20 under
churn.) Addresses are taken in order, round and round from the cursor on, so each rests as long as it can, whichever
process hands it out.
"""

from ipaddress import IPv4Address
from typing import Protocol

from cellwall.errors import Conflict, Exhausted, InvalidSpec
from cellwall.model.addresses import Address
from cellwall.model.network import Network


class Taken(Protocol):
    """Addresses, as numbers."""

    def __contains__(self, address: object, /) -> bool: ...
    def __len__(self) -> int: ...


class Pool:
    """The addresses of one network, of which `leased` and `draining` are taken, as they are now; `cursor` is where an
    earlier pool of it stood. `held`: how many these two are, for who has counted them."""

    def __init__(
        self,
        network: Network,
        leased: Taken = frozenset(),
        draining: Taken = frozenset(),
        cursor: int = 1,
        *,
        held: tuple[int, int] | None = None,
    ) -> None:
        self._network = network
        self._first = int(network.subnet4.network_address)
        self._size = network.subnet4.num_addresses
        gateways = (int(network.gateway4) - self._first, int(network.gateway6) - int(network.subnet6.network_address))
        self._gateways = {offset for offset in gateways if 0 < offset < self._size - 1}
        self._leased, self._draining = leased, draining
        self._were_leased, self._were_draining = held or (len(leased), len(draining))
        self._handed: set[int] = set()
        self._cursor = cursor

    @property
    def cursor(self) -> int:
        """The offset that is tried next; behind the last one it goes on with the first."""
        return self._cursor

    @property
    def capacity(self) -> int:
        """How many endpoints the pool can hold: all but network address, broadcast address and gateways' numbers."""
        return self._size - 2 - len(self._gateways)

    @property
    def leased(self) -> int:
        """How many addresses are in use."""
        return self._were_leased + len(self._handed)

    @property
    def draining(self) -> int:
        """How many addresses were released and may not be used yet."""
        return self._were_draining

    def lease(self) -> IPv4Address:
        """A free address. Raises Exhausted."""
        if self.leased + self.draining >= self.capacity:  # else one is free, and the search below ends
            waiting = f", {self.draining} more are draining" if self.draining else ""
            raise Exhausted(
                f"network.subnet4: {self._network.subnet4}: all {self.leased} addresses are leased{waiting}"
            )
        while True:
            offset = self._cursor if 0 < self._cursor < self._size - 1 else 1
            self._cursor = offset + 1
            if self._free(offset):
                return self._take(offset)

    def lease_address(self, address: IPv4Address, asked: Address | None = None) -> IPv4Address:
        """Exactly this address. Raises InvalidSpec where it can never be leased, Conflict where it is taken, with the
        address that was `asked` for: that of the other family which belongs to it, or itself."""
        named = address if asked is None else asked
        if address not in self._network.subnet4:
            raise InvalidSpec("ip", named, f"is not inside {self._network.subnet4}")
        offset = int(address) - self._first
        if offset == 0 or offset == self._size - 1:
            raise InvalidSpec("ip", named, f"is the network or broadcast address of {self._network.subnet4}")
        if offset in self._gateways:
            raise InvalidSpec("ip", named, "is the gateway's address, or belongs to that of the other family")
        if int(address) in self._handed or int(address) in self._leased:
            raise Conflict(f"ip: {named}: is leased")
        if int(address) in self._draining:
            raise Conflict(f"ip: {named}: was just released and is draining")
        return self._take(offset)

    def _free(self, offset: int) -> bool:
        number = self._first + offset
        taken = number in self._handed or number in self._leased or number in self._draining
        return offset not in self._gateways and not taken

    def _take(self, offset: int) -> IPv4Address:
        self._handed.add(self._first + offset)
        return IPv4Address(self._first + offset)
