"""Wall → tables of iptables, ip6tables and ebtables, and the ipsets that their rules ask.

| table | priority | what stands there |
|---|---|---|
| bridge `nat` | −300 | frames of sandboxes, before the bridge learns (`frames`) |
| `raw` | −300 | before conntrack: pins, direct routing, loopback |
| `mangle` | −150 | what `raw` has not judged; flows without a valid state; versions of endpoints (`marks`) |
| `nat` | −100, 100 | published ports, masquerade |
| `filter` | 0 | the node's guard and `B9-FORWARD` |
| `security` | 50 | both once more, for whatever `filter` has not accepted: a flush of `filter` opens nothing |

The text is the same for iptables-nft and iptables-legacy. Sets come first; a restore fills the chains of a table
before it puts the jumps to them. `raw` comes after the tables that judge and translate: where nothing stands, as
after a flush, what it vouches for passes the latch of the bridge. `mangle` comes last and goes first, because it
sends to sandboxes only what `filter` has judged; without it `filter` takes no flow for live and has everything walk
the policy.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.xt import marks
from cellwall.lower.xt.chains import DNAT_CHAIN, hook_chain
from cellwall.lower.xt.clauses import (
    chain_of,
    floor_chains,
    flow_stages,
    forward_chains,
    judged_already,
    pinned_still,
    protocol_chain,
    stage_chain,
    stage_rules,
)
from cellwall.lower.xt.ended import (
    ended_chains,
    ended_rules,
    kept_rules,
    said_of_endpoints,
    stray_rules,
    without_ended,
)
from cellwall.lower.xt.endpoints import Holdings, Pins
from cellwall.lower.xt.features import XtFeatures, pin_form
from cellwall.lower.xt.frames import lower_frames
from cellwall.lower.xt.reports import counted_where_judged, report_chains
from cellwall.lower.xt.sets import IpSet, wall_sets
from cellwall.lower.xt.tables import Family, HookName, TableName, XtChain, XtRule, XtTable
from cellwall.lower.xt.timeouts import ALL_TIMEOUTS, FlowTimeouts
from cellwall.lower.xt.view import NODE_MARKS, View
from cellwall.lower.xt.words import not_unicast, side_of


class XtWall(msgspec.Struct, frozen=True):
    """A whole wall without endpoints. `tables4` and `tables6` are loaded by iptables-restore and ip6tables-restore,
    each table as one commit; `frames` by ebtables-restore, and empty where there is no ebtables. `sets` and `timeouts`
    are there before them: rules name them."""

    sets: tuple[IpSet, ...]
    tables4: tuple[XtTable, ...]
    tables6: tuple[XtTable, ...]
    frames: tuple[XtTable, ...]
    timeouts: tuple[FlowTimeouts, ...]
    pins: Pins


def lower_wall(wall: w.Wall, features: XtFeatures) -> XtWall:
    """The wall in iptables' words. Unsupported names a predicate that has none and that `limits` does not list, or the
    node's mark where it cannot be told from what the rules mean by others."""
    if not wall.scene.mark & NODE_MARKS:
        raise Unsupported(f"node.mark: {wall.scene.mark:#x}: is one of iptables' own", backend="iptables")
    if wall.policies.links:  # no set holds an address and a mark wherever there are sets
        raise Unsupported(
            "sandboxes that reach each other have no iptables form", predicate="Linked", backend="iptables"
        )
    wall = counted_where_judged(said_of_endpoints(wall))
    return XtWall(
        sets=wall_sets(wall, features),
        tables4=_tables(wall, features, 4),
        tables6=_tables(wall, features, 6) if features.ipv6 else (),
        frames=lower_frames(wall, tells=features.frame_log) if features.frames else (),
        timeouts=ALL_TIMEOUTS if features.timeouts else (),
        pins={version: pin_form(version, wall.scene.subnet4, features) for version in (4, 6)},
    )


def with_holdings(wall: XtWall, held: Holdings) -> XtWall:
    """The wall with these endpoints' rules in it: a chain that is declared is flushed, also that of published ports.
    Their entries are not in it; sets of endpoints keep what they have."""

    def filled(tables: tuple[XtTable, ...], version: int) -> tuple[XtTable, ...]:
        rules = tuple(owned.rule for owned in held.rules if owned.version == version)
        return tuple(_with_rules(table, rules) if table.name == "nat" else table for table in tables)

    return msgspec.structs.replace(wall, tables4=filled(wall.tables4, 4), tables6=filled(wall.tables6, 6))


def _with_rules(table: XtTable, rules: tuple[XtRule, ...]) -> XtTable:
    chains = tuple(XtChain(one.name, rules) if one.name == DNAT_CHAIN else one for one in table.chains)
    return msgspec.structs.replace(table, chains=chains)


def _tables(wall: w.Wall, features: XtFeatures, version: Literal[4, 6]) -> tuple[XtTable, ...]:
    def view(table: TableName) -> View:
        # `security` judges while `filter` is flushed, and says of it what its rules count: half as many chains.
        reports = wall.reports if features.packet_log and table != "security" else None
        return View(wall.scene, features, version, table, reports=reports)

    judging: list[TableName] = ["filter", "security"] if features.security else ["filter"]
    return (
        *(_judging(wall, view(table)) for table in judging),
        *([_nat(wall, view("nat"))] if version == 4 or features.nat6 else []),
        _raw(wall, view("raw")),
        _mangle(wall, view("mangle")),
    )


def _table(wall: w.Wall, view: View, chains: Iterable[XtChain], *hooks: HookName) -> XtTable:
    chains = tuple(chains)
    family: Family = "ipv4" if view.version == 4 else "ipv6"
    return XtTable(family, view.table, (*chains, *report_chains(wall, view, chains)), hooks)


def _raw(wall: w.Wall, view: View) -> XtTable:
    early = stage_chain(wall.stage("early"), view)
    early = XtChain(early.name, (*early.rules, *stray_rules(wall, view), *marks.published_rules(view)))
    output = XtChain(hook_chain("OUTPUT"), tuple(marks.own_flow_rules(view)))
    chains = (early, *_pins(wall, view))
    if not output.rules:
        return _table(wall, view, chains, "PREROUTING")
    return _table(wall, view, (*chains, output), "PREROUTING", "OUTPUT")


def _pins(wall: w.Wall, view: View) -> tuple[XtChain, ...]:
    """The stage `port` stands for `early-tenant`: what no frame may be ends here, so all that is left was vouched for.
    A family that cannot be pinned ends here as well."""
    if pin_form(view.version, wall.scene.subnet4, view.features) is None:
        return (XtChain(chain_of("early-tenant"), (XtRule((), ("-j", "DROP"), "no pins in this family"),)),)
    inside = ("port-ipv4",) if view.version == 4 else ("port-ipv6", "port-icmp6", "port-group6", "port-solicitation")
    return (*(stage_chain(wall.stage(name), view) for name in ("port", *inside)), marks.vouch_chain(view))


def _mangle(wall: w.Wall, view: View) -> XtTable:
    tenant, tracked = wall.stage("tracked-tenant"), wall.stage("tracked")
    kept = without_ended(tenant.clauses)
    guard: tuple[XtChain, ...] = ()
    if view.features.security:  # the guard stands behind `filter`, which tells the sender
        kept = tuple(clause for clause in kept if clause.then != w.Continue("tracked-guard"))
    else:
        guard = tuple(stage_chain(wall.stage(name), view) for name in ("tracked-guard", "deny"))
    pins = marks.pin_chains(view)
    first = (*ended_rules(view), *stage_rules(without_ended(tracked.clauses), view, tracked.name))
    of_sandbox = (marks.unpinned_rule(), *marks.pin_rules(view), *stage_rules(kept, view, tenant.name))
    forward = (
        *marks.unprioritize_rules(view),
        *kept_rules(wall, view),
        marks.version_rules(view, "in"),
        marks.version_rules(view, "out"),
    )
    chains = (
        XtChain(chain_of(tracked.name), (*first, *_from_outside(wall, view))),
        XtChain(chain_of(tenant.name), of_sandbox),
        *ended_chains(wall, view),
        *guard,
        *_pins(wall, view),
        *pins,
        XtChain(hook_chain("INPUT"), (marks.version_rules(view, "in"),)),
        XtChain(hook_chain("FORWARD"), forward),
        *marks.version_chains(view),
        *marks.outgoing_chains(view),
    )
    return _table(wall, view, chains, "PREROUTING", "INPUT", "FORWARD", "POSTROUTING")


def _from_outside(wall: w.Wall, view: View) -> Iterator[XtRule]:
    """What `raw` drops of packets that do not come from sandboxes, once more: a flush of that opens nothing. What it
    drops lest connection tracking have it is no use here."""
    early = (one for one in wall.stage("early").clauses if when.BegunAgain() not in one.when)
    denied = tuple(one for one in early if one.layer == "RAW" and one.then == w.Drop())
    for rule in stage_rules(denied, view, "tracked"):
        yield msgspec.structs.replace(rule, matches=("!", "-i", "lo", *rule.matches))


def _judging(wall: w.Wall, view: View) -> XtTable:
    """`filter`, and `security` that repeats it."""
    reply = msgspec.structs.replace(view, direction="reply")
    guarded = XtChain(
        hook_chain("INPUT"),
        (*pinned_still(view, "input"), *judged_already(view), *stage_chain(wall.stage("input"), view).rules),
    )
    chains = (
        guarded,
        stage_chain(wall.stage("input-guard"), view),
        *forward_chains(wall, view),
        *(stage_chain(stage, one) for stage in flow_stages(wall) for one in (view, reply)),
        stage_chain(wall.stage("related"), view),
        stage_chain(wall.stage("output"), view),
        _outbound(wall, view),
        stage_chain(wall.stage("deny"), view),
        *floor_chains(wall, view),
        protocol_chain(wall, view),
        *marks.closing_chains(view),
    )
    return _table(wall, view, chains, "INPUT", "FORWARD", "OUTPUT")


def _outbound(wall: w.Wall, view: View) -> XtChain:
    """Without the shortcut of live flows: nothing before this hook knows the endpoint's version, and all that follows
    is about new flows."""
    stage = wall.stage("output-tenant")
    rest = tuple(clause for clause in stage.clauses if not any(isinstance(p, when.LiveFlow) for p in clause.when))
    return stage_chain(msgspec.structs.replace(stage, clauses=rest), view)


def _nat(wall: w.Wall, view: View) -> XtTable:
    """Before published ports: what a sandbox sends to the node itself is translated by nobody."""
    inside = when.Via("in", "bridge")
    kinds = not_unicast("--dst-type", view.version)
    own = (XtRule((*side_of(inside, view.scene), *kind), ("-j", "ACCEPT")) for kind in kinds)
    publish = XtChain(hook_chain("PREROUTING"), (*own, *stage_chain(wall.stage("publish-uplink"), view).rules))
    names = ("publish-node", "publish", "translate", "translate-source")
    chains = (publish, *(stage_chain(wall.stage(name), view) for name in names))
    return _table(wall, view, chains, "PREROUTING", "OUTPUT", "POSTROUTING")
