"""A node with its wall but without a kernel: the compiled ruleset, endpoints in its sets, and packets on their way.

What the kernel would contribute is stated here and nowhere else: which hooks a packet meets, the type of its route,
its conntrack entry. The node is that of the lab (`cellwall.lab.addresses`): an uplink eth0 with a LAN, eth1 with
infrastructure behind it, docker0 with other containers.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Literal

import msgspec

from cellwall.compile.assemble import uplink_of
from cellwall.compile.usage import Usage, usage_of_endpoints
from cellwall.engine.nftables.desired import desired_ruleset, with_endpoints
from cellwall.lab import addresses as at
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address
from cellwall.model.endpoint import Endpoint, EndpointKey, parse_binding
from cellwall.model.facts import InterfaceAddress, NodeFacts, OnLinkRoute
from cellwall.model.network import Network, default_mac
from cellwall.model.policy import Policy, Tiers
from cellwall.model.policy import Rule as PolicyRule
from cellwall.model.settings import Settings
from cellwall.model.versions import FIRST_BLOCK, first_version
from cellwall.names import host_link
from cellwall.ruleset.compose import SYN, SYN_ACK, flow_packet
from cellwall.ruleset.context import Context, Direction, Flow, FlowTuple, HookName, State
from cellwall.ruleset.evaluate import Evaluation, Evaluator
from cellwall.ruleset.packet import Packet
from cellwall.ruleset.types import Counter, Rule, Ruleset, TableFamily, Verdict

NETWORK = Network()
NODE_BIT = Settings().mark
GATEWAY_MAC = NETWORK.bridge_mac
FACTS = NodeFacts(
    addresses=(
        InterfaceAddress("lo", "127.0.0.1/8"),
        InterfaceAddress("lo", "::1/128"),
        InterfaceAddress("eth0", f"{at.NODE4}/24"),
        InterfaceAddress("eth0", f"{at.NODE6}/64"),
        InterfaceAddress("eth1", f"{at.NODE_INFRA4}/24"),
        InterfaceAddress("eth1", f"{at.NODE_INFRA6}/64"),
        InterfaceAddress("docker0", f"{at.NODE_OTHER4}/16"),
        InterfaceAddress("docker0", f"{at.NODE_OTHER6}/64"),
        InterfaceAddress("b9_br0", "192.168.0.1/20"),
        InterfaceAddress("b9_br0", "fd00:abcd::1/64"),
    ),
    on_link=(
        OnLinkRoute("eth0", at.SEGMENT4),
        OnLinkRoute("eth0", at.SEGMENT6),
        OnLinkRoute("eth1", at.INFRA_NET4),
        OnLinkRoute("eth1", at.INFRA_NET6),
        OnLinkRoute("docker0", at.OTHER_NET4),
        OnLinkRoute("docker0", at.OTHER_NET6),
        OnLinkRoute("b9_br0", "192.168.0.0/20"),
        OnLinkRoute("b9_br0", "fd00:abcd::/64"),
    ),
    default4="eth0",
    default6="eth0",
)
LINKS = {"lo": 1, "eth0": 2, "eth1": 3, "docker0": 4, "b9_br0": 5}
ROUTED = [(ip_network(row.prefix), row.interface) for row in FACTS.on_link]
_MULTICAST = (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))


def endpoint(
    name: str,
    number: int,
    *bindings: str,
    ipv6: bool = True,
    generation: int = 0,
    past: tuple[int, ...] = (),
    tenant_number: int = 0,
) -> Endpoint:
    """The endpoint that is attached as number `number`: its address, bridge port and policy version follow from it."""
    key, address = EndpointKey(name), NETWORK.subnet4[number]
    return Endpoint(
        key=key,
        tenant=name,
        host_link=host_link("b9h", key),
        host_index=100 + number,
        mac=default_mac(address),
        address4=address,
        address6=NETWORK.address6(address) if ipv6 else None,
        generation=generation or first_version(1000 + number, NODE_BIT),
        netns="",
        netns_device=0,
        netns_inode=0,
        past_generations=past,
        bindings=tuple(parse_binding(text) for text in bindings),
        tenant_number=tenant_number or first_version(FIRST_BLOCK + number, NODE_BIT),
    )


WEB = endpoint(
    "web",
    2,
    "8080:80",
    "8080:80/udp",
    f"{at.NODE4}:8081:81",
    f"8443:443@{at.LAN4},{at.LAN6}",
    "9000-9010:9000",
    "9100-9110:9100@93.184.216.16/28",
    "7000-7003:80",
)
"""An endpoint with a binding of every form."""
OTHER = endpoint("other", 3)
FOUR = endpoint("four", 4, ipv6=False)
POLICED = msgspec.structs.replace(
    WEB, tiers=Tiers(tenant=Policy(rules=(PolicyRule("deny", ip_network("9.9.9.9/32"), "udp", (9, 9)),)))
)
"""The same under a policy."""
GATEWAY4, GATEWAY6 = str(NETWORK.gateway4), str(NETWORK.gateway6)
LINK_LOCAL = str(NETWORK.gateway_link_local)
PUBLIC4, PUBLIC6 = "151.101.1.69", "2a04:4e42::1"


class Fate(msgspec.Struct, frozen=True):
    """What became of a packet. `reason` is what the deciding rule says of itself: why it denies, or the stage that
    let the packet pass ("" where no rule spoke)."""

    verdict: Literal["accept", "drop", "reject"]
    reason: str
    layer: str
    evaluation: Evaluation

    @property
    def mark(self) -> int:
        """The policy version that the packet's flow carries now."""
        flow = self.evaluation.context.flow
        return 0 if flow is None else flow.mark


class Scene:
    """A compiled node with these endpoints."""

    def __init__(
        self,
        *endpoints: Endpoint,
        settings: Settings | None = None,
        facts: NodeFacts = FACTS,
        uplink: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.settings, self.facts = settings or Settings(), facts
        self.uplink = uplink_of(self.settings, facts) if uplink is None else uplink
        usage = usage_of_endpoints(endpoints).union(usage or Usage())
        self.rules = desired_ruleset(self.settings, facts, usage, self.uplink)
        self.endpoints = endpoints
        self.ruleset: Ruleset = with_endpoints(self.rules, endpoints)

    def under(self, ruleset: Ruleset) -> "Scene":
        """The same scene under another ruleset."""
        other = Scene(*self.endpoints, settings=self.settings, facts=self.facts, uplink=self.uplink)
        other.ruleset = ruleset
        return other

    # ------------------------------------------------------------- whole flows

    def egress(
        self,
        sender: Endpoint,
        destination: str,
        protocol: str = "tcp",
        port: int = 443,
        *,
        source: str | None = None,
        mac: int | None = None,
        gateway: int = GATEWAY_MAC,
        state: State = "new",
        mark: int = 0,
        label: int = 0,
        seconds: float = 120,
        over: Sequence[str] = (),
        tcp_flags: int = SYN,
    ) -> Fate:
        """A packet of a flow that `sender` opens (or claims to: `source`, `mac`); `seconds`: until it is forgotten."""
        going = flow_of(source or _own(sender, destination), destination, protocol, port)
        status = frozenset[str]() if state == "new" else frozenset({"confirmed"})
        entry = Flow(going, going.reversed(), state=state, status=status, mark=mark, label=label, seconds=seconds)
        source_mac = sender.mac if mac is None else mac
        packet = flow_packet(going, source_mac=source_mac, destination_mac=gateway, tcp_flags=tcp_flags)
        return self.from_sandbox(sender, packet, entry, over=over)

    def ingress(
        self,
        source: str,
        destination: str,
        protocol: str = "tcp",
        port: int = 8080,
        *,
        by: str = "eth0",
        state: State = "new",
        over: Sequence[str] = (),
    ) -> Fate:
        """A packet of a flow that somebody outside opens, arriving by the node's interface `by`."""
        coming = flow_of(source, destination, protocol, port)
        return self.from_outside(by, flow_packet(coming), Flow(coming, coming.reversed(), state=state), over=over)

    def answer(
        self,
        sender: Endpoint,
        client: str,
        protocol: str = "tcp",
        port: int = 80,
        host_port: int = 8080,
        mark: int = 0,
        tcp_flags: int = SYN_ACK,
    ) -> Fate:
        """What the server of an exposed port sends back to a client."""
        own = _own(sender, client)
        node = at.NODE4 if ":" not in client else at.NODE6
        coming, going = flow_of(client, node, protocol, host_port), flow_of(client, own, protocol, port).reversed()
        entry = Flow(coming, going, "established", "reply", frozenset(("dnat", "confirmed")), mark)
        packet = flow_packet(going, source_mac=sender.mac, destination_mac=GATEWAY_MAC, tcp_flags=tcp_flags)
        return self.from_sandbox(sender, packet, entry)

    # ------------------------------------------------------------- single packets

    def frame(self, sender: Endpoint, packet: Packet, *, over: Sequence[str] = ()) -> Fate:
        """A frame at the bridge port of `sender`, before the bridge learns anything of it."""
        return self.walk(packet, [self._port("prerouting", sender, over), self._port("input", sender, over)])

    def from_sandbox(self, sender: Endpoint, packet: Packet, entry: Flow | None, *, over: Sequence[str] = ()) -> Fate:
        """A packet's whole way from a bridge port."""
        kind, out = self.route(_destination(packet))
        contexts = [self._port("prerouting", sender, over), self._port("input", sender, over)]
        contexts.append(_inet("prerouting", "b9_br0", "", entry, kind, over))
        if kind != "unicast":
            return self.walk(packet, [*contexts, _inet("input", "b9_br0", "", entry, kind, over)])
        contexts.append(_inet("forward", "b9_br0", out, entry, kind, over, whence=self.route(_source(packet))[0]))
        return self.walk(packet, [*contexts, *self._leaving(packet, out, entry, over)])

    def from_outside(self, by: str, packet: Packet, entry: Flow | None, *, over: Sequence[str] = ()) -> Fate:
        """A packet's whole way from another interface of the node; routing is asked after address translation."""
        kind, _ = self.route(_destination(packet))
        contexts = [_inet("prerouting", by, "", entry, kind, over)]
        first = self.walk(packet, contexts)
        if first.verdict != "accept":
            return first
        kind, out = self.route(_destination(first.evaluation.packet))
        if kind != "unicast":
            return self.walk(packet, [*contexts, _inet("input", by, "", entry, kind, over)])
        contexts.append(_inet("forward", by, out, entry, kind, over, whence=self.route(_source(packet))[0]))
        return self.walk(packet, [*contexts, *self._leaving(first.evaluation.packet, out, entry, over)])

    def from_node(self, packet: Packet, entry: Flow | None) -> Fate:
        """A packet that the node itself sends."""
        kind, out = self.route(_destination(packet))
        contexts = [_inet("output", "", out, entry, kind, ())]
        first = self.walk(packet, contexts)
        if first.verdict != "accept":
            return first
        _, out = self.route(_destination(first.evaluation.packet))  # again: output may have translated it
        return self.walk(packet, [*contexts, *self._leaving(first.evaluation.packet, out, entry, ())])

    def counted(self, fate: Fate) -> list[str]:
        """What the rules say of themselves that counted the packet."""
        rules = [self._rule(step.family, step.chain, step.index) for step in fate.evaluation.path]
        return [rule.comment for rule in rules if Counter() in rule.statements]

    def walk(self, packet: Packet, contexts: Sequence[Context]) -> Fate:
        """The fate of a packet at these hooks."""
        found = Evaluator(self.ruleset).walk(packet, contexts)
        rule, chain = self._deciding(found)
        speaks = rule.comment or chain if rule is not None else ""
        return Fate(found.verdict, speaks, "" if rule is None else rule.layer, found)

    def route(self, destination: Address) -> tuple[str, str]:
        """(type of the route, output interface) on this node."""
        if any(destination in prefix for prefix in _MULTICAST):
            return "multicast", ""
        if str(destination) in ("255.255.255.255", "192.168.15.255", "192.168.0.0"):
            return "broadcast", ""
        local = {ip_interface(row.address).ip for row in self.facts.addresses}
        if destination in local or destination in ip_network("127.0.0.0/8"):
            return "local", "lo"
        if destination == NETWORK.gateway_link_local:
            return "local", "lo"
        return "unicast", next((interface for prefix, interface in ROUTED if destination in prefix), "eth0")

    # ------------------------------------------------------------- inside

    def _port(self, hook: HookName, sender: Endpoint, over: Sequence[str]) -> Context:
        return Context("bridge", hook, iifname=sender.host_link, iif=sender.host_index, over=dict.fromkeys(over, True))

    def _leaving(self, packet: Packet, out: str, entry: Flow | None, over: Sequence[str]) -> list[Context]:
        contexts = [_inet("postrouting", "", out, entry, None, over)]
        holder = next((row for row in self.endpoints if _destination(packet) in (row.address4, row.address6)), None)
        if out == "b9_br0" and holder is not None:
            contexts.append(Context("bridge", "output", oifname=holder.host_link, oif=holder.host_index, flow=entry))
        return contexts

    def _deciding(self, found: Evaluation) -> tuple[Rule | None, str]:
        passed = [(self._rule(step.family, step.chain, step.index), step.chain) for step in found.path]
        if found.verdict == "accept":
            passed = [row for row in passed if Verdict("accept") in row[0].statements]
        else:
            passed = [row for row in passed if row[0].comment]
        return passed[-1] if passed else (None, "")

    def _rule(self, family: TableFamily, chain: str, index: int) -> Rule:
        table = next(table for table in self.ruleset.tables if table.family == family)
        return next(row for row in table.chains if row.name == chain).rules[index]


def flow_of(source: str, destination: str, protocol: str = "tcp", port: int = 443) -> FlowTuple:
    """The first direction of a flow; an ICMP one is an echo."""
    one, other = ip_address(source), ip_address(destination)
    if protocol == "icmp":
        kind = (1, 8) if one.version == 4 else (58, 128)
        return FlowTuple("ip" if one.version == 4 else "ip6", int(one), int(other), kind[0], 7, kind[1] << 8)
    number = PROTOCOL_NUMBERS[protocol] if protocol in PROTOCOL_NUMBERS else int(protocol)
    return FlowTuple("ip" if one.version == 4 else "ip6", int(one), int(other), number, 40000, port)


def directed(flow: FlowTuple, state: State = "new", direction: Direction = "original", mark: int = 0) -> Flow:
    """The untranslated entry of a flow."""
    return Flow(flow, flow.reversed(), state, direction, mark=mark)


def _own(sender: Endpoint, destination: str) -> str:
    return str(sender.address4 if ip_address(destination).version == 4 else sender.address6)


def _destination(packet: Packet) -> Address:
    if packet.protocol == 0x86DD:
        return IPv6Address(packet.network[24:40])
    return IPv4Address(packet.network[16:20])


def _source(packet: Packet) -> Address:
    if packet.protocol == 0x86DD:
        return IPv6Address(packet.network[8:24])
    return IPv4Address(packet.network[12:16])


def _inet(
    hook: HookName,
    iifname: str,
    oifname: str,
    entry: Flow | None,
    kind: str | None,
    over: Sequence[str],
    *,
    whence: str | None = None,
) -> Context:
    return Context(
        "inet",
        hook,
        iifname=iifname,
        oifname=oifname,
        iif=LINKS.get(iifname, 0),
        oif=LINKS.get(oifname, 0),
        flow=entry,
        fib_saddr_type=whence,
        fib_daddr_type=kind,
        over=dict.fromkeys(over, True),
    )


def judged(fate: Fate) -> tuple[str, str, str]:
    """(verdict, reason, layer): what rows of packets state."""
    return fate.verdict, fate.reason, fate.layer


def number(text: str) -> int:
    """An address as rules have it."""
    return int(ip_address(text))


SCENE = Scene(WEB, OTHER, FOUR)
"""The default node with three endpoints."""
