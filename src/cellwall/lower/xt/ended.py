"""TCP flows of sandboxes and of their clients that have ended: how many are kept up, and that none begins again.

iptables tells a flow's state no more than nftables does, but when it is forgotten: no open flow is within the seconds
that `timeouts` gives an ended one, and one that was reset goes sooner than one that finished.

*Kept up.* `B9-ENDED`, behind connection tracking, leads what a sandbox sends in such a flow to a count by its address.
Of what it gets, the address is seen only in the forward path, and what a router drops on the way there (a TTL that is
used up, IP options, a link address that is not its own, another interface) has kept its flow all the same. So behind
one such packet of an ended flow `raw` drops all that come between its ends until the flow is gone.

*Begun again.* In a flow that was reset, connection tracking takes a SYN and its answer for an open one, which no count
has; but not with another packet between the two, and a SYN behind a RST of the same end's is a new flow's
(net/netfilter/nf_conntrack_proto_tcp.c, `last_index`). So the last packet that kept the flow came before the SYN, from
one end or the other. Each end's are noted by what they are from and to, a second longer than they keep it; `raw` drops
a SYN behind a noted one of the end that opened the flow, and an answer behind one of the other end's. One of the two
never meets the flow.

ipset knows two addresses and one port, and what comes from outside comes to the node's address, which all share:
another's answers to the same port, from another port of the server's; the same client's to another's published port.
So where the set has it, a table of hashlimit is asked, which has both ports; alone, that would have a place for every
answer to the node, and for every client. One token, and a day until the next, make an entry of it that lasts as long as
packets come. Who is not in the table takes that token by the first packet, so a second one within the seconds of the
note is dropped. That will not do where all packets are asked, as of those flows whose packets `raw` drops: their set
has each twice, by the port of either end, and what is dropped is in it by both.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.lower.xt.chains import own_chain
from cellwall.lower.xt.reports import is_told, leads_to_report
from cellwall.lower.xt.sets import ENDS, set_name
from cellwall.lower.xt.tables import XtChain, XtRule
from cellwall.lower.xt.view import End, View, Words
from cellwall.lower.xt.words import BEGINNING, KNOWN_ENDED, member, of_reset_flow, side_of

Way = Literal["ORIGINAL", "REPLY"]
_ENDED, _GOT, _STRAY = own_chain("ENDED"), own_chain("ENDED-GOT"), own_chain("STRAY")
_KEPT: dict[tuple[End, Way], tuple[str, str]] = {
    ("src", "ORIGINAL"): (own_chain("KEPT-SRC"), "lingering"),
    ("dst", "REPLY"): (own_chain("KEPT-DST"), "lingering"),
    ("src", "REPLY"): (own_chain("CLIENTS-SRC"), "lingeringclients"),
    ("dst", "ORIGINAL"): (own_chain("CLIENTS-DST"), "lingeringclients"),
}
"""Which address of a packet is a sandbox's, and its direction → where it counts, and what is noted beyond the rate."""
_FASTEST = 1_000_000  # packets a second that a limit can say
_FLOWS = ("--hashlimit-htable-max", "262144", "--hashlimit-htable-expire", "4000")
"""Room for as many flows as the table of connections has by default, until the bucket of each is full again."""


def said_of_endpoints(wall: w.Wall) -> w.Wall:
    """The wall with who keeps too many told as what is counted here: an endpoint, not its tenant."""
    stages = tuple(w.Stage(stage.name, tuple(map(_of_endpoint, stage.clauses))) for stage in wall.stages)
    return msgspec.structs.replace(wall, stages=stages)


def _of_endpoint(clause: w.Clause) -> w.Clause:
    if not any(isinstance(one, when.TenantFull) for one in clause.when):
        return clause
    return msgspec.structs.replace(clause, why=clause.why.replace(" of the tenant", ""))


def without_ended(clauses: tuple[w.Clause, ...]) -> tuple[w.Clause, ...]:
    """What else a stage asks of a packet: that its flow has ended is asked before all of it, for both directions."""
    return tuple(one for one in clauses if not any(isinstance(p, when.EndedFlow) for p in one.when))


def ended_rules(view: View) -> Iterator[XtRule]:
    """First in `mangle`: lead packets of ended flows there."""
    if view.features.timeouts:
        yield XtRule(KNOWN_ENDED, ("-j", _ENDED))


def kept_rules(wall: w.Wall, view: View) -> Iterator[XtRule]:
    """In the forward path of `mangle`: lead those that a sandbox gets to their count."""
    if view.features.timeouts and _rate(wall):
        inwards = side_of(when.Via("out", "bridge"), view.scene)
        yield XtRule((*inwards, *KNOWN_ENDED), ("-j", _GOT))


def stray_rules(wall: w.Wall, view: View) -> Iterator[XtRule]:
    """Last in `raw`: drop what nobody would count."""
    if view.features.timeouts and _rate(wall):
        both = [word for ends in ENDS.values() for word in member(set_name("stray", view.version), *ends)]
        yield XtRule(("-p", "tcp", *both), ("-j", "DROP"), "keeps an ended connection, and is not forwarded")


def ended_chains(wall: w.Wall, view: View) -> Iterator[XtChain]:
    """The chains that those lead to."""
    if not view.features.timeouts:
        return
    of_the_node = ("-m", "conntrack", "!", "--ctorigsrc", view.subnet, "!", "--ctreplsrc", view.subnet)
    yield XtChain(_ENDED, (XtRule(of_the_node, ("-j", "RETURN")), *_noted(wall, view), *_counted(wall, view)))
    if rate := _rate(wall):
        yield XtChain(_STRAY, tuple(XtRule((), _note("stray", ends, view)) for ends in ENDS))
        yield XtChain(_GOT, tuple(_by_way("dst")))
        for (end, _), (chain, note) in _KEPT.items():
            yield _kept_chain(chain, note, end, rate, view)


def _noted(wall: w.Wall, view: View) -> Iterator[XtRule]:
    reset = ("-m", "conntrack", "--ctexpire", f"0:{w.CLOSE}", "--ctdir")
    kept: tuple[tuple[Literal["original", "reply"], Words], ...] = (
        ("reply", (*reset, "REPLY")),
        ("original", ("-p", "tcp", "-m", "tcp", "--tcp-flags", "SYN,RST", "NONE", *reset, "ORIGINAL")),
    )
    for direction, words in kept:
        yield XtRule(words, _note("reset", direction, view))  # first: what the table has no room for begins no flow
        yield XtRule((*words, *of_reset_flow("upto", view.version)), ())
    denial = wall.stage("begun-again").clauses[-1]
    end = leads_to_report(denial) if is_told(denial, view) else ("-j", "DROP")
    yield XtRule((*BEGINNING, "-m", "conntrack", "--ctdir", "ORIGINAL"), end, denial.why)


def _counted(wall: w.Wall, view: View) -> Iterator[XtRule]:
    if not _rate(wall):
        return
    outwards = side_of(when.Via("in", "bridge"), view.scene)
    yield from _by_way("src", *outwards)
    for words in _not_forwarded(view):
        yield XtRule(words, ("-g", _STRAY))


def _by_way(whose: End, *words: str) -> Iterator[XtRule]:
    for (end, way), (chain, _) in _KEPT.items():
        if end == whose:
            yield XtRule((*words, "-m", "conntrack", "--ctdir", way), ("-g", chain))


def _not_forwarded(view: View) -> tuple[Words, ...]:
    """What no sandbox gets although connection tracking has seen it: one of these."""
    last_hop = ("-m", "ttl", "--ttl-lt", "2") if view.version == 4 else ("-m", "hl", "--hl-lt", "2")
    options: tuple[Words, ...] = (("-m", "u32", "!", "--u32", "0>>24&0xF=5"),) if view.version == 4 else ()
    to_others = ("-m", "pkttype", "!", "--pkt-type", "unicast")
    return (last_hop, *options, to_others, side_of(when.Via("in", "uplink", negate=True), view.scene))


def _kept_chain(chain: str, note: str, end: End, rate: int, view: View) -> XtChain:
    """Of one flow a packet a second counts. Beyond the rate the address is noted, and no TCP flow of its begins."""
    ends = ("--hashlimit-mode", "srcip,srcport,dstip,dstport", "--hashlimit-name", f"b9kf{view.version}", *_FLOWS)
    often = ("-m", "hashlimit", "--hashlimit-above", "1/sec", "--hashlimit-burst", "4", *ends)
    above = ("-m", "hashlimit", "--hashlimit-above", f"{rate}/sec", "--hashlimit-burst", str(rate))
    name = f"b9{'k' if note == 'lingering' else 'c'}{end[0]}{view.version}r{rate}"
    table = ("--hashlimit-mode", f"{end}ip", "--hashlimit-name", name, "--hashlimit-htable-max", "65536")
    full = ("-j", "SET", "--add-set", set_name(note, view.version), end, "--exist")
    return XtChain(chain, (XtRule(often, ("-j", "RETURN")), XtRule((*above, *table), full)))


def _note(name: str, direction: Literal["original", "reply"], view: View) -> Words:
    return ("-j", "SET", "--add-set", set_name(name, view.version), ",".join(ENDS[direction]), "--exist")


def _rate(wall: w.Wall) -> int:
    """How many packets of ended flows an endpoint may have in a second, and at once; 0: any number."""
    stage = next((one for one in wall.stages if one.name == "ended"), None)
    bounds = [p for clause in (stage.clauses if stage else ()) for p in clause.when]
    rates = [p.rate for p in bounds if isinstance(p, when.TenantOverRate) and p.what == "ended"]
    return min(*rates, _FASTEST) if rates else 0
