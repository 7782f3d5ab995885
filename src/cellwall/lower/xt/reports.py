"""How a denial is told: counted of whose address it is, and logged as far as his budget goes, before the packet ends.

A clause that denies leads to a chain of its own words (`B9-TOLD-…`, named by what differs). That one asks a chain that
is the same for all of its kind (`B9-TELL-OUT`, `-IN`, `-PORT`) whether there is room: the packet's mark, which nobody
needs any more, becomes 1, or 0. With a mark the packet is logged. A packet that is only watched goes on with the mark
that it has (`B9-SEEN-…`).

No match of iptables knows a tenant or, before it routes, a bridge port. What is left to have a budget by is an address,
and only one that its sender did not choose: the source behind the pins, as far as `mangle` gave the packet a version,
and a destination that is an endpoint's. So each sandbox has a budget of its own. Of what the pins themselves deny there
is none that somebody could not use up for another: all sandboxes have one together, apart from every other (`limits`,
"subject"). So it is with frames, for each rule of ebtables (`frame_report`).
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Literal

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.compile.policy_words import Under
from cellwall.compile.reasons import Direction, Judgement, Reason, format_reason
from cellwall.compile.reports import judgement_of
from cellwall.lower.xt.chains import DENY, SEEN_PREFIX, TOLD_PREFIX, own_chain
from cellwall.lower.xt.sets import set_name
from cellwall.lower.xt.tables import XtChain, XtRule
from cellwall.lower.xt.view import JUDGED, End, View, Words
from cellwall.lower.xt.words import member, side_of
from cellwall.model.settings import Audit

_LENGTH = 128
"""Bytes of a packet that are told, as with nftables."""
_TOLD, _SILENT = 0x1, 0x0
"""Marks: that there is room to tell of the packet, and that there is none. Neither is a version or the node's mark."""
_JUDGING = ("tenant-denied", "endpoint-denied")
_ROOM = own_chain("TELL")
Way = Literal["out", "in", "port"]
"""What a packet is told of by: its source, its destination, or the port that it came by."""
_WAYS: dict[w.Subject, Way] = {"sender": "out", "receiver": "in", "port": "port"}
_ASKED: dict[Way, str] = {"out": own_chain("TELL-OUT"), "in": own_chain("TELL-IN"), "port": own_chain("TELL-PORT")}
_COUNTING: dict[Direction, str] = {"out": "sent", "in": "got"}


def former_flow(subject: w.Subject) -> w.Clause:
    """What `marks` drops before any clause: packets of a flow whose endpoint is gone."""
    return w.Clause((), w.Drop(), "flow of a former endpoint", "FWD", subject)


def counted_where_judged(wall: w.Wall) -> w.Wall:
    """The wall with would-be denials of policies counted, and told of, where a flow is judged before it is stamped: the
    other passes, of which one counts, have no form (`Fresh`)."""
    stages = tuple(
        w.Stage(stage.name, tuple(map(_observed, stage.clauses))) if stage.name in _JUDGING else stage
        for stage in wall.stages
    )
    return msgspec.structs.replace(wall, stages=stages)


def _observed(clause: w.Clause) -> w.Clause:
    if not (
        isinstance(clause.then, w.Continue) and any(isinstance(p, Under) and p.what == "watches" for p in clause.when)
    ):
        return clause
    return msgspec.structs.replace(clause, then=w.Observe(clause.then.stage), subject="either")


def is_told(clause: w.Clause, view: View) -> bool:
    """Whether somebody is told of what the clause denies. What the pins deny once more in `mangle` nobody is told of:
    it comes there where `raw` was flushed."""
    told = clause.subject in ("sender", "receiver", "either") or (clause.subject == "port" and view.table == "raw")
    return view.reports is not None and told


def leads_to_report(clause: w.Clause) -> Words:
    """Where the packets of a clause go that is told of. What is only watched comes back."""
    return ("-j" if judgement_of(clause) == "watch" else "-g", chain_name(clause))


def chain_name(clause: w.Clause) -> str:
    """One name, one chain: a name has 28 letters, so what makes two chains differ is in its digest."""
    judgement = judgement_of(clause)
    end = clause.then.stage if isinstance(clause.then, w.Continue) else type(clause.then).__name__
    words = f"{clause.subject} {clause.layer} {clause.why} {'' if judgement == 'watch' else end}"
    return (SEEN_PREFIX if judgement == "watch" else TOLD_PREFIX) + sha256(words.encode()).hexdigest()[:8]


def report_chains(wall: w.Wall, view: View, chains: tuple[XtChain, ...]) -> Iterator[XtChain]:
    """The chains of reports that these chains of a table lead to, and those that they ask."""
    if view.reports is None:
        return
    led = {rule.target[1] for chain in chains for rule in chain.rules if rule.target}
    denials = [clause for stage in wall.stages for clause in stage.clauses]
    denials += [former_flow("sender"), former_flow("receiver")]
    made: dict[str, XtChain] = {}
    for clause in denials:
        if is_told(clause, view) and (name := chain_name(clause)) in led:
            made.setdefault(name, _report_chain(name, clause, view, view.reports))
    yield from made.values()
    asked = {rule.target[1] for chain in made.values() for rule in chain.rules if rule.target[0] == "-j"}
    for way, name in _ASKED.items():
        if name in asked:
            rules = _port_rules(view, view.reports) if way == "port" else _address_rules(way, view, view.reports)
            yield XtChain(name, (*rules, _marked(_SILENT)))
    if asked & set(_ASKED.values()):
        yield XtChain(_ROOM, (_marked(_TOLD),))


def frame_report(clause: w.Clause, audit: Audit) -> Words:
    """What tells of the frames of a rule of ebtables in front of it, as long as there is room: of each such rule by
    itself, whoever sends them."""
    reason = Reason(clause.layer or "", judgement_of(clause) or "deny", "out", clause.why)
    room = ("--limit", f"{audit.rate}/sec", "--limit-burst", str(audit.burst))
    told = ("--nflog-prefix", format_reason(reason), "--nflog-group", str(audit.group), "--nflog-range", str(_LENGTH))
    return (*room, *told)


def _report_chain(name: str, clause: w.Clause, view: View, audit: Audit) -> XtChain:
    judgement = judgement_of(clause) or "deny"
    ways = tuple(_ways(clause.subject, view))
    rules = []
    if judgement == "deny":
        rules += [XtRule(where, ("-j", _ASKED[way]), clause.why) for way, where in ways]
    for way, where in ways:
        direction: Direction = "in" if way == "in" else "out"
        room = _room(direction, judgement, view, audit) if judgement == "watch" else _is_marked(_TOLD)
        reason = Reason(clause.layer or "", judgement, direction, clause.why)
        rules.append(XtRule((*where, *room), _log(audit, reason), "" if judgement == "deny" else clause.why))
    if judgement == "deny":
        rules.append(XtRule((), _end(clause)))
    return XtChain(name, tuple(rules))


def _ways(subject: w.Subject | None, view: View) -> Iterator[tuple[Way, Words]]:
    """Which way a packet can be going, and the match that tells."""
    if subject == "either":
        inside = when.Via("in", "bridge")
        yield "out", side_of(inside, view.scene)
        yield "in", side_of(when.Via("in", "bridge", negate=True), view.scene)
    else:
        yield _WAYS[subject or "port"], ()


def _address_rules(direction: Direction, view: View, audit: Audit) -> tuple[XtRule, ...]:
    """Count a packet of whose address it is, and mark it where it may be told of. The set has an entry from the
    first packet on: that one is counted by being added, every other by being found."""
    end, counting = _asked_end(direction), set_name(_COUNTING[direction], view.version)
    whose = _whose(direction, view)
    room = (*whose, *_within(direction, "deny", view, audit))
    return (
        XtRule((*whose, *member(counting, end, negate=True)), ("-j", "SET", "--add-set", counting, end)),
        XtRule(room, ("-g", _ROOM)),
    )


def _port_rules(view: View, audit: Audit) -> tuple[XtRule, ...]:
    """Without a mode `hashlimit` has one budget for all."""
    return (XtRule(_upto(f"b9tp{view.version}", audit), ("-g", _ROOM)),)


def _room(direction: Direction, judgement: Judgement, view: View, audit: Audit) -> Words:
    return (*_whose(direction, view), *_within(direction, judgement, view, audit))


def _whose(direction: Direction, view: View) -> Words:
    """The address is an endpoint's, and of a source, that the pins have seen it: of a packet without a version nobody
    knows whether they have, as after a flush of the tables that ask."""
    seen = ("-m", "mark", "!", "--mark", f"0x0/{JUDGED:#x}")
    vouched = seen if direction == "out" and view.table == "filter" else ()
    return (*vouched, *member(set_name("version", view.version), _asked_end(direction)))


def _within(direction: Direction, judgement: Judgement, view: View, audit: Audit) -> Words:
    """The budget of an address."""
    letter = {"deny": "t", "watch": "s"}[judgement] + {"out": "o", "in": "i"}[direction]
    mode = "srcip" if direction == "out" else "dstip"
    return (*_upto(f"b9{letter}{view.version}", audit), "--hashlimit-mode", mode, "--hashlimit-htable-max", "65536")


def _upto(name: str, audit: Audit) -> Words:
    """A table that is in use keeps its rate, so this is in its name, which has fifteen letters."""
    upto = ("--hashlimit-upto", f"{audit.rate}/sec", "--hashlimit-burst", str(audit.burst))
    return ("-m", "hashlimit", *upto, "--hashlimit-name", f"{name}{audit.rate:x}.{audit.burst:x}")


def _asked_end(direction: Direction) -> End:
    return "src" if direction == "out" else "dst"


def _end(clause: w.Clause) -> Words:
    return ("-g", DENY) if isinstance(clause.then, w.Continue) else ("-j", "DROP")


def _log(audit: Audit, reason: Reason) -> Words:
    group = ("--nflog-prefix", format_reason(reason), "--nflog-group", str(audit.group))
    return ("-j", "NFLOG", *group, "--nflog-size", str(_LENGTH))


def _is_marked(value: int) -> Words:
    return ("-m", "mark", "--mark", f"{value:#x}")


def _marked(value: int) -> XtRule:
    return XtRule((), ("-j", "MARK", "--set-xmark", f"{value:#x}/0xffffffff"))
