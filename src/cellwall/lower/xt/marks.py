"""Chains that work on marks: an endpoint's version, its comparison with a flow's stamp, and the IPv6 pin.

All of them stand in the mangle table, the only one where a set maps to a mark, and leave one of three values for the
tables after it: LIVE, NOBODY, or the version of the endpoint on the bridge's side.

A flow whose stamp is another is a former endpoint's, or has an earlier version of this one. Versions are given out in
order, round and round, so it is a former one's exactly if the stamp comes before the first version of the present
holder of the address, less than half way round. No match compares two numbers: halves of both are brought into one
mark, and a program compares those.
"""

from collections.abc import Iterator
from typing import Literal

from cellwall.compile import predicates as when
from cellwall.lower.xt.chains import hook_chain, own_chain
from cellwall.lower.xt.clauses import PASS, STAMP, VOUCH, chain_of
from cellwall.lower.xt.features import pin_form
from cellwall.lower.xt.programs import (
    DIFFERENT,
    FIRST_IS_LESS,
    LOAD_HALF,
    LOAD_WORD,
    SECOND_IS_FORMER,
    is_source_mac,
)
from cellwall.lower.xt.reports import former_flow, is_told, leads_to_report
from cellwall.lower.xt.sets import set_name
from cellwall.lower.xt.tables import XtChain, XtRule
from cellwall.lower.xt.timeouts import ended, of_client
from cellwall.lower.xt.view import LIVE, NOBODY, OWN, PASSED, PINNED, End, View
from cellwall.lower.xt.words import BEGINNING, member, side_of

_LIVE_CHAIN = own_chain("LIVE")
_OF_SOURCE, _OF_DESTINATION = own_chain("OF-SRC"), own_chain("OF-DST")
_PIN_CHAINS = (own_chain("PIN-MAC"), own_chain("PIN-MAC-REST"), own_chain("PINNED"))

_LOW, _HIGH = 0x0000FFFF, 0xFFFF0000


def _set_mark(value: int) -> XtRule:
    return XtRule((), ("-j", "MARK", "--set-xmark", f"{value:#x}/0xffffffff"))


def _map(name: str, end: End) -> XtRule:
    return XtRule((), ("-j", "SET", "--map-set", name, end, "--map-mark"))


def pin_chains(view: View) -> tuple[XtChain, ...]:
    """Where no set holds (address, MAC), for endpoints that asked for a MAC: the address maps to each part of it,
    and programs compare. Ends as the pins do, with the packet vouched for; empty where a set does it."""
    if pin_form(view.version, view.scene.subnet4, view.features) != "program":
        return ()
    drop = XtRule((), ("-j", "DROP"), "spoofed source")
    chains = []
    for at, (name, load, offset) in enumerate((("oui", LOAD_HALF, 0), ("pin", LOAD_WORD, 2))):
        part = (_set_mark(NOBODY), _map(set_name(name, view.version), "src"))
        same = XtRule(is_source_mac(load, offset), ("-g", _PIN_CHAINS[at + 1]))
        chains.append(XtChain(_PIN_CHAINS[at], (*part, same, drop)))
    return (*chains, XtChain(_PIN_CHAINS[-1], (_set_mark(PINNED | view.scene.mark),)))


def unpinned_rule() -> XtRule:
    """Lead what comes from the bridge and `raw` has not judged, as after a flush of that, to the same pins."""
    return XtRule(("-m", "mark", "!", "--mark", f"{PINNED:#x}/{PINNED:#x}"), ("-j", chain_of("early-tenant")))


def pin_rules(view: View) -> tuple[XtRule, ...]:
    """Lead packets of such endpoints there."""
    asked = member(set_name("pin", view.version), "src")
    return tuple(XtRule(asked, ("-j", chain.name)) for chain in pin_chains(view)[:1])


def version_chains(view: View) -> tuple[XtChain, ...]:
    """Give a packet of a sandbox its endpoint's version, or LIVE where its flow carries that; drop it where its flow is
    a former endpoint's."""
    chains = []
    ends: tuple[tuple[str, str, End], ...] = (
        (_OF_SOURCE, own_chain("KIN-SRC"), "src"),
        (_OF_DESTINATION, own_chain("KIN-DST"), "dst"),
    )
    for chain, kin, end in ends:
        version = (_set_mark(NOBODY), _map(set_name("version", view.version), end))
        unlike = XtRule((), ("-j", "CONNMARK", "--restore-mark", "--nfmask", "0x0", "--ctmask", "0xffffffff"))
        live = XtRule(("-m", "mark", "--mark", "0x0"), ("-g", _LIVE_CHAIN))
        stamped = XtRule(("-m", "connmark", "!", "--mark", "0x0"), ("-j", kin))
        # NOBODY has bit 31, which no stamp has: xored with one it is never 0.
        judged = (stamped,) if view.features.program else ()
        chains.append(XtChain(chain, (*version, unlike, live, *judged, *version)))
        if view.features.program:
            chains.append(_kin_chain(kin, view, end))
    return (*chains, XtChain(_LIVE_CHAIN, (_set_mark(LIVE),)))


def _kin_chain(name: str, view: View, end: End) -> XtChain:
    """Drops a packet whose flow's stamp comes before the first version of the address's holder, or where nobody holds
    it, and returns otherwise. First the upper halves: the first version's stays where it is, the stamp's comes below
    it; where these are equal the lower ones, in the opposite places."""
    first = (_set_mark(NOBODY), _map(set_name("born", view.version), end))
    denial = former_flow("sender" if end == "src" else "receiver")
    upper = ("--nfmask", f"{_LOW:#x}", "--ctmask", f"{_HIGH:#x}", "--right-shift-mark", "16")
    lower = ("--nfmask", f"{_HIGH:#x}", "--ctmask", f"{_LOW:#x}", "--left-shift-mark", "16")
    former = (leads_to_report(denial) if is_told(denial, view) else ("-j", "DROP")), denial.why
    return XtChain(
        name,
        (
            *first,
            XtRule(("-m", "mark", "--mark", f"{NOBODY:#x}"), *former),
            XtRule((), ("-j", "CONNMARK", "--restore-mark", *upper)),
            XtRule(SECOND_IS_FORMER, *former),
            XtRule(DIFFERENT, ("-j", "RETURN")),
            *first,
            XtRule((), ("-j", "CONNMARK", "--restore-mark", *lower)),
            XtRule(FIRST_IS_LESS, *former),
        ),
    )


def unprioritize_rules(view: View) -> Iterator[XtRule]:
    """In the forward path of `mangle`: a packet of a sandbox waits in the node's queues as everybody's do. Of IPv6 the
    kernel reads no priority when it forwards."""
    if view.version == 4 and view.features.priority:
        yield XtRule(side_of(when.Via("in", "bridge"), view.scene), ("-j", "CLASSIFY", "--set-class", "0:0"))


def version_rules(view: View, direction: Literal["in", "out"]) -> XtRule:
    """Lead packets from or to the bridge there."""
    inwards = direction == "in"
    return XtRule(("-i" if inwards else "-o", view.scene.bridge), ("-j", _OF_SOURCE if inwards else _OF_DESTINATION))


def outgoing_chains(view: View) -> tuple[XtChain, ...]:
    """Before a packet leaves: what was accepted keeps the node's mark alone; what goes to the bridge and was not, has
    that mark only where another wall set it. The node's own flows to sandboxes are stamped here, after every
    translation; not in OUTPUT, where a mark that changes has the packet routed anew."""
    judged, own = own_chain("JUDGED"), own_chain("OWN")

    def marked(value: int, *target: str) -> XtRule:
        return XtRule(("-m", "mark", "--mark", f"{value:#x}"), target)

    leaving = (
        marked(PASSED | view.scene.mark, "-g", judged),
        marked(OWN | view.scene.mark, "-g", own),
        XtRule(("-o", view.scene.bridge), ("-j", "MARK", "--set-xmark", f"0x0/{view.bits}")),
    )
    stamp = (
        XtRule((), ("-j", _OF_DESTINATION)),
        marked(LIVE, "-g", judged),
        marked(NOBODY, "-g", judged),
        XtRule(("-m", "conntrack", "--ctstate", "NEW"), ("-j", "CONNMARK", "--save-mark")),
        XtRule((), ("-g", judged)),
    )
    return (
        XtChain(hook_chain("POSTROUTING"), leaving),
        XtChain(own, stamp),
        XtChain(judged, (_set_mark(view.scene.mark),)),
    )


def closing_chains(view: View) -> tuple[XtChain, XtChain]:
    """Where the filter table, or the one after it, accepts: as it is, or by a stamp. The wall in nftables, while that
    goes or comes, may have set the node's bit in between, which no version has."""
    final = XtRule((), ("-j", "ACCEPT") if view.table == "filter" else ("-j", "RETURN"))
    nobody = XtRule(("-m", "mark", "--mark", f"{LIVE:#x}/{LIVE:#x}"), ("-j", "DROP"), "no endpoint")
    save = XtRule((), ("-j", "CONNMARK", "--save-mark", "--nfmask", view.bits, "--ctmask", "0xffffffff"))
    passed = (_set_mark(PASSED | view.scene.mark), final)
    # Without `mangle`, as while the wall is laid: a stamp that no endpoint has would end the flow.
    unknown = XtRule(("-m", "mark", "--mark", f"{PINNED | view.scene.mark:#x}"), ("-g", PASS))
    return XtChain(PASS, passed), XtChain(STAMP, (unknown, nobody, save, *passed))


def vouch_chain(view: View) -> XtChain:
    """Where the pins accept. A TCP flow that begins with this packet is forgotten soon after its end; one that goes on
    has what it began with."""
    mark = f"{PINNED | view.scene.mark:#x}"
    vouched = XtRule((), ("-j", "MARK", "--set-xmark", f"{mark}/0xffffffff"))
    forgotten = XtRule(("-p", "tcp"), ("-j", "CT", "--timeout", ended(view.version).name))
    before = view.features.timeouts and view.table == "raw"  # the one table of that target
    return XtChain(VOUCH, (vouched, forgotten) if before else (vouched,))


def own_flow_rules(view: View) -> Iterator[XtRule]:
    """In `raw`: the same of the node's own to a sandbox, as those of a proxy."""
    if view.features.timeouts:
        begins = (*side_of(when.Via("out", "bridge"), view.scene), *BEGINNING)
        yield XtRule(begins, ("-j", "CT", "--timeout", ended(view.version).name))


def published_rules(view: View) -> Iterator[XtRule]:
    """In `raw`: the same of a client's flow to a published port, and soon if the client does not complete it."""
    if view.features.timeouts:
        published = (
            *side_of(when.Via("in", "uplink"), view.scene),
            *BEGINNING,
            *member(set_name("published", view.version), "dst", "dst"),
        )
        yield XtRule(published, ("-j", "CT", "--timeout", of_client(view.version).name))
