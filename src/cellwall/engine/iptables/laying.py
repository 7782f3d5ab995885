"""The node's wall in iptables: laid at no moment less than before.

Sets before rules, and full before the first rule looks anything up in them; then each table of each family as one
commit, which fills its chains before it puts the jumps to them. The tables judge on their own, so between two of these
commits a packet meets old rules in one and new ones in another, and whole ones in each. Those of frames come last:
where nothing stands, as after a flush, it is they that let anything past the latch of the bridge.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from hashlib import sha256

import msgspec

from cellwall.compile.assemble import compile_wall
from cellwall.engine.backend import Laid, Wanted
from cellwall.engine.iptables.at_once import at_once
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.flush_order import bare_families, in_our_hands, make_vouching, make_way
from cellwall.engine.iptables.form import choose_form
from cellwall.engine.iptables.host import Form, Host, recorded_form
from cellwall.engine.iptables.live import digest, is_whole, observe, repair, shape
from cellwall.engine.iptables.remnants import is_entire, out_of_reach
from cellwall.errors import CellwallError, Incomplete, KernelError, Unsupported
from cellwall.lower.xt.endpoints import Holdings, holdings
from cellwall.lower.xt.sets import definition, render_sets
from cellwall.lower.xt.tables import (
    Family,
    XtTable,
    foreign_jumps,
    render_removal,
    render_tables,
)
from cellwall.lower.xt.wall import XtWall, lower_wall, with_holdings
from cellwall.model.endpoint import Endpoint

_log = logging.getLogger("cellwall")
_FAMILIES: tuple[Family, ...] = ("bridge", "ipv4", "ipv6")


class XtLaying(msgspec.Struct, frozen=True):
    """`engine.backend.Laying`. A refusal may leave some tables new and some old: it never `keeps`. `elsewhere`: the
    other variant may have something of the wall."""

    host: Host
    variant: Variant
    wall: XtWall
    held: Holdings
    rules: str
    sets: str
    details: str
    judges_anew: bool
    elsewhere: bool
    keeps: bool = False
    keeps_sets: bool = False
    fills: bool = False

    def lay(self) -> str:
        """See `Laying.lay`."""
        _make_room(self.host, self.wall)
        bare = bare_families(self.host)
        make_vouching(self.host)
        self.host.sets.restore(render_sets(self.wall.sets))
        self.host.sets.keep_timeouts(self.wall.timeouts)
        repair(self.host, msgspec.structs.replace(self.held, rules=()), rules=False)
        self._lay_tables(_FAMILIES, bare)
        if to_lay_anew := make_way(self.host):
            self._lay_tables(to_lay_anew)
        if self.elsewhere:
            for other in self.host.tables.installed():
                if other != self.variant:  # ebtables is the same for both
                    _remove_tables(self.host, other, ("ipv4", "ipv6"))
        _drop_other_sets(self.host, self.wall)
        live = observe(self.host)
        right = is_whole(live, self.wall) and not in_our_hands(self.host, live.out_of_order)
        return digest(live) if right else ""

    def _lay_tables(self, families: Collection[Family], bare: Collection[Family] = ()) -> None:
        """`bare`: families in which nothing stands. Programs of the legacy variant wait for each other's lock, up to a
        second longer than it is held, and run one after the other."""
        wall, tables = with_holdings(self.wall, self.held), self.host.tables
        own: dict[Family, tuple[XtTable, ...]] = {"ipv4": wall.tables4, "ipv6": wall.tables6, "bridge": wall.frames}
        laid = [family for family in own if own[family] and family in families]
        asked = [family for family in laid if family not in bare]
        said = at_once([partial(tables.save, self.variant, family) for family in asked])
        saved = dict(zip(asked, said, strict=True))
        loads = {
            family: partial(tables.restore, self.variant, family, render_tables(own[family], saved.get(family, "")))
            for family in laid
        }
        frames = loads.pop("bridge", None)
        if self.variant == "nft":
            at_once([*loads.values()])
        else:
            for load in loads.values():
                load()
        if frames is not None:
            frames()


def plan(host: Host, wanted: Wanted, attached: Sequence[Endpoint], before: Laid | None) -> XtLaying | None:
    """None where the live wall is what was recorded and what is wanted, in the same form."""
    form, former = choose_form(host.tables, wanted.settings, before), recorded_form(before)
    host.take(wanted.settings.network.subnet4, form, wanted.usage.policies)
    wall = lowered(wanted, form)
    # the glance spares three programs where the wall, or a part of it, is gone
    intact = before is not None and former == form and is_entire(host) and before.shape == shape(host) != ""
    rules, sets = digests(wall)
    if before is not None and intact and before.rules == rules:
        return None
    usual = before is not None and intact
    if before is not None and intact:
        usual = before.rules == digests(lowered(msgspec.structs.replace(wanted, usage=before.usage), form))[0]
    return XtLaying(
        host=host,
        variant=form.variant,
        wall=wall,
        held=holdings(attached, host.pins),
        rules=rules,
        sets=sets,
        details=msgspec.json.encode(form).decode(),
        judges_anew=before is not None and not usual,
        # Without rules on record somebody died at laying them, in whatever variant.
        elsewhere=before is None or not before.rules or former is None or former.variant != form.variant,
    )


def remove(host: Host) -> None:
    """Chains, jumps, sets and timeouts of ours, in whatever variant there are programs of, whether or not a new wall
    could be laid there; what is not ours stays as it is, and so does a set that a rule of others refers to, which is
    told. What failed does not keep the rest; it is raised, and so is Unsupported where rules of ours are out of reach.
    Idempotent."""
    failed: dict[Variant, Exception] = {}
    installed = host.tables.installed()
    for variant in installed:
        try:
            _remove_tables(host, variant)
        except CellwallError as error:
            failed[variant] = error
    left = _destroy(host, host.sets.definitions())
    for name in host.sets.drop_timeouts():
        _log.warning("the timeouts %s stay: another program's rule refers to them", name)
    # A variant that the kernel has not got cannot be read either, and where no set is left nothing of ours is there.
    failures = [error for variant, error in failed.items() if left or not host.tables.lacking(variant)]
    failures += map(Unsupported, out_of_reach(host, installed, sets=left))
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise Incomplete("not all rules could be taken out", failures)


def digests(wall: XtWall) -> tuple[str, str]:
    """(rules and the node's own sets, definitions of all sets): equal digests, equal walls."""
    static = [one for one in wall.sets if one.static]
    rules = (wall.tables4, wall.tables6, wall.frames, static)
    return _digest(rules), _digest([(one.name, definition(one)) for one in wall.sets])


def _digest(value: object) -> str:
    return sha256(repr(value).encode()).hexdigest()[:32]


def lowered(wanted: Wanted, form: Form) -> XtWall:
    """The wall in iptables' words, without endpoints."""
    # Whether rules can tell of packets is a matter of iptables here, whatever nftables could.
    has = msgspec.structs.replace(wanted.facts.features, packet_log=form.features.packet_log)
    facts = msgspec.structs.replace(wanted.facts, features=has)
    return lower_wall(compile_wall(wanted.settings, facts, wanted.usage, uplink=wanted.uplink), form.features)


def _make_room(host: Host, wall: XtWall) -> None:
    """A set that stands with another definition, another program's, cannot be changed while rules refer to it, and
    everything goes first. What holds meanwhile is outside netfilter: the latch of the bridge lets nothing through that
    no rule vouched for."""
    live = host.sets.definitions()
    if any(live.get(one.name, definition(one)) != definition(one) for one in wall.sets):
        remove(host)


def _drop_other_sets(host: Host, wall: XtWall) -> None:
    wanted = {one.name for one in wall.sets}
    _destroy(host, [name for name in host.sets.definitions() if name not in wanted])


def _destroy(host: Host, names: Iterable[str]) -> tuple[str, ...]:
    left = host.sets.destroy(sorted(names))
    for name in left:
        _log.warning("the set %s stays: another program's rule refers to it", name)
    return left


def _remove_tables(host: Host, variant: Variant, families: tuple[Family, ...] = _FAMILIES) -> None:
    for family in families:
        try:
            saved = host.tables.save(variant, family)
        except (KernelError, Unsupported):
            if family == "ipv6" and not host.tables.features(variant).ipv6:
                continue  # nothing can be there
            raise
        for line in foreign_jumps(saved):
            _log.warning("another program's rule goes with the chain that it leads to: %s %s", family, line)
        host.tables.restore(variant, family, render_removal(saved, family))
