"""How a denial is told: counted of whom it is, and logged as far as his budget goes, before the packet ends.

A clause that denies leads to a chain of its own words (`told-…`). That one asks a chain that is the same for all of its
kind (`tell-sender`, …) whose packet it is: the packet's mark, which nobody needs any more, becomes the policy version
of the endpoint, or 0 where there is none, or where its budget is used up. With a mark the packet is logged. So a flood
of one tenant costs no other's place in the log, and what comes from outside none of what the tenant does itself.

A packet that is only watched goes on, with its mark; its budget is its flow's tenant's (`seen-…`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from cellwall.compile import wall as w
from cellwall.compile.reasons import Direction, Reason, format_reason
from cellwall.compile.reports import judgement_of
from cellwall.lower.nft.families import FAMILIES
from cellwall.lower.nft.forms import OF_TENANT, Lowered, fields, match
from cellwall.model.settings import Audit
from cellwall.model.versions import STEM
from cellwall.ruleset.types import (
    Chain,
    ClearMark,
    Counter,
    Field,
    LogPacket,
    MarkPacket,
    MarkPacketFrom,
    Meter,
    RateOver,
    RateWithin,
    Rule,
    Statement,
    TableFamily,
    Tally,
    Verdict,
)

_LENGTH = 128
"""Bytes of a packet: its headers, whatever IPv6 has in front of the last, and the begin of what it carries."""
_OWNER = (Field("meta mark", STEM),)
_TENANT = fields("ct label")


Terminal = Callable[[w.Clause], Iterable[tuple[Statement, ...]]]
"""What becomes of a clause's packets in the end, without a counter."""


def leads_to_report(clause: w.Clause) -> tuple[tuple[Statement, ...], ...]:
    """The ends of the rules of a clause that has a subject. What is only watched comes back and goes on, so that no
    packet meets more chains one inside the other than the kernel allows, 16."""
    watches = judgement_of(clause) == "watch"
    led: tuple[Statement, ...] = (Counter(), Verdict("jump" if watches else "goto", _chain_name(clause)))
    onward = clause.then.stage if watches and isinstance(clause.then, w.Continue) else ""
    return (led, (Verdict("goto", onward),)) if onward else (led,)


def report_chains(
    wall: w.Wall, homes: Mapping[str, TableFamily], terminal: Terminal
) -> Iterator[tuple[TableFamily, Chain]]:
    """The chains that clauses with a subject lead to, and those that these ask, by the table that they are in."""
    if wall.reports is None:
        return
    made: dict[tuple[TableFamily, str], Chain] = {}
    for stage in wall.stages:
        for clause in stage.clauses:
            if clause.subject is not None:
                name = _chain_name(clause)
                made.setdefault((homes[stage.name], name), _report_chain(name, clause, wall, wall.reports, terminal))
    for family in dict.fromkeys(family for family, _ in made):
        yield family, _tell_port(wall.reports)
        if family == "inet":
            yield from ((family, chain) for chain in _tell_endpoints(wall.reports))
    yield from ((family, chain) for (family, _), chain in made.items())


def _chain_name(clause: w.Clause) -> str:
    """One name, one chain: all that makes two chains differ is in it."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", clause.why)
    if judgement_of(clause) == "watch":
        return f"seen-{clause.subject}-{clause.layer}-{words}"
    end = "deny" if isinstance(clause.then, w.Continue) else type(clause.then).__name__.lower()
    return f"told-{clause.subject}-{clause.layer}-{words}-{end}"


def _report_chain(name: str, clause: w.Clause, wall: w.Wall, audit: Audit, terminal: Terminal) -> Chain:
    judged, ways = judgement_of(clause) or "deny", tuple(_ways(clause.subject, wall.scene))
    rules: list[Rule] = []
    if judged == "deny":
        rules += [Rule((*where, Verdict("jump", f"tell-{whose}"))) for whose, where in ways]
    for whose, where in ways:
        direction: Direction = "in" if whose == "receiver" else "out"
        within = Meter(_TENANT, f"seen{direction}", RateWithin(audit.rate, audit.burst), lasting=True)
        told: Lowered = (*OF_TENANT, within) if judged == "watch" else (match("meta mark", 0, negate=True),)
        reason = Reason(clause.layer or "", judged, direction, clause.why)
        rules.append(Rule((*where, *told, LogPacket(audit.group, format_reason(reason), _LENGTH))))
    if judged == "deny":
        rules += [Rule(statements) for statements in terminal(clause)]
    return Chain(name, tuple(rules))


def _ways(subject: w.Subject | None, scene: w.Scene) -> Iterator[tuple[str, Lowered]]:
    """Whose a packet can be, and the match that tells them apart."""
    if subject == "either":
        yield "sender", (match("iifname", scene.bridge),)
        yield "receiver", (match("iifname", scene.bridge, negate=True),)
    else:
        yield subject or "", ()


def _tell_port(audit: Audit) -> Chain:
    iif = fields("iif")
    over = (Meter(iif, "toldports", RateOver(audit.rate, audit.burst), lasting=True), Verdict("return"))
    return Chain(
        "tell-port",
        (Rule((ClearMark(),)), Rule((Tally(iif, "deniedports"),)), Rule(over, layer="LOG"), Rule((MarkPacket(1),))),
    )


def _tell_endpoints(audit: Audit) -> Iterator[Chain]:
    over, forget = RateOver(audit.rate, audit.burst), (ClearMark(), Verdict("return"))
    tenants = Rule((*OF_TENANT, Meter(_TENANT, "toldtenants", over, lasting=True), *forget), layer="LOG")
    for subject, side in (("sender", "out"), ("receiver", "in")):
        ends = ((family, family.source if side == "out" else family.destination) for family in FAMILIES)
        owner = (Rule((MarkPacketFrom(fields(end), "version" + family.suffix),)) for family, end in ends)
        count = Rule((Tally(_OWNER, f"denied{side}"),))
        # What is sent to an endpoint is no matter of its tenant's flows; what has no flow is the endpoint's alone.
        own = Rule((Meter(_OWNER, f"told{side}", over, lasting=True), *forget), layer="LOG")
        budgets = (tenants, own) if side == "out" else (own,)
        yield Chain(f"tell-{subject}", (Rule((ClearMark(),)), *owner, count, *budgets))
