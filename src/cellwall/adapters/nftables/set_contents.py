"""What a set holds, whole, and against what it should.

One tenant's policies may be a quarter of a million elements. To make values of all takes several times as long as to
read them, so what should be there is written as the kernel lists it, and only what differs is made values of. Where a
kernel lists elements otherwise, everything differs and is compared as values.
"""

import errno
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from cellwall.adapters.netlink.nlattr import attribute
from cellwall.adapters.netlink.sockets import Netlink
from cellwall.adapters.nftables.element_layout import KEY, VALUE
from cellwall.adapters.nftables.elements import (
    Pair,
    SetKey,
    as_listed,
    dump_request,
    list_elements,
    pack_parts,
    pack_rests,
    read_listed,
)
from cellwall.errors import KernelError
from cellwall.ruleset.types import Element, NamedSet

if TYPE_CHECKING:
    from cellwall.ruleset.elements import Bundle

Difference = tuple[frozenset[Pair], frozenset[Pair]]
"""What is missing, and what is there beyond."""

_NOTHING: frozenset[Pair] = frozenset()
_ATTEMPTS = 8
_MOMENT = 0.005


def read_set(netfilter: Netlink, where: SetKey) -> frozenset[bytes]:
    """Every element as the kernel lists it. KernelError (EINTR) where the set never stands still.

    The kernel goes on with a dump by how many elements it has listed. Where a hash table grew meanwhile, which no
    transaction tells of, they have other places: some come twice, and as many do not come (linux/net/netfilter/
    nft_set_hash.c, nft_rhash_walk; lib/rhashtable.c, rhashtable_walk_next). It never lists fewer than there are."""
    operation = f"read set {' '.join(where)}"
    for attempt in range(_ATTEMPTS):
        listed = [one for reply in netfilter.dump(dump_request(where), operation) for one in list_elements(reply.body)]
        distinct = frozenset(listed)
        if len(distinct) == len(listed):
            return distinct
        time.sleep(_MOMENT * attempt)
    raise KernelError(errno.EINTR, operation, "the set never came out whole")


def difference(
    live: frozenset[bytes],
    elements: Collection[Element],
    bundles: "Collection[Bundle]",
    named: NamedSet,
    *,
    beyond: bool,
) -> Difference:
    """Between what `read_set` found and what should be there; without `beyond`, only of what is missing."""
    if named.interval and len(named.key) == 1:  # which the kernel lists as where ranges begin and end
        wanted, found = frozenset((one.key, one.data) for one in elements), read_listed(live, named)
        return wanted - found, found - wanted if beyond else _NOTHING
    rests: dict[object, list[bytes]] = {}
    listed = {as_listed(one, named) for one in elements}
    listed.update(one for bundle in bundles for one in _bundle_as_listed(bundle, named, rests))
    missing, surplus = listed - live, live - listed if beyond else frozenset()
    if not (missing or surplus):
        return _NOTHING, _NOTHING
    if missing and not beyond:
        surplus = live - listed
    wanted, found = read_listed(missing, named), read_listed(surplus, named)
    return wanted - found, found - wanted if beyond else _NOTHING


def _bundle_as_listed(bundle: "Bundle", named: NamedSet, rests: dict[object, list[bytes]]) -> list[bytes]:
    """`as_listed` of all in a bundle; `rests` as in `pack_rests`."""
    rest = pack_rests(bundle, named, rests)
    after = len(rest[0]) if rest else 0
    whole = attribute(KEY, attribute(VALUE, pack_parts((bundle.first,), named.key[:1]) + bytes(after)))
    head = whole[: len(whole) - after]
    return [head + one for one in rest]
