"""Wall → nftables ruleset: constant rules, and sets and maps that everything else is an element of.

Owns: which stage is a base chain at which hook, and how a clause becomes rules (one per family where families
differ, one per alternative where a predicate has several). Every base chain's policy is accept: the wall's drops
are its own rules, other traffic of the node is never judged.
"""

from collections.abc import Sequence
from itertools import product

import msgspec

from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.nft.content import inet_sets
from cellwall.lower.nft.families import FAMILIES, IPV4, Family
from cellwall.lower.nft.flows import answered_from
from cellwall.lower.nft.forms import BOTH, fields, match
from cellwall.lower.nft.hooks import HOOKS
from cellwall.lower.nft.predicates import families_of, lower_predicate
from cellwall.lower.nft.reports import Terminal, leads_to_report, report_chains
from cellwall.lower.nft.sets import BEGUN_AGAIN, FULL_SETS, bridge_sets
from cellwall.names import TABLE
from cellwall.ruleset.types import (
    Chain,
    ClampSegments,
    ClearPriority,
    Counter,
    Dnat,
    FieldName,
    FlowState,
    LabelFlow,
    Lookup,
    MarkPacket,
    Masquerade,
    Reject,
    Rule,
    Ruleset,
    SetTimeouts,
    StampFlow,
    Statement,
    Table,
    TableFamily,
    Tally,
    Timeouts,
    UnmarkPacket,
    UnstampFlow,
    Verdict,
)

_Seconds = tuple[tuple[FlowState, int], ...]
_ENDED: _Seconds = (("time_wait", w.TIME_WAIT), ("close", w.CLOSE))
_HALF_OPEN: _Seconds = (("syn_sent", w.HALF_OPEN), ("syn_recv", w.HALF_OPEN))
_TIMEOUTS: dict[w.Forgotten, Timeouts] = {
    "tcp": Timeouts(f"ended-{w.TIME_WAIT}-{w.CLOSE}", _ENDED),
    "client-tcp": Timeouts(f"client-{w.HALF_OPEN}-{w.TIME_WAIT}-{w.CLOSE}", (*_HALF_OPEN, *_ENDED)),
    "client-udp": Timeouts(f"client-udp-{w.HALF_OPEN}", (("unreplied", w.HALF_OPEN),), "udp"),
}
"""Named by its policy: the kernel keeps an object that exists as it is, whatever a refresh says of it."""


def lower_wall(wall: w.Wall) -> Ruleset:
    """The ruleset of a wall without any endpoint."""
    homes = _homes(wall)
    chains: dict[TableFamily, list[Chain]] = {"bridge": [], "arp": [], "inet": []}
    for stage in wall.stages:
        hook = HOOKS[stage.name][1] if stage.name in HOOKS else None
        rules = tuple(rule for clause in stage.clauses for rule in _lower_clause(clause, wall))
        chains[homes[stage.name]].append(Chain(stage.name, rules, hook))
    for home, chain in report_chains(wall, homes, _end_of_report(wall)):
        chains[home].append(chain)
    return Ruleset(
        (
            Table("bridge", TABLE, bridge_sets(), tuple(chains["bridge"])),
            Table("arp", TABLE, (), tuple(chains["arp"])),
            Table("inet", TABLE, inet_sets(wall), tuple(chains["inet"]), tuple(_TIMEOUTS.values())),
        )
    )


def _homes(wall: w.Wall) -> dict[str, TableFamily]:
    """The table of each stage: a base chain's is given, another's is that of whoever goes there."""
    homes: dict[str, TableFamily] = {name: home for name, (home, _) in HOOKS.items()}
    pending = list(wall.stages)
    while pending:
        known = [stage for stage in pending if stage.name in homes]
        if not known:
            raise Unsupported(f"stage {pending[0].name!r} is reached from nowhere", backend="nftables")
        for stage in known:
            for clause in stage.clauses:
                onward = _onward(clause.then)
                if onward:
                    homes.setdefault(onward, homes[stage.name])
        pending = [stage for stage in pending if stage not in known]
    return homes


def _onward(then: w.Outcome) -> str:
    """The stage that an outcome leads to, "" for none."""
    if isinstance(then, w.Continue):
        return then.stage
    return then.judged if isinstance(then, w.Stamp) else ""


def _lower_clause(clause: w.Clause, wall: w.Wall) -> list[Rule]:
    separate = [found for predicate in clause.when if (found := families_of(predicate))]
    if isinstance(clause.then, w.Stamp | w.Attribute | w.Publish | w.NoteBegunAgain):
        separate.append(BOTH)
    versions = frozenset.intersection(*separate) if separate else frozenset({IPV4.version})
    rules = []
    for family in FAMILIES:
        if family.version not in versions:
            continue
        alternatives = [lower_predicate(predicate, wall.scene, family) for predicate in clause.when]
        for conjunction in product(*alternatives):
            matches = tuple(statement for part in conjunction for statement in part)
            for outcome in _lower_outcome(clause, wall, family):
                rules.append(Rule((*matches, *outcome), _said(clause, outcome), clause.layer or ""))
    return rules


def _said(clause: w.Clause, outcome: Sequence[Statement]) -> str:
    """The comment of one of a clause's rules, by which its counter is found: what notes says nothing, and what counts
    says of what."""
    if isinstance(clause.then, w.NoteBegunAgain) and Counter() in outcome:
        return clause.then.unnoted
    return clause.why


def _lower_outcome(clause: w.Clause, wall: w.Wall, family: Family) -> tuple[tuple[Statement, ...], ...]:
    """The statements of what happens; several where one wall outcome is several nft rules."""
    then = clause.then
    if clause.subject is not None:
        return leads_to_report(clause)
    counted: tuple[Statement, ...] = (Counter(),) if clause.counted else ()
    if isinstance(then, w.Reject):
        return _reject(counted)
    if isinstance(then, w.NoteBegunAgain):
        return _note_answer(family)
    statements = _verdict(then, wall)
    if statements is None:
        statements = _note_of_flow(then, family)
    if statements is None:
        statements = _change_of_packet(then, family)
    if statements is None:
        name = type(then).__name__
        raise Unsupported(f"no nft form of {name}", predicate=name, backend="nftables")
    return ((*counted, *statements),)


def _note_answer(family: Family) -> tuple[tuple[Statement, ...], ...]:
    """Noted; and counted where it is not, as a full set takes no more and ends the rule without a verdict."""
    ends, name = answered_from(family), BEGUN_AGAIN + family.suffix
    return (Tally(ends, name),), (Lookup(ends, name, negate=True), Counter())


def _verdict(then: w.Outcome, wall: w.Wall) -> tuple[Statement, ...] | None:
    match then:
        case w.Accept():
            return (Verdict("accept"),)
        case w.Drop():
            return (Verdict("drop"),)
        case w.Continue():
            return (Verdict("goto", then.stage),)
        case w.Count():
            return ()
        case w.Vouch():
            return (MarkPacket(wall.scene.mark), Verdict("accept"))
        case w.Attest():
            return (MarkPacket(wall.scene.mark),)
        case w.Distrust():
            return (UnmarkPacket(wall.scene.mark),)
    return None


def _note_of_flow(then: w.Outcome, family: Family) -> tuple[Statement, ...] | None:
    match then:
        case w.Stamp():
            onward = Verdict("goto", then.judged) if then.judged else Verdict("accept")
            return (StampFlow(fields(_stamp_key(then, family)), "version" + family.suffix), onward)
        case w.Unstamp():
            return (UnstampFlow(),)
        case w.Attribute():
            owner = family.original_source if then.endpoint == "source" else family.reply_source
            return (LabelFlow(fields(owner), "tenant" + family.suffix),)
        case w.NoteFull():
            return (Tally(fields("ct label"), FULL_SETS[then.flows]),)
        case w.ForgetSoon():
            return (SetTimeouts(_TIMEOUTS[then.flow].name),)
    return None


def _change_of_packet(then: w.Outcome, family: Family) -> tuple[Statement, ...] | None:
    match then:
        case w.Publish():
            return _publish(then, family)
        case w.Masquerade():
            return (Masquerade(*then.ports),)
        case w.FitSegments():
            return (ClampSegments(),)
        case w.Unprioritize():
            return (ClearPriority(),)
    return None


def _end_of_report(wall: w.Wall) -> Terminal:
    def end(clause: w.Clause) -> tuple[tuple[Statement, ...], ...]:
        bare = msgspec.structs.replace(clause, subject=None)
        return tuple(
            tuple(statement for statement in statements if statement != Counter())
            for statements in _lower_outcome(bare, wall, IPV4)  # no outcome of a denial differs by family
        )

    return end


def _stamp_key(then: w.Stamp, family: Family) -> FieldName:
    return {
        "source": family.original_source,
        "destination": family.reply_source,
        "node-side": family.destination,
    }[then.endpoint]


def _reject(counted: tuple[Statement, ...]) -> tuple[tuple[Statement, ...], ...]:
    return (
        (match("meta l4proto", 6), *counted, Reject("tcp reset")),
        (match("meta nfproto", "ipv4"), *counted, Reject("icmp admin-prohibited")),
        (*counted, Reject("icmpv6 admin-prohibited")),
    )


def _publish(then: w.Publish, family: Family) -> tuple[Statement, ...]:
    port = fields("meta l4proto", "th dport")
    address = fields(family.destination)
    nft = family.nft
    proto = match("meta nfproto", family.nfproto)
    if then.form == "any":
        return (proto, Dnat(nft, port, "publish" + family.suffix))
    name = "publishto" if then.form == "address" else "publishrange"
    return (proto, Dnat(nft, (*address, *port), name + family.suffix))
