"""Clauses → rules of iptables, one stage and one family at a time.

Owns: which chain a stage is, what an outcome is in each table, and the chains that a clause needs beside its own: a
list of protocols, and the floor of a translated flow. What `filter` accepts it marks, and the table after it judges
only what has another mark, so that it stands in for `filter` when somebody flushes that.
"""

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from operator import eq
from typing import Literal

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.xt.chains import DENY, DNAT_CHAIN, GUARD, hook_chain, own_chain
from cellwall.lower.xt.features import pin_form
from cellwall.lower.xt.limits import is_left_out
from cellwall.lower.xt.reports import is_told, leads_to_report
from cellwall.lower.xt.tables import XtChain, XtRule
from cellwall.lower.xt.view import OWN, PASSED, Direction, View, Words
from cellwall.lower.xt.words import alternatives, side_of
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address
from cellwall.model.floor import GLOBAL6
from cellwall.names import SECURITY_CHAIN

CHAINS = {
    "early": hook_chain("PREROUTING"),
    "early-tenant": own_chain("TENANT"),
    "port": own_chain("TENANT"),
    "port-ipv4": own_chain("PIN"),
    "port-ipv6": own_chain("PIN"),
    "port-icmp6": own_chain("PIN-ICMP"),
    "port-group6": own_chain("PIN-GROUP"),
    "port-solicitation": own_chain("PIN-ND"),
    "tracked": hook_chain("PREROUTING"),
    "tracked-tenant": own_chain("TRACKED"),
    "tracked-guard": GUARD,
    "input": hook_chain("INPUT"),
    "input-guard": GUARD,
    "output": hook_chain("OUTPUT"),
    "output-tenant": own_chain("OUTBOUND"),
    SECURITY_CHAIN: SECURITY_CHAIN,
    "stamp-ingress": own_chain("STAMP"),
    "related": own_chain("RELATED"),
    "deny": DENY,
    "publish-uplink": hook_chain("PREROUTING"),
    "publish-node": hook_chain("OUTPUT"),
    "publish": DNAT_CHAIN,
    "translate": hook_chain("POSTROUTING"),
    "translate-source": own_chain("MASQUERADE"),
}
"""The chain of each stage; those of flows, from `egress` and `ingress` on, have one for each direction."""

_DIRECTED = {
    "egress": "EGRESS",
    "opened": "OPENED",
    "tenant-policy": "TENANT-POLICY",
    "tenant-denied": "TENANT-DENIED",
    "endpoint-policy": "OWN-POLICY",
    "endpoint-denied": "OWN-DENIED",
    "admit": "ADMIT",
    "ingress": "INGRESS",
    "admit-client": "CLIENT",
    "client": "ADMITTED",
}
_SKIPPED = {"tenant-clients": "admit-client", "endpoint-clients": "admit-client"}
"""Stages of which nothing is left, and where they lead: the clients that a policy names are in the sets and rules of
published ports."""
_PROTOCOLS, _LED, _FLOORED = own_chain("PROTOCOL"), own_chain("LED"), own_chain("FLOORED")
PASS, STAMP, VOUCH = own_chain("PASS"), own_chain("STAMP"), own_chain("VOUCH")
_OTHERS = {"output", "output-tenant", "early", "tracked", "forward"}
"""Stages whose accepted packets are not the sandboxes': other rules of the node go on with them."""


def chain_of(stage: str, direction: Direction = "original") -> str:
    """The chain's name."""
    stage = _SKIPPED.get(stage, stage)
    if stage in _DIRECTED:
        return own_chain(f"{_DIRECTED[stage]}-{'O' if direction == 'original' else 'R'}")
    if stage not in CHAINS:
        raise Unsupported(f"stage {stage!r} has no chain", backend="iptables")
    return CHAINS[stage]


def flow_stages(wall: w.Wall) -> tuple[w.Stage, ...]:
    """The stages that have a chain for each direction."""
    return tuple(stage for stage in wall.stages if stage.name in _DIRECTED)


def stage_chain(stage: w.Stage, view: View, *, name: str = "") -> XtChain:
    """A stage as a chain."""
    return XtChain(name or chain_of(stage.name, view.direction), tuple(stage_rules(stage.clauses, view, stage.name)))


def stage_rules(clauses: tuple[w.Clause, ...], view: View, stage: str) -> Iterator[XtRule]:
    """The rules of clauses; forms of exposure that nft keeps apart may be one rule here."""
    seen = set()
    for clause in clauses:
        for rule in _clause(clause, view, stage):
            if rule not in seen:
                seen.add(rule)
                yield rule


def _clause(clause: w.Clause, view: View, stage: str) -> Iterator[XtRule]:
    if any(map(is_left_out, (*clause.when, clause.then))) or _opens_in_reply(clause, view):
        return
    if isinstance(clause.then, w.Continue) and _is_directed(clause.then.stage) and not _is_directed(stage):
        yield from _by_direction(clause, view)
        return
    if any(isinstance(p, when.Transport) and p.negate and len(p.protocols) > 1 for p in clause.when):
        # iptables has no set of protocols: each that may pass returns from a chain of its own that ends in the denial.
        yield XtRule((), ("-j", _PROTOCOLS), clause.why)
        return
    for conjunction in product(*(alternatives(predicate, view) for predicate in clause.when)):
        matches = tuple(word for part in conjunction for word in part)
        for extra, target in _outcomes(clause, view, stage):
            yield XtRule((*matches, *extra), target, clause.why)


def _is_directed(stage: str) -> bool:
    return stage in _DIRECTED or stage in _SKIPPED


def _opens_in_reply(clause: w.Clause, view: View) -> bool:
    """No reply opens a flow."""
    opening = (when.Flow(("new",)), when.AmidConnection())
    return view.direction == "reply" and any(predicate in opening for predicate in clause.when)


def _by_direction(clause: w.Clause, view: View) -> Iterator[XtRule]:
    """Where a stage is two chains, the packet's direction in its flow says which."""
    assert isinstance(clause.then, w.Continue)
    given = [p.direction for p in clause.when if isinstance(p, when.FlowDirection)]
    rest = [alternatives(p, view) for p in clause.when if not isinstance(p, when.FlowDirection)]
    both: tuple[Direction, ...] = ("original", "reply")
    for direction in given or both:
        for conjunction in product(*rest):
            matches = tuple(word for part in conjunction for word in part)
            ctdir = ("-m", "conntrack", "--ctdir", direction.upper())
            yield XtRule((*matches, *ctdir), ("-g", chain_of(clause.then.stage, direction)), clause.why)


def _outcomes(clause: w.Clause, view: View, stage: str) -> tuple[tuple[Words, Words], ...]:
    """(further matches, target) of each rule that an outcome is."""
    floor = next((p for p in clause.when if isinstance(p, when.FloorHit)), None)
    told = is_told(clause, view)
    if floor is not None:
        return (((), ("-j", _LED if floor.end == "original" else _FLOORED)),)
    if isinstance(clause.then, w.Observe) and told:
        return ((), leads_to_report(clause)), *_own_outcomes(clause, view, stage)
    return (((), leads_to_report(clause)),) if told else _own_outcomes(clause, view, stage)


def _own_outcomes(clause: w.Clause, view: View, stage: str) -> tuple[tuple[Words, Words], ...]:
    """The same where no chain that reports stands in for it."""
    then, mark = clause.then, f"{view.scene.mark:#x}"
    match then:
        case w.Accept():
            return (((), _accepted(clause, view, stage)),)
        case w.Drop():
            return (((), ("-j", "DROP")),)
        case w.Count():  # every rule counts
            return (((), ()),)
        case w.Continue():
            return (((), ("-g", chain_of(then.stage, view.direction))),)
        case w.Vouch():
            return (((), ("-g", VOUCH)),)
        case w.Distrust():
            return (((), ("-j", "MARK", "--set-xmark", f"0x0/{mark}")),)
        case w.Attest():
            return (((), ("-j", "MARK", "--set-xmark", f"{OWN | view.scene.mark:#x}/0xffffffff")),)
        case w.Unprioritize():
            return ()  # `marks.unprioritize_rules`: the target is of `mangle`
        case w.ForgetSoon():
            return ()  # `marks.vouch_chain`: the first packet says it, before connection tracking
        case w.Attribute():  # nothing here asks for it
            return ()
        case w.FitSegments():
            return (((), ("-j", "TCPMSS", "--clamp-mss-to-pmtu")),)
        case w.Stamp() if view.table == "mangle":  # the input path stamps
            return (((), ("-j", "RETURN")),)
        case w.Stamp(endpoint="node-side"):  # `marks`, where the packet has its final destination
            return ()
        case w.Stamp():
            return (((), ("-g", STAMP)),)
        case w.Reject():
            return _rejected(view)
        case w.Masquerade():
            return (((), _masqueraded(then)),)
    name = type(then).__name__
    raise Unsupported(f"no iptables form of {name}", predicate=name, backend="iptables")


def _masqueraded(then: w.Masquerade) -> Words:
    """Fully random: a source port that already lies in the range would otherwise be kept, so that a tenant could
    choose, and guess, the port that the world sees."""
    ports = ("--to-ports", f"{then.ports[0]}-{then.ports[1]}", "--random-fully") if then.ports[0] else ()
    return ("-j", "MASQUERADE", *ports)


def _accepted(clause: w.Clause, view: View, stage: str) -> Words:
    """What is not a sandbox's goes on to the node's other rules."""
    others = stage in _OTHERS or when.Via("in", "bridge", negate=True) in clause.when
    return ("-g", PASS) if view.table in ("filter", "security") and not others else ("-j", "RETURN")


def _rejected(view: View) -> tuple[tuple[Words, Words], ...]:
    if view.table != "filter":  # REJECT is a target of `filter` alone
        return (((), ("-j", "DROP")),)
    prohibited = "icmp-admin-prohibited" if view.version == 4 else "icmp6-adm-prohibited"
    return (
        (("-p", "tcp"), ("-j", "REJECT", "--reject-with", "tcp-reset")),
        ((), ("-j", "REJECT", "--reject-with", prohibited)),
    )


# ---------------------------------------------------------------- chains beside the stages'


def protocol_chain(wall: w.Wall, view: View) -> XtChain:
    """Ends in the denial for every protocol but three."""
    allowed = tuple(XtRule(("-p", name), ("-j", "RETURN")) for name in ("tcp", "udp", view.icmp))
    denial = _denial(wall, view, lambda p: isinstance(p, when.Transport) and p.negate and len(p.protocols) > 1)
    return XtChain(_PROTOCOLS, (*allowed, XtRule((), denial, "protocol")))


def _denial(wall: w.Wall, view: View, asks: Callable[[when.Predicate], bool]) -> Words:
    """Where a packet goes that the clauses deny whose predicate is a chain: all of them deny it alike."""
    clauses = [one for stage in flow_stages(wall) for one in stage.clauses if any(map(asks, one.when))]
    targets = {leads_to_report(one) if is_told(one, view) else ("-g", DENY) for one in clauses}
    if len(targets) != 1:
        raise Unsupported("one chain for clauses that deny otherwise", backend="iptables")
    return targets.pop()


def floor_chains(wall: w.Wall, view: View) -> tuple[XtChain, XtChain]:
    """The floor for flows that another table translated. A set is asked about a packet; of the original destination
    there is a match with a constant network only, so this is a rule for each row, walked by such flows alone."""
    floor = wall.floor4 if view.version == 4 else wall.floor6
    opened = tuple(_opened(row) for row in wall.exceptions if row.version == view.version)
    denied = [("--ctorigdst", str(network)) for network in floor]
    outside = [("!", "--ctorigdst", str(GLOBAL6))] if view.version == 6 else []
    ends = when.FloorHit("original"), when.FloorHit("translated")
    sent, led = (_denial(wall, view, partial(eq, end)) for end in ends)
    rules = tuple(XtRule(("-m", "conntrack", *words), sent) for words in (*outside, *denied))
    # What nobody translated was sent there: it is said as it is of those.
    led_there = (XtRule(("-m", "conntrack", "--ctstate", "DNAT"), led),) if led != sent else ()
    return XtChain(_LED, (*opened, *rules)), XtChain(_FLOORED, (*opened, *led_there, XtRule((), sent)))


def _opened(row: w.OpenedService) -> XtRule:
    names = {number: name for name, number in PROTOCOL_NUMBERS.items() if name in ("tcp", "udp")}
    to = ("--ctproto", names[row.protocol], "--ctorigdst", str(_address(row)), "--ctorigdstport", str(row.port))
    return XtRule(("-m", "conntrack", *to), ("-j", "RETURN"))


def _address(row: w.OpenedService) -> Address:
    return IPv4Address(row.address) if row.version == 4 else IPv6Address(row.address)


def forward_chains(wall: w.Wall, view: View) -> tuple[XtChain, XtChain]:
    """`B9-FORWARD`, which begins with what the forward stage asks first, and the chain of everything that is neither
    from nor to the bridge."""
    head: list[w.Clause] = []
    tail: list[w.Clause] = []
    neither: list[when.Predicate] = []
    for clause in wall.stage("forward").clauses:
        if clause.then == w.Continue(SECURITY_CHAIN):
            (via,) = clause.when
            assert isinstance(via, when.Via)
            neither.append(msgspec.structs.replace(via, negate=not via.negate))
        elif not isinstance(clause.then, w.Attest):  # `B9-PASS` attests, what it accepts
            (tail if neither else head).append(clause)
    words = tuple(word for predicate in neither for part in alternatives(predicate, view) for word in part)
    others = own_chain("OTHERS")
    rules = (
        *pinned_still(view, "forward"),
        *judged_already(view),
        *stage_rules(tuple(head), view, "forward"),
        XtRule(words, ("-g", others)),
        *stage_rules(wall.stage(SECURITY_CHAIN).clauses, view, SECURITY_CHAIN),
    )
    return XtChain(SECURITY_CHAIN, rules), XtChain(others, tuple(stage_rules(tuple(tail), view, "forward")))


def pinned_still(view: View, hook: Literal["input", "forward"]) -> tuple[XtRule, ...]:
    """The pins once more, in the last table: `filter` may have let pass what `raw` would have dropped before, while it
    was flushed. An address of somebody who asked for a MAC, where no set holds both, is for `mangle` alone. Of the
    input path no replies: iptables-nft has this table after the translation there, and who answers the node on a
    published port has the node's address as source by then."""
    if view.table != "security" or pin_form(view.version, view.scene.subnet4, view.features) is None:
        return ()
    claim: Literal["ipv4", "ipv6"] = "ipv4" if view.version == 4 else "ipv6"
    inside = side_of(when.Via("in", "bridge"), view.scene)
    asking = ("-m", "conntrack", "--ctdir", "ORIGINAL") if hook == "input" else ()
    return tuple(
        XtRule((*inside, *asking, *words), ("-j", "DROP"), "spoofed source")
        for words in alternatives(when.Pinned(claim, negate=True), view)
    )


def judged_already(view: View) -> tuple[XtRule, ...]:
    """What another table of ours accepted: `filter`, before the table after it; and the other variant's `filter`, while
    a wall moves from one to the other."""
    passed = ("-m", "mark", "--mark", f"{PASSED | view.scene.mark:#x}")
    return (XtRule(passed, ("-j", "ACCEPT" if view.table == "filter" else "RETURN")),)
