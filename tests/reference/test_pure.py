"""The reference model's eight tests, pure half: a packet, what surrounds it → its verdict and the rule that decides.

The packet half (`test_packets.py`) has the same names: there a hostile sandbox tries it on a kernel.
"""

from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cellwall.adapters.record.store import Store
from cellwall.engine.node.foundation import enable_bridge_netfilter
from cellwall.engine.site import Site
from cellwall.errors import InvalidSpec
from cellwall.lab import addresses as at
from cellwall.model.floor import METADATA
from cellwall.model.network import Network
from cellwall.model.settings import Settings, parse_openings
from cellwall.names import SECURITY_CHAIN
from cellwall.ruleset.compose import arp_packet, flow_packet
from cellwall.ruleset.context import Context
from cellwall.ruleset.evaluate import evaluate
from cellwall.ruleset.select import without_layers
from cellwall.ruleset.types import Ruleset
from reference.ranges import CRITICAL, NEXT_TO_THEM, PRIVATE, ends
from reference.ranges import METADATA as REFERENCE_METADATA
from scene import (
    FOUR,
    GATEWAY4,
    GATEWAY6,
    OTHER,
    PUBLIC4,
    PUBLIC6,
    SCENE,
    WEB,
    Fate,
    Scene,
    directed,
    flow_of,
    judged,
    number,
)

BRIDGED = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


class Settable:
    """Kernel settings as a kernel keeps them: a module brings its own, a read-only one takes no value."""

    def __init__(self, values: dict[str, str], module: dict[str, str] | None = None, *, readonly: bool = False) -> None:
        self.values, self.module, self.readonly = dict(values), module, readonly

    def read(self, name: str) -> str | None:
        return self.values.get(name)

    def write(self, name: str, value: str) -> bool:
        if name not in self.values or self.readonly:
            return False
        self.values[name] = value
        return True

    def load_module(self, name: str) -> bool:
        if name != "br_netfilter" or self.module is None:
            return False
        self.values |= self.module
        return True


OFF, ON = dict.fromkeys(BRIDGED, "0"), dict.fromkeys(BRIDGED, "1")


@pytest.mark.parametrize(
    ("kernel", "possible"),
    [
        pytest.param(lambda: Settable(OFF), True, id="off"),
        pytest.param(lambda: Settable(ON), True, id="on already"),
        pytest.param(lambda: Settable({}, OFF), True, id="module not loaded"),
        pytest.param(lambda: Settable({}), False, id="no module"),
        pytest.param(lambda: Settable(OFF, readonly=True), False, id="not writable"),
    ],
)
def test_enable_bridge_netfilter(kernel: Any, possible: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernel = kernel()
    own = {"settings": Settings(), "sysctls": kernel, "journal": Store(tmp_path, "boot")}
    site = Site(**{**dict.fromkeys(Site.__struct_fields__), **own})  # nobody asks for anything else
    for _ in range(2):  # once more changes nothing
        assert enable_bridge_netfilter(site) is possible
        assert ([kernel.read(setting) for setting in BRIDGED] == ["1", "1"]) is possible
    assert ("br_netfilter" in caplog.text) is not possible
    site.journal.close()  # type: ignore[attr-defined]
    # Whatever came of it, a frame to a neighbour ends before it is bridged: without br_netfilter, the bridge's own
    # tables are all that sees it.
    seen = SCENE.ruleset if possible else Ruleset(tuple(t for t in SCENE.ruleset.tables if t.family == "bridge"))
    for to in (OTHER.address4, OTHER.address6):
        fate = SCENE.under(seen).egress(WEB, str(to), gateway=OTHER.mac)
        assert judged(fate) == ("drop", "no frame a sandbox may send", "PIN")
        unpinned = SCENE.under(without_layers(seen, {"PIN"})).egress(WEB, str(to), gateway=OTHER.mac)
        assert unpinned.layer != "PIN"
        assert (unpinned.verdict == "accept") is not possible


def test_security_chain_constants() -> None:
    network = Network()
    assert SECURITY_CHAIN == "B9-FORWARD"
    assert (network.bridge, network.veth_prefix) == ("b9_br0", "b9h")
    assert (str(network.subnet4), str(network.gateway4)) == ("192.168.0.0/20", GATEWAY4)
    assert (str(network.subnet6), str(network.gateway6)) == ("fd00:abcd::/64", GATEWAY6)
    chain = _chain(SCENE, SECURITY_CHAIN)
    assert chain == _chain(Scene(), SECURITY_CHAIN)  # the same without any endpoint
    assert chain.hook is None  # reached from the forward hook, by both directions
    forwarded = [
        SCENE.egress(WEB, PUBLIC4), SCENE.egress(WEB, PUBLIC6), SCENE.egress(WEB, "192.168.0.3"),
        SCENE.egress(WEB, "10.0.0.5"), SCENE.egress(WEB, at.INFRA4), SCENE.ingress(at.LAN4, at.NODE4),
        SCENE.ingress(at.LAN6, at.NODE6), SCENE.answer(WEB, at.LAN4), SCENE.answer(WEB, at.LAN6),
    ]  # fmt: skip
    for fate in forwarded:
        assert SECURITY_CHAIN in [step.chain for step in fate.evaluation.path]
    assert SECURITY_CHAIN not in [step.chain for step in SCENE.ingress(at.LAN4, at.NODE4, port=22).evaluation.path]


def _chain(scene: Scene, name: str) -> Any:
    return next(chain for table in scene.ruleset.tables for chain in table.chains if chain.name == name)


@pytest.mark.parametrize("prefix", CRITICAL)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_security_rules_coverage(prefix: str, protocol: str) -> None:
    for address in ends(prefix):
        fate = SCENE.egress(WEB, str(address), protocol, 80)
        assert fate.verdict == "reject"
        # The node's own addresses and its bridge end earlier, before anything is routed.
        assert (fate.reason, fate.layer) in (
            ("the floor", "FWD"),
            ("the node", "PRE"),
            ("container to container", "FWD"),
        )
    for address in NEXT_TO_THEM:
        assert judged(SCENE.egress(WEB, address, protocol, 80)) == ("accept", "egress", "")


@pytest.mark.parametrize("to", [OTHER, FOUR, WEB], ids=["another", "one without IPv6", "itself"])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp", "47"])
def test_container_isolation_rules(to: Any, protocol: str) -> None:
    addresses = [str(address) for address in (to.address4, to.address6) if address is not None]
    for address, (state, mark) in product(addresses, [("new", 0), ("established", 0), ("established", WEB.generation)]):
        # Routed by the node. Before "established": not even a flow that was accepted passes.
        routed = SCENE.egress(WEB, address, protocol, 80, state=state, mark=mark)  # type: ignore[arg-type]
        if protocol == "47" and ":" in address:
            assert judged(routed) == ("drop", "IPv6 extension header", "PIN")
        else:
            assert judged(routed) == ("reject", "container to container", "FWD")
        # Bridged, by the neighbour's own MAC.
        bridged = SCENE.egress(WEB, address, protocol, 80, gateway=to.mac, state=state, mark=mark)  # type: ignore[arg-type]
        assert judged(bridged) == ("drop", "no frame a sandbox may send", "PIN")
    open_ = SCENE.under(without_layers(SCENE.ruleset, {"FWD"}))
    if protocol != "47":  # it is that rule which isolates: without its layer the same packet passes
        assert open_.egress(WEB, addresses[0], protocol, 80).verdict == "accept"


SOURCES = {
    "outside the subnet": ("1.2.3.4", "2a00::9"),
    "a neighbour's": ("192.168.0.3", "fd00:abcd::3"),
    "nobody's": ("192.168.9.9", "fd00:abcd::909"),
    "the gateway's": (GATEWAY4, GATEWAY6),
    "the node's": (at.NODE4, at.NODE6),
    "loopback": ("127.0.0.1", "::1"),
    "none": ("0.0.0.0", "::"),
}


@pytest.mark.parametrize("whose", SOURCES)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_anti_spoofing_logic(whose: str, protocol: str) -> None:
    for source, to in zip(SOURCES[whose], (PUBLIC4, PUBLIC6), strict=True):
        fate = SCENE.egress(WEB, to, protocol, source=source)
        reason = "spoofed IPv6 source" if ":" in source else "spoofed IPv4 source or options"
        assert judged(fate) == ("drop", reason, "PIN")  # in silence, and before the bridge learns
        assert {step.family for step in fate.evaluation.path} == {"bridge"}
        stolen = SCENE.egress(WEB, to, protocol, source=source, mac=OTHER.mac)
        assert (stolen.verdict, stolen.layer) == ("drop", "PIN")
        assert SCENE.egress(WEB, to, protocol).verdict == "accept"
    # Nobody is talked into believing that the address is here.
    lie = arp_packet(2, sender_mac=WEB.mac, sender=number(SOURCES[whose][0]), target=number(GATEWAY4))
    assert judged(SCENE.frame(WEB, lie)) == ("drop", "ARP other than a request for the gateway", "PIN")


def test_expose_port_security() -> None:
    for client, node in ((at.LAN4, at.NODE4), (at.LAN6, at.NODE6)):
        reached = SCENE.ingress(client, node, "tcp", 8080)
        assert (reached.verdict, reached.reason, reached.mark) == ("accept", "stamp-ingress", WEB.generation)
        assert SECURITY_CHAIN in [step.chain for step in reached.evaluation.path]
        answered = SCENE.answer(WEB, client, mark=WEB.generation)  # new and established, and nothing beside
        assert answered.verdict == "accept"
        assert judged(SCENE.answer(OTHER, client)) == ("drop", "not exposed", "FWD")
        direct = SCENE.ingress(client, str(WEB.address6 if ":" in client else WEB.address4), "tcp", 80)
        assert judged(direct) == ("drop", "direct routing to a sandbox", "RAW")
    # The node interface only, a destination of the node only, and no tenant at all.
    for source, by, to in ((at.INFRA4, "eth1", at.NODE4), (at.OTHER4, "docker0", at.NODE_OTHER4)):
        assert SCENE.ingress(source, to, "tcp", 8080, by=by).evaluation.translation is None
    for tenant, to in product((WEB, OTHER), (at.NODE4, at.NODE6, at.NODE_INFRA4, GATEWAY4, GATEWAY6)):
        pivot = SCENE.egress(tenant, to, "tcp", 8080)
        assert judged(pivot) == ("reject", "the node", "PRE")
    for to in (PUBLIC4, PUBLIC6):  # the same port number elsewhere is not captured
        translation = SCENE.egress(OTHER, to, "tcp", 8080).evaluation.translation
        assert translation is not None
        assert translation.kind == "masquerade"


@pytest.mark.parametrize("state", ["new", "established"])
def test_expose_port_names_both_interfaces(state: str) -> None:
    """Towards the bridge, from another interface than the node's: not even a translated flow, not even a live one."""
    coming = flow_of(at.INFRA4, at.NODE4, "tcp", 8080)
    inside = flow_of(at.INFRA4, "192.168.0.2", "tcp", 80)
    flow = msgspec.structs.replace(
        directed(coming, state, mark=WEB.generation),  # type: ignore[arg-type]
        reply=inside.reversed(),
        status=frozenset(("dnat",)),
    )
    context = Context("inet", "forward", iifname="eth1", oifname="b9_br0", flow=flow)
    assert judged(SCENE.walk(flow_packet(inside), [context])) == ("drop", "not by the default interface", "FWD")
    same = msgspec.structs.replace(context, iifname="eth0")
    assert evaluate(SCENE.ruleset, flow_packet(inside), same).verdict == "accept"


@pytest.mark.parametrize("prefix", PRIVATE)
def test_private_network_blocking(prefix: str) -> None:
    open_ = SCENE.under(without_layers(SCENE.ruleset, {"FWD"}))
    for address in ends(prefix):
        for protocol, port in (("tcp", 22), ("tcp", 443), ("udp", 53), ("icmp", 0)):
            fate = SCENE.egress(WEB, str(address), protocol, port)
            assert fate.verdict == "reject"
            assert fate.layer in ("FWD", "PRE")
            if fate.reason == "the floor":
                assert open_.egress(WEB, str(address), protocol, port).verdict == "accept"
            before = SCENE.egress(WEB, str(address), protocol, port, state="established")
            assert before.verdict == "reject"  # a flow that was open before the wall


def test_metadata_service_blocking() -> None:
    everyone = {str(row.prefix.network_address) for row in METADATA}
    assert set(REFERENCE_METADATA) <= everyone
    assert {*at.METADATA4.values(), *at.METADATA6.values()} <= everyone
    # Plainly, and by every IPv6 address through which a translator would lead to it.
    carried = [f"{head}a9fe:a9fe" for head in ("::ffff:", "::", "64:ff9b::", "64:ff9b:1::")] + ["2002:a9fe:a9fe::1"]
    for address, (protocol, port) in product(
        (*everyone, *carried), (("tcp", 80), ("tcp", 53), ("udp", 53), ("icmp", 0))
    ):
        assert judged(SCENE.egress(WEB, address, protocol, port)) == ("reject", "the floor", "FWD")
    for address in (*everyone, *carried):
        with pytest.raises(InvalidSpec, match=r"metadata|IPv4 written as IPv6"):  # not even the operator opens it
            parse_openings(f"imds {address} tcp/80", "network.exceptions")


def test_every_denial_is_told_by_the_rule_that_denies() -> None:
    """So that counters of the ruleset are an account of what was tried: no denial without a rule of its own words."""
    denied: list[Fate] = [SCENE.egress(WEB, address) for address in ("192.168.0.3", "10.0.0.5", at.INFRA4, at.NODE4)]
    assert len({fate.reason for fate in denied}) == 4
    assert all(fate.reason and fate.layer for fate in denied)
