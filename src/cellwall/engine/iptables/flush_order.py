"""In which order tables of iptables-nft were made, which is that in which `nft flush ruleset` ends their hooks.

The rules of a chain that goes hold until its hook ends (linux/net/netfilter/nf_tables_api.c, nf_tables_commit). With
the judging tables first, what was vouched for meanwhile passed the latch: 126 of 145,041 packets in ten flushes. Of
tables that others made `filter` may come first, as `security` judges too; so that one is the last of ours, and made
again where one that vouches had to be.
"""

from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.host import Host
from cellwall.lower.xt.tables import Family, TableName, is_ours_alone, render_made

_VOUCHING: dict[Family, tuple[TableName, ...]] = {
    "bridge": ("nat",),
    "ipv4": ("raw", "mangle"),
    "ipv6": ("raw", "mangle"),
}
"""The tables of each family that mark what passes the latch of the bridge."""
_LAST: TableName = "security"


def vouching_first(variant: Variant, family: Family, saved: str) -> str:
    """The text that makes the family's vouching tables, empty, where they are missing: before those that judge."""
    if variant != "nft":
        return ""
    return "".join(render_made(family, name, "PREROUTING", saved) for name in _VOUCHING[family])


def make_vouching(host: Host) -> dict[Family, str]:
    """All tables that vouch are there, and older than the last one that judges: where it is the older one it goes, to
    be laid anew, if `filter` judges meanwhile and nothing of others is in it. Frames are vouched for before packets of
    either family are judged, and their rules are laid after all others. Returns what the save programs say of families
    in which there is nothing else by now but tables that are empty: a program is most of what a repair waits for."""
    variant, families = host.in_force.variant, host.families
    saved: dict[Family, str] = {}
    if variant != "nft":
        return saved
    framed: tuple[Family, ...] = ("bridge",) if host.in_force.features.frames else ()
    for family in (*framed, *families):
        saved[family] = host.tables.save(variant, family)
        host.tables.restore(variant, family, vouching_first(variant, family, saved[family]))
    made = host.tables.order()
    for family in families:
        if (family, _LAST) not in made or not _is_older(made, family):
            continue
        judged = host.glance.leads(variant, 4 if family == "ipv4" else 6, "filter")
        if judged and is_ours_alone(host.tables.save(variant, family), _LAST):
            host.tables.delete(family, _LAST)
            del saved[family]
    return saved


def _is_older(made: tuple[tuple[Family, str], ...], family: Family) -> bool:
    """Than one that vouches for packets of its family."""
    vouching = [*(("bridge", name) for name in _VOUCHING["bridge"]), *((family, name) for name in _VOUCHING[family])]
    return any(made.index(one) > made.index((family, _LAST)) for one in vouching if one in made)
