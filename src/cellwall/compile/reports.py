"""Whom a denial is reported of: each clause that denies, or would deny, gets its subject.

Of what a sandbox sends it is who sent it, by what the wall knows and the sandbox cannot choose: the bridge port of a
frame, the vouched source of a packet. Of what is sent to one it is the receiver. What belongs to neither is counted and
not told: the node's own multicast, what an outsider sends to nobody, the node's other networks, what a sandbox's
kernel says by itself.
"""

import msgspec

from cellwall.compile.pins import LISTENER_REPORTS
from cellwall.compile.predicates import Icmp6Type, ToSubnet, Via
from cellwall.compile.reasons import Judgement
from cellwall.compile.wall import (
    Clause,
    Continue,
    Count,
    Drop,
    Observe,
    Reject,
    Stage,
    Subject,
)

_NOBODY = ("frame-output", "loose-arp-in", "loose-arp-out")
_FRAMES = ("port", "frame")
"""How the names of stages begin whose packets are told apart by the interface that they came by alone."""
_UNVOUCHED = ("early-tenant",)
_BY_DESTINATION = ("early", "input", "output", "forward")
"""Stages of what others send: of them only what is sent to a sandbox is told."""
_GUARDS = ("tracked-tenant", "tracked-guard", "input-guard")


def judgement_of(clause: Clause) -> Judgement | None:
    """What a clause says of a packet that it matches; None where it denies nothing, or leads to one that does."""
    if not clause.why:
        return None
    if isinstance(clause.then, Observe | Count):
        return "watch"
    refuses = isinstance(clause.then, Continue) and clause.then.stage == "deny"
    return "deny" if refuses or isinstance(clause.then, Drop | Reject) else None


def with_subjects(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages, every clause with whom it is reported of."""
    return tuple(Stage(stage.name, tuple(_told(stage.name, clause) for clause in stage.clauses)) for stage in stages)


def _told(stage: str, clause: Clause) -> Clause:
    if judgement_of(clause) is None:
        return clause
    return msgspec.structs.replace(clause, subject=_subject(stage, clause))


def _subject(stage: str, clause: Clause) -> Subject | None:
    if Via("out", "port") in clause.when or stage in _NOBODY or clause.when in LISTENER_REPORTS:
        return None
    if Via("in", "port") in clause.when or stage.startswith(_FRAMES) or stage in _UNVOUCHED:
        return "port"
    if stage in _GUARDS or Via("in", "bridge") in clause.when:
        return "sender"
    if Via("out", "bridge") in clause.when:
        return "receiver"
    if stage in _BY_DESTINATION:
        return "receiver" if ToSubnet() in clause.when else None
    if stage == "output-tenant":  # a redirect is the node's own talk
        return None if any(isinstance(one, Icmp6Type) for one in clause.when) else "receiver"
    return "either"
