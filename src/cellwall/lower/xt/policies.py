"""Policies of an endpoint as entries of ipsets.

Entries are added in this order, before the endpoint's version: first what a list allows, then what denies.
"""

from collections.abc import Iterator

from cellwall.compile.policy_forms import PORT_BITS, Listing, limits, policy_listings, states
from cellwall.lower.xt.endpoints import OwnedEntry
from cellwall.lower.xt.sets import Entry, policy_set, set_name
from cellwall.model.policy import Tiers

_BITS = {4: 32, 6: 128}


def policy_entries(version: int, own: int, tiers: Tiers) -> Iterator[OwnedEntry]:
    """The entries of the policies of the endpoint whose address of this family is `own`."""
    for tier, policy in tiers.named():
        if not limits(policy):
            continue
        listings = (one for one in policy_listings(tier, policy) if one.form.family == version)
        for listing in sorted(listings, key=lambda one: one.form.list):
            if listing.form.list != "clients":
                name = policy_set(tier, listing.form.list, version)
                yield from (OwnedEntry(name, entry) for entry in _entries(own, listing, _BITS[version]))
        yield from (
            OwnedEntry(policy_set(tier, what, version), Entry(own)) for what in states(policy) if what != "guards"
        )
    if tiers.lists_mail(version):
        yield OwnedEntry(set_name("mail", version), Entry(own))


def _entries(own: int, listing: Listing, bits: int) -> Iterator[Entry]:
    """One for each port; the network of everything, which no set takes, is its two halves."""
    length = listing.form.prefixlen
    halves = [listing.network] if length else [0, 1 << bits - 1]
    for network in halves:
        for port in range(listing.port, listing.port + (1 << PORT_BITS - listing.form.port_bits)):
            yield Entry(own, -1, listing.protocol, port, port, network, length or 1)
