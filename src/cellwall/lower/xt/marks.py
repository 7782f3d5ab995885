"""Chains that work on marks: an endpoint's version, its comparison with a flow's stamp, and the IPv6 pin.

All of them stand in the mangle table, the only one where a set maps to a mark, and leave one of three values for the
tables after it: LIVE, NOBODY, or the version of the endpoint on the bridge's side.
"""

from typing import Literal

import msgspec

from cellwall.lower.xt.clauses import PASS, STAMP, VOUCH
from cellwall.lower.xt.features import pin_form
from cellwall.lower.xt.sets import set_name
from cellwall.lower.xt.tables import XtChain, XtRule
from cellwall.lower.xt.words import LIVE, NOBODY, PASSED, View, Words

_LIVE_CHAIN = "B9-LIVE"
_OF_SOURCE, _OF_DESTINATION = "B9-OF-SRC", "B9-OF-DST"
_OUTGOING = "B9-STAMP-DST"
PIN_PROGRAM = "B9-PIN-MAC"

# Classic BPF (linux/bpf_common.h, linux/filter.h): loads relative to SKF_LL_OFF read the frame's header, one at
# SKF_AD_OFF + SKF_AD_MARK the packet's mark. Matches where the two differ.
_LINK_HEADER, _MARK = 0xFFE00000, 0xFFFFF000 + 20
_SOURCE_MAC = 6
_LOAD_WORD, _LOAD_HALF, _TO_X, _JUMP_EQUAL_X, _RETURN = 0x20, 0x28, 0x07, 0x1D, 0x06
_MATCH, _NO_MATCH = 0xFFFFFFFF, 0


def _differs(load: int, offset: int) -> str:
    program = [
        (_LOAD_WORD, 0, 0, _MARK),
        (_TO_X, 0, 0, 0),
        (load, 0, 0, _LINK_HEADER + _SOURCE_MAC + offset),
        (_JUMP_EQUAL_X, 1, 0, 0),
        (_RETURN, 0, 0, _MATCH),
        (_RETURN, 0, 0, _NO_MATCH),
    ]
    return f"{len(program)}," + ",".join(" ".join(map(str, step)) for step in program)


def _set_mark(value: int) -> XtRule:
    return XtRule((), ("-j", "MARK", "--set-xmark", f"{value:#x}/0xffffffff"))


def _map(name: str, side: Literal["src", "dst"]) -> XtRule:
    return XtRule((), ("-j", "SET", "--map-set", name, side, "--map-mark"))


def pin_chain(view: View) -> tuple[XtChain, ...]:
    """Where no set holds (address, MAC): the address maps to each half of its endpoint's MAC in turn, and a program
    compares. Ends as the pins do, with the packet vouched for; empty where a set does it."""
    if pin_form(view.version, view.scene.subnet4, view.features) != "program":
        return ()
    rules: list[XtRule] = []
    for name, load, offset in (("oui", _LOAD_HALF, 0), ("pin", _LOAD_WORD, 2)):
        differs: Words = ("-m", "bpf", "--bytecode", _differs(load, offset))
        drop = XtRule(differs, ("-j", "DROP"), "spoofed source")
        rules += [_set_mark(NOBODY), _map(set_name(name, view.version), "src"), drop]
    return (XtChain(PIN_PROGRAM, (*rules, _set_mark(view.scene.mark))),)


def version_chains(view: View) -> tuple[XtChain, ...]:
    """Give a packet of a sandbox its endpoint's version, or LIVE where its flow carries that."""
    name = set_name("version", view.version)
    chains = []
    sides: tuple[tuple[str, Literal["src", "dst"]], ...] = ((_OF_SOURCE, "src"), (_OF_DESTINATION, "dst"))
    for chain, side in sides:
        unlike = XtRule((), ("-j", "CONNMARK", "--restore-mark", "--nfmask", "0x0", "--ctmask", "0xffffffff"))
        live = XtRule(("-m", "mark", "--mark", view.only(0)), ("-g", _LIVE_CHAIN))
        # NOBODY has bit 31, which no stamp has: xored with one it is never 0.
        rules = (_set_mark(NOBODY), _map(name, side), unlike, live, _set_mark(NOBODY), _map(name, side))
        chains.append(XtChain(chain, rules))
    return (*chains, XtChain(_LIVE_CHAIN, (_set_mark(LIVE),)))


def version_rules(view: View, direction: Literal["in", "out"]) -> XtRule:
    """Lead packets from or to the bridge there."""
    inwards = direction == "in"
    return XtRule(("-i" if inwards else "-o", view.scene.bridge), ("-j", _OF_SOURCE if inwards else _OF_DESTINATION))


def outgoing_chains(view: View) -> tuple[XtChain, XtChain]:
    """The stamp of the node's own flows to sandboxes, after every translation. Not in OUTPUT: a mark that changes
    there has the packet routed anew. A forwarded flow has been stamped with the same version already."""
    new = ("-o", view.scene.bridge, "-m", "conntrack", "--ctstate", "NEW")
    stamp = (
        _set_mark(NOBODY),
        _map(set_name("version", view.version), "dst"),
        XtRule(("-m", "mark", "!", "--mark", view.only(NOBODY)), save_mark(view)),
        _set_mark(view.scene.mark),
    )
    passed = ("-m", "mark", "--mark", f"{PASSED | view.scene.mark:#x}")
    left = msgspec.structs.replace(_set_mark(view.scene.mark), matches=passed)
    return XtChain("B9-POSTROUTING", (left, XtRule(new, ("-j", _OUTGOING)))), XtChain(_OUTGOING, stamp)


def save_mark(view: View) -> Words:
    """The packet's version becomes its flow's stamp."""
    return ("-j", "CONNMARK", "--save-mark", "--nfmask", view.bits, "--ctmask", "0xffffffff")


def closing_chains(view: View) -> tuple[XtChain, XtChain]:
    """Where the filter table, or the one after it, accepts: by a stamp, or as it is."""
    final = ("-j", "ACCEPT") if view.table == "filter" else ("-j", "RETURN")
    passed = (_set_mark(PASSED | view.scene.mark), XtRule((), final))
    nobody = XtRule(("-m", "mark", "--mark", f"{LIVE:#x}/{LIVE:#x}"), ("-j", "DROP"), "no endpoint")
    return XtChain(PASS, passed), XtChain(STAMP, (nobody, XtRule((), save_mark(view)), *passed))


def vouch_chain(view: View) -> XtChain:
    """Where the pins accept."""
    mark = f"{view.scene.mark:#x}"
    return XtChain(VOUCH, (XtRule((), ("-j", "MARK", "--set-xmark", f"{mark}/{mark}")),))
