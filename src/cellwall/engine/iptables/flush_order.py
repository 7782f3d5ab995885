"""In which order tables of iptables-nft were made, which is that in which `nft flush ruleset` ends their hooks.

The rules of a chain that goes hold until its hook ends (linux/net/netfilter/nf_tables_api.c, nf_tables_commit). With
the judging tables first, what was vouched for meanwhile passed the latch: 126 of 145,041 packets in ten flushes. Of
tables that others made `filter` may come first, as `security` judges too; so that one is the last of ours, and made
again where one that vouches had to be.
"""

from collections.abc import Collection

from cellwall.engine.iptables.host import Host
from cellwall.lower.xt.tables import Family, TableName, is_ours_alone

_VOUCHING: dict[Family, tuple[TableName, ...]] = {
    "bridge": ("nat",),
    "ipv4": ("raw", "mangle"),
    "ipv6": ("raw", "mangle"),
}
"""The tables of each family that mark what passes the latch of the bridge."""
_LAST: TableName = "security"


def bare_families(host: Host) -> Collection[Family]:
    """The families in which there is no table, so that no save program has anything to say of them: a program is most
    of what a repair waits for. Of the legacy variant none is named."""
    if host.in_force.variant != "nft":
        return ()
    return {*_laid(host)} - {family for family, _ in host.tables.order()}


def make_vouching(host: Host) -> None:
    """All tables that vouch are there, and older than the last one that judges: where it is the older one it goes, to
    be laid anew, if `filter` judges meanwhile and nothing of others is in it. Frames are vouched for before packets of
    either family are judged, and their rules are laid after all others."""
    variant = host.in_force.variant
    if variant != "nft":
        return
    there = host.tables.order()
    vouching = [(family, name) for family in _laid(host) for name in _VOUCHING[family]]
    host.tables.make([one for one in vouching if one not in there])
    made = host.tables.order()
    for family in host.families:
        if (family, _LAST) not in made or not _is_older(made, family):
            continue
        judged = host.glance.leads(variant, 4 if family == "ipv4" else 6, "filter")
        if judged and is_ours_alone(host.tables.save(variant, family), _LAST):
            host.tables.delete(family, _LAST)


def _laid(host: Host) -> tuple[Family, ...]:
    return (*(("bridge",) if host.in_force.features.frames else ()), *host.families)


def _is_older(made: tuple[tuple[Family, str], ...], family: Family) -> bool:
    """Than one that vouches for packets of its family."""
    vouching = [*(("bridge", name) for name in _VOUCHING["bridge"]), *((family, name) for name in _VOUCHING[family])]
    return any(made.index(one) > made.index((family, _LAST)) for one in vouching if one in made)
