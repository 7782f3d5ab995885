"""In which order tables of iptables-nft were made, which is that in which `nft flush ruleset` ends their hooks.

The rules of a chain that goes hold until its hook ends (linux/net/netfilter/nf_tables_api.c, nf_tables_commit). With
the judging tables first, what was vouched for meanwhile passed the latch: 126 of 145,041 packets in ten flushes. Of
tables that others made `filter` may come first, as `security` judges too; so that one is the last of ours, and made
again where one that vouches had to be.
"""

from collections.abc import Collection, Iterable

from cellwall.engine.iptables.host import Host
from cellwall.lower.xt.tables import Family, TableName, is_ours_alone

_VOUCHING: dict[Family, tuple[TableName, ...]] = {
    "bridge": ("nat",),
    "ipv4": ("raw", "mangle"),
    "ipv6": ("raw", "mangle"),
}
"""The tables of each family that mark what passes the latch of the bridge."""
LAST: TableName = "security"


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
    if host.in_force.variant != "nft":
        return
    there = host.tables.order()
    vouching = [(family, name) for family in _laid(host) for name in _VOUCHING[family]]
    host.tables.make([one for one in vouching if one not in there])
    make_way(host)


def make_way(host: Host) -> tuple[Family, ...]:
    """Without the last table that judges where it is the older one, and can go; returns these families, to be laid.
    Asked again behind a laying: the programs make what they miss, as after another flush amid it, and where `filter`
    judged nothing before it does now."""
    families = in_our_hands(host, out_of_order(host))
    for family in families:
        host.tables.delete(family, LAST)
    return families


def out_of_order(host: Host) -> tuple[Family, ...]:
    """The families of which the last table that judges is older than one that vouches."""
    if host.in_force.variant != "nft":
        return ()
    made = host.tables.order()
    return tuple(family for family in host.families if (family, LAST) in made and _is_older(made, family))


def in_our_hands(host: Host, families: Iterable[Family]) -> tuple[Family, ...]:
    """Those of which the last table that judges can be made anew: `filter` judges meanwhile, and nothing of others is
    in it."""
    variant = host.in_force.variant
    judged = [one for one in families if host.glance.leads(variant, 4 if one == "ipv4" else 6, "filter")]
    return tuple(family for family in judged if is_ours_alone(host.tables.save(variant, family), LAST))


def _laid(host: Host) -> tuple[Family, ...]:
    return (*(("bridge",) if host.in_force.features.frames else ()), *host.families)


def _is_older(made: tuple[tuple[Family, str], ...], family: Family) -> bool:
    """Than one that vouches for packets of its family."""
    vouching = [*(("bridge", name) for name in _VOUCHING["bridge"]), *((family, name) for name in _VOUCHING[family])]
    return any(made.index(one) > made.index((family, LAST)) for one in vouching if one in made)
