"""The forward stages of a wall → iptables-restore text of the filter table, one per family.

nft reads a flow's original tuple in either direction; iptables reads the packet. So each stage behind the direction
test becomes two chains, one for packets in the flow's original direction and one for replies, with source and
destination exchanged. Sets are ipsets; their names are those of the nft sets with the family's digit.
"""

from collections.abc import Iterator
from itertools import product
from typing import Literal

import msgspec

from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.xt.limits import SUBSTITUTES
from cellwall.lower.xt.tables import XtChain, XtRule, XtTable
from cellwall.model.floor import GLOBAL6
from cellwall.names import SECURITY_CHAIN

Direction = Literal["original", "reply"]
Words = tuple[str, ...]

_STAGES = ("egress", "ingress", "stamp-ingress", "related")
_CHAINS = {"egress": "B9-EGRESS", "ingress": "B9-INGRESS", "stamp-ingress": "B9-STAMP", "related": "B9-RELATED"}
_PROTOCOLS = "B9-PROTOCOL"
_DENY = "B9-DENY"


class _View(msgspec.Struct, frozen=True):
    """What a clause is lowered for: the scene, the IP version, and which way the packet travels in its flow."""

    scene: w.Scene
    version: Literal[4, 6]
    direction: Direction

    @property
    def towards(self) -> tuple[str, str]:
        """The ipset sides of the flow's original (source, destination)."""
        return ("src", "dst") if self.direction == "original" else ("dst", "src")

    @property
    def icmp(self) -> str:
        return "icmp" if self.version == 4 else "ipv6-icmp"


def lower_forward(wall: w.Wall, version: Literal[4, 6]) -> XtTable:
    """B9-FORWARD and its chains. The jump to it from FORWARD is the applier's: it must find the right place."""
    original = _View(wall.scene, version, "original")
    chains = [XtChain(SECURITY_CHAIN, tuple(_clauses(wall.stage(SECURITY_CHAIN), original)))]
    for name in _STAGES:
        for direction in ("original", "reply"):
            view = _View(wall.scene, version, "original" if direction == "original" else "reply")
            chains.append(XtChain(_chain(name, view), tuple(_clauses(wall.stage(name), view))))
    chains += [_protocols(original), XtChain(_DENY, tuple(_clauses(wall.stage("deny"), original)))]
    return XtTable("iptables-restore" if version == 4 else "ip6tables-restore", "filter", tuple(chains))


def _chain(stage: str, view: _View) -> str:
    if stage not in _CHAINS:
        return _DENY if stage == "deny" else stage
    return f"{_CHAINS[stage]}-{'O' if view.direction == 'original' else 'R'}"


def _clauses(stage: w.Stage, view: _View) -> Iterator[XtRule]:
    seen = set()
    for clause in stage.clauses:
        for rule in _clause(clause, view):
            if rule not in seen:  # forms of exposure that nft keeps apart are one ipset here
                seen.add(rule)
                yield rule


def _clause(clause: w.Clause, view: _View) -> Iterator[XtRule]:
    if any(type(part) in SUBSTITUTES for part in (*clause.when, clause.then)):
        return
    direction = next((p.direction for p in clause.when if isinstance(p, w.FlowDirection)), view.direction)
    inner = msgspec.structs.replace(view, direction=direction)
    if isinstance(clause.then, w.Continue) and clause.then.stage in ("egress", "ingress") and direction == "original":
        yield from _by_direction(clause, view)
        return
    if any(isinstance(p, w.Transport) and p.negate and len(p.protocols) > 1 for p in clause.when):
        # iptables has no set of protocols: each that may pass returns from a chain of its own that ends in the denial.
        yield XtRule((), ("-j", _PROTOCOLS), clause.why)
        return
    alternatives = [_lower(predicate, inner) for predicate in clause.when]
    for conjunction in product(*alternatives):
        matches = tuple(word for part in conjunction for word in part)
        for extra, target in _target(clause.then, inner):
            yield XtRule((*matches, *extra), target, clause.why)


def _by_direction(clause: w.Clause, view: _View) -> Iterator[XtRule]:
    """The last clauses of B9-FORWARD lead on by the direction of the packet in its flow."""
    assert isinstance(clause.then, w.Continue)
    given = [p.direction for p in clause.when if isinstance(p, w.FlowDirection)]
    for direction in given or ("original", "reply"):
        inner = msgspec.structs.replace(view, direction=direction)
        rest = [_lower(p, inner) for p in clause.when if not isinstance(p, w.FlowDirection)]
        for conjunction in product(*rest):
            matches = tuple(word for part in conjunction for word in part)
            ctdir = ("-m", "conntrack", "--ctdir", direction.upper())
            yield XtRule((*matches, *ctdir), ("-g", _chain(clause.then.stage, inner)), clause.why)


def _target(then: w.Outcome, view: _View) -> tuple[tuple[Words, Words], ...]:
    """(further matches, target) of each rule that an outcome is."""
    if isinstance(then, w.Accept):
        return (((), ("-j", "ACCEPT")),)
    if isinstance(then, w.Drop):
        return (((), ("-j", "DROP")),)
    if isinstance(then, w.Attest):
        return (((), ("-j", "MARK", "--set-xmark", f"{view.scene.mark:#x}/{view.scene.mark:#x}")),)
    if isinstance(then, w.FitSegments):
        return (((), ("-j", "TCPMSS", "--clamp-mss-to-pmtu")),)
    if isinstance(then, w.Continue):
        return (((), ("-g", _chain(then.stage, view))),)
    if isinstance(then, w.Stamp):
        side = view.towards[0] if then.endpoint == "source" else view.towards[1]
        return ((_member(f"members{view.version}", side), ("-j", "ACCEPT")),)
    if isinstance(then, w.Reject):
        prohibited = "icmp-admin-prohibited" if view.version == 4 else "icmp6-adm-prohibited"
        return (
            (("-p", "tcp"), ("-j", "REJECT", "--reject-with", "tcp-reset")),
            ((), ("-j", "REJECT", "--reject-with", prohibited)),
        )
    raise _unsupported(then)


def _lower(predicate: w.Predicate, view: _View) -> tuple[Words, ...]:
    """The alternatives that together mean a predicate; no alternative: it never holds in this family."""
    match predicate:
        case w.Via():
            return (_via(predicate, view.scene),)
        case w.Flow():
            return (("-m", "conntrack", "--ctstate", ",".join(state.upper() for state in predicate.states)),)
        case w.FlowDirection():
            return (("-m", "conntrack", "--ctdir", predicate.direction.upper()),)
        case w.IpVersion():
            return ((),) if predicate.version == view.version else ()
        case w.Translated():
            negate = ("!",) if predicate.negate else ()
            return (("-m", "conntrack", *negate, "--ctstate", "DNAT"),)
        case w.Transport():
            return _transport(predicate, view)
        case w.FloorHit(end="original"):
            # A set cannot be asked about the original tuple: what another table translated is denied altogether.
            return (("-m", "conntrack", "--ctstate", "DNAT"),)
        case w.FloorHit():
            return _floor(view)
        case w.NotUnicastSource():
            return (("-m", "addrtype", "!", "--src-type", "UNICAST"),)
        case w.Stranger():
            return (_member(f"noclients{view.version}", view.towards[0]),)
        case w.AmidConnection():
            return (("-p", "tcp", "!", "--syn", "-m", "conntrack", "--ctstate", "NEW"),)
        case w.OpensBackwards():
            return (("-p", "tcp", "--tcp-flags", "SYN,ACK", "SYN", "-m", "conntrack", "--ctdir", "REPLY"),)
        case w.Handshake():
            return (("-p", "tcp", "--tcp-flags", "SYN,RST", "SYN"),)
        case w.OverConnections():
            return (_connections(predicate, view),)
        case w.Exposed():
            source, destination = view.towards
            return (_member(f"exposed{view.version}", destination, destination, source),)
    raise _unsupported(predicate)


def _via(predicate: w.Via, scene: w.Scene) -> Words:
    names = {"port": scene.veth_prefix + "+", "bridge": scene.bridge, "uplink": scene.uplink, "loopback": "lo"}
    flag = "-i" if predicate.direction == "in" else "-o"
    return (*(("!",) if predicate.negate else ()), flag, names[predicate.side])


def _transport(predicate: w.Transport, view: _View) -> tuple[Words, ...]:
    names = [view.icmp if name == "icmp" else name for name in predicate.protocols]
    if not predicate.negate:
        return tuple(("-p", name) for name in names)
    if len(names) == 1:
        return (("!", "-p", names[0]),)
    raise Unsupported("a negated list of protocols is a chain", predicate="Transport", backend="iptables")


def _protocols(view: _View) -> XtChain:
    allowed = tuple(XtRule(("-p", name), ("-j", "RETURN")) for name in ("tcp", "udp", view.icmp))
    return XtChain(_PROTOCOLS, (*allowed, XtRule((), ("-g", _DENY), "protocol")))


def _floor(view: _View) -> tuple[Words, ...]:
    side = view.towards[1]
    closed = _member(f"opened{view.version}", side, side, negate=True)
    denied: tuple[Words, ...] = ((*_member(f"floor{view.version}", side), *closed),)
    if view.version == 6:
        outside = ("!", "-d" if side == "dst" else "-s", str(GLOBAL6))
        denied = ((*outside, *closed), *denied)
    return denied


def _connections(predicate: w.OverConnections, view: _View) -> Words:
    side = view.towards[0] if predicate.endpoint == "source" else view.towards[1]
    flag = "--connlimit-saddr" if side == "src" else "--connlimit-daddr"
    mask = "32" if view.version == 4 else "128"
    return ("-m", "connlimit", "--connlimit-above", str(predicate.limit), "--connlimit-mask", mask, flag)


def _member(name: str, *sides: str, negate: bool = False) -> Words:
    return ("-m", "set", *(("!",) if negate else ()), "--match-set", f"b9{name}", ",".join(sides))


def _unsupported(value: w.Predicate | w.Outcome) -> Unsupported:
    name = type(value).__name__
    return Unsupported(f"no iptables form of {name}", predicate=name, backend="iptables")
