"""The stages that judge frames → ebtables: what a sandbox may send at all, before the bridge learns from it.

What a frame says inside its packet (options, addresses, next headers) is judged by `raw` of the packet's family, which
every packet to the node or beyond meets; here a frame that goes there is marked as judged. ARP ends here: the bridge
answers for the gateway, nobody else is asked and nothing of it reaches the node.
"""

from collections.abc import Iterator
from itertools import product

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.xt.chains import VOUCHING, hook_chain, own_chain
from cellwall.lower.xt.limits import NARROWER, SUBSTITUTES
from cellwall.lower.xt.reports import frame_report
from cellwall.lower.xt.tables import HookName, TableName, XtChain, XtRule, XtTable
from cellwall.lower.xt.view import Words
from cellwall.lower.xt.words import side_of
from cellwall.model.addresses import LISTENER_REPORTS_MAC, mac_text, solicited_node_mac
from cellwall.model.settings import Audit

_TYPES = {"ipv4": "IPv4", "ipv6": "IPv6", "arp": "ARP"}
_HOOKS: dict[str, tuple[TableName, HookName]] = {
    "frame": ("nat", "PREROUTING"),
    "frame-input": ("filter", "INPUT"),
    "frame-forward": ("filter", "FORWARD"),
    "frame-output": ("filter", "OUTPUT"),
}
_CHAINS = {"port": VOUCHING, "port-arp": own_chain("ARP")}
_IN_PACKETS = {"port-ipv4", "port-ipv6", "port-group6"}
"""Stages that judge what only `raw` reads."""
_ARP_TO = own_chain("ARP-TO")


def lower_frames(wall: w.Wall, *, tells: bool) -> tuple[XtTable, ...]:
    """The tables of ebtables; `tells`: its rules can tell of frames. Its chains end in the verdict of their last rule:
    the policy that `-N` takes is RETURN in ebtables-nft."""
    audit = wall.reports if tells else None
    tables: dict[TableName, list[XtChain]] = {"nat": [], "filter": []}
    hooks: dict[TableName, list[HookName]] = {"nat": [], "filter": []}
    for stage, (table, hook) in _HOOKS.items():
        tables[table].append(XtChain(hook_chain(hook), tuple(_rules(wall, stage, audit))))
        hooks[table].append(hook)
    for stage, chain in _CHAINS.items():
        tables["nat"].append(XtChain(chain, tuple(_rules(wall, stage, audit))))
    tables["nat"].append(_arp_destinations(wall, audit))
    return tuple(XtTable("bridge", name, tuple(tables[name]), tuple(hooks[name])) for name in tables)


def _rules(wall: w.Wall, stage: str, audit: Audit | None) -> Iterator[XtRule]:
    for clause in wall.stage(stage).clauses:
        if stage == "port-arp" and any(isinstance(p, when.OverRate) for p in clause.when):
            assert "OverRate" in NARROWER
            continue
        if any(type(p) in SUBSTITUTES for p in clause.when):
            continue
        if sum(isinstance(p, when.FrameTo) and p.negate for p in clause.when) > 1:
            yield XtRule((), ("-j", _ARP_TO))  # ebtables asks for one destination in a rule
            continue
        target = _target(clause.then, stage, wall.scene, clause.when)
        if target:
            for conjunction in product(*(_words(p, wall.scene) for p in clause.when)):
                matches = tuple(word for part in conjunction for word in part)
                yield from _told(clause, matches, audit)
                yield XtRule(matches, target)


def _told(clause: w.Clause, matches: Words, audit: Audit | None) -> Iterator[XtRule]:
    if audit is not None and clause.subject is not None:
        yield XtRule((*matches, *frame_report(clause, audit)), ("-j", "CONTINUE"))


def _arp_destinations(wall: w.Wall, audit: Audit | None) -> XtChain:
    """Returns what is for the gateway or for everybody."""
    clauses = [one for one in wall.stage("port-arp").clauses if any(isinstance(p, when.FrameTo) for p in one.when)]
    asked = [p for clause in clauses for p in clause.when if isinstance(p, when.FrameTo)]
    told = tuple(rule for clause in clauses if clause.then == w.Drop() for rule in _told(clause, (), audit))
    known = tuple(XtRule(("-d", mac), ("-j", "RETURN")) for p in asked for mac in _macs(p, wall.scene))
    return XtChain(_ARP_TO, (*known, *told, XtRule((), ("-j", "DROP"))))


def _words(predicate: when.Predicate, scene: w.Scene) -> tuple[Words, ...]:
    match predicate:
        case when.Via():
            return (side_of(predicate, scene),)
        case when.FrameType():
            return (("-p", _TYPES[predicate.type]),)
        case when.FrameTo(target="group", negate=False):
            return (("-d", "Multicast"),)
        case when.FrameTo():
            negate = ("!",) if predicate.negate else ()
            return tuple((*negate, "-d", mac) for mac in _macs(predicate, scene))
        case when.Vouched():
            mark = f"{scene.mark:#x}"
            return ((*(("!",) if predicate.negate else ()), "--mark", f"{mark}/{mark}"),)
        case when.ArpAsksForGateway():
            form = ("-p", "ARP", "--arp-op", "Request", "--arp-htype", "1", "--arp-ptype", "0x800")
            return ((*form, "--arp-ip-src", str(scene.subnet4), "--arp-ip-dst", str(scene.gateway4)),)
        case when.Pinned(claim="arp", negate=False):
            return ((),)  # NARROWER: the answer goes back by the port the question came from
        case when.Icmp6Type(types=("mld2-listener-report",)):
            return ((),)  # NARROWER: by the group that they are sent to
        case when.Icmp6Type():
            return ()  # NARROWER: no frame is told by it, and ends as any other
    name = type(predicate).__name__
    raise Unsupported(f"no ebtables form of {name}", predicate=name, backend="iptables")


def _macs(predicate: when.FrameTo, scene: w.Scene) -> tuple[str, ...]:
    targets: dict[str, tuple[str, ...]] = {
        "gateway": (mac_text(scene.gateway_mac),),
        "broadcast": ("ff:ff:ff:ff:ff:ff",),
        "gateway-solicited": tuple(
            sorted({mac_text(solicited_node_mac(a)) for a in (scene.gateway6, scene.gateway_link_local)})
        ),
        "listener-reports": (mac_text(LISTENER_REPORTS_MAC),),
    }
    return targets[predicate.target]


def _target(then: w.Outcome, stage: str, scene: w.Scene, conditions: tuple[when.Predicate, ...]) -> Words:
    """The target of a rule; () where nothing has to be done."""
    mark = f"{scene.mark:#x}"
    judged = ("-j", "mark", "--mark-or", mark, "--mark-target", "ACCEPT")
    match then:
        case w.Drop():
            return ("-j", "DROP")
        case w.Distrust():
            return ("-j", "mark", "--mark-and", f"{~scene.mark & 0xFFFFFFFF:#x}", "--mark-target", "CONTINUE")
        case w.Continue() if then.stage in _IN_PACKETS:
            return judged
        case w.Continue() if then.stage in _CHAINS:
            return ("-j", _CHAINS[then.stage])
        case w.Vouch() if stage == "frame-forward":
            return ()  # what another bridge forwards is told apart by the kernel: `words`, Vouched
        case w.Vouch() if any(isinstance(p, when.ArpAsksForGateway) for p in conditions):
            return ("-j", "arpreply", "--arpreply-mac", mac_text(scene.gateway_mac), "--arpreply-target", "DROP")
    name = type(then).__name__
    raise Unsupported(f"no ebtables form of {name}", predicate=name, backend="iptables")
