"""Control by removal: the same wall with some of its layers taken out, and put back.

Rules of a layer are left out of the ruleset by their tag. What the wall does beside rules is undone by its layer:
PORT (bridge port flags), FDB (static entries become learned ones: a locked port without any entry would pass nothing
at all), NB (permanent neighbours become learned ones: a packet that waits for an answer to ARP would come after the
sentinel and seem to be stopped), SYS (every kernel setting as a careless program leaves it: one that turns forwarding
on for all interfaces). NAT has no rule that stops anything; what makes it safe are its conditions, so without NAT the
translation is there, but unscoped and without a port range of its own.

A port that somebody else put on the bridge is always as nobody of the wall has looked at it yet: `up` and `reconcile`,
which episodes call, shut it, and what a claim is about is the rules that hold until then.

Without a rule nothing passes the latch, good or bad, so it is away with whatever else is: it would hide what misses.

How many fragments may come has no part in whose they are and where they go: under any removal there is no bound, as the
probes of fragments are together more than one of them.

Under any removal bridge-nf-call is off: nothing of the wall relies on it, and with it the IP hooks would judge bridged
frames too and hide that a layer is not independent.
"""

from collections.abc import Set
from pathlib import Path

import msgspec

from cellwall.api import Wall
from cellwall.attack.probe import RULES, Layer, Open
from cellwall.engine.attachments.detach import port_plan
from cellwall.engine.nftables.desired import desired_ruleset, with_endpoints
from cellwall.engine.node.kernel_settings import original_facts
from cellwall.engine.repair.orphans import foreign_ports
from cellwall.lab import Host
from cellwall.model.addresses import mac_text
from cellwall.ruleset.edits import Replace
from cellwall.ruleset.select import without_layers
from cellwall.ruleset.types import Chain, Masquerade, Meter, Rule, Ruleset, Statement, Verdict

_PORT_DEFAULTS = [
    "isolated",
    "off",
    "guard",
    "off",
    "root_block",
    "off",
    "learning",
    "on",
    "flood",
    "on",
    "mcast_flood",
    "on",
    "bcast_flood",
    "on",
    "mcast_router",
    "1",
    "locked",
    "off",
]
_CARELESS4 = {
    "accept_redirects": "1",
    "send_redirects": "1",
    "accept_source_route": "1",
    "route_localnet": "1",
    "rp_filter": "0",
    "arp_ignore": "0",
    "forwarding": "1",
}
_CARELESS6 = {
    "accept_ra": "2",
    "autoconf": "1",
    "accept_redirects": "1",
    "seg6_enabled": "1",
    "force_forwarding": "1",
    "forwarding": "1",
}
_BRIDGE_NETFILTER = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")

_OPENED = {
    # A neighbour entry younger than a second does not move: a matter of timing, no protection.
    "net/ipv4/neigh/{bridge}/locktime": "0",
    # Off by default, and a link takes part only where both are on; SYS is about the bridge's own switch.
    "net/ipv6/conf/all/seg6_enabled": "1",
}
"""Defaults of the kernel that stop a probe and that no layer claims: opened under any removal."""


class Footing:
    """The wall of one lab node, with what is removed of it. Restores everything at `restore`."""

    def __init__(self, wall: Wall, node: Host) -> None:
        self._node = node
        self._site = wall._site  # the engine's record of what `up` decided: a control must differ in nothing else
        found = self._site.foundation()
        assert found is not None
        self._found = found
        self._endpoints = self._site.journal.endpoints("attached")
        with node.enter():
            facts = original_facts(self._site, self._site.node.observe())
        ruleset = desired_ruleset(self._site.settings, facts, found.usage, found.uplink)
        self._ruleset = with_endpoints(ruleset, self._endpoints)
        self._saved: dict[str, str] = {}
        self._spanning = False
        self._bridge = self._site.settings.network.bridge

    def remove(self, removed: Set[Layer], opens: Set[Open] = frozenset()) -> None:
        """Take out exactly these layers, whatever was out before."""
        self.restore(rules=False)
        rules = _with_all_fragments(without_layers(self._ruleset, removed & (RULES - {"NAT"})))
        if "NAT" in removed:
            rules = _loosened(rules)
        with self._node.enter():
            self._site.rules.lay([Replace(rules)])
            self._set(dict.fromkeys(_BRIDGE_NETFILTER, "0"))
            self._set({name.format(bridge=self._bridge): value for name, value in _OPENED.items()})
            if "CSUM" in removed:
                self._batch(["tc", "-batch", "-"], [f"filter del dev {self._bridge} ingress pref 1"])
            lines = [f"filter del dev {self._bridge} {side} pref 2" for side in ("ingress", "egress")]
            self._batch(["tc", "-force", "-batch", "-"], lines)
            if "SYS" in removed:
                self._set(_careless(self._bridge, (self._found.uplink, "eth1", "br-other")))
        self._batch(["ip", "-batch", "-"], self._reserved_lines() if "PORT" in removed else [])
        lines = [line for layer in ("FDB", "PORT") if layer in removed for line in self._bridge_lines(layer)]
        self._batch(["bridge", "-force", "-batch", "-"], lines)
        self._batch(["ip", "-batch", "-"], self._neighbour_lines() if "NB" in removed else [])
        if "stp" in opens:
            self._spanning = True
            self._batch(["ip", "-batch", "-"], [f"link set {self._bridge} type bridge forward_delay 200 stp_state 1"])

    def restore(self, *, rules: bool = True) -> None:
        """The wall as it was, and no flow, neighbour or forwarding entry that an attack left."""
        with self._node.enter():
            if rules:
                self._site.rules.lay([Replace(self._ruleset)])
            for name, value in self._saved.items():
                self._site.sysctls.write(name, value)
            self._saved.clear()
        self._batch(["ip", "-force", "-batch", "-"], self._cleaning())
        bridge = self._bridge
        lines6 = [f"address flush dev {bridge} dynamic", f"route flush dev {bridge} proto ra", "route flush cache"]
        self._batch(["ip", "-6", "-force", "-batch", "-"], lines6)
        with self._node.enter():
            self._site.links.ensure_checksum_filter(self._found.bridge_index)
            self._site.links.ensure_latch(self._found.bridge_index, self._site.settings.mark)
            for endpoint in self._endpoints:
                self._site.links.lock_port(port_plan(self._found, endpoint))
            foreign = foreign_ports(self._site, self._found, self._site.links.observe())
        self._batch(["bridge", "-force", "-batch", "-"], [_opened(link.name) for link in foreign])
        self._node.run(["conntrack", "-F"], check=False)

    def _cleaning(self) -> list[str]:
        bridge = self._bridge
        lines = [f"link set {bridge} type bridge stp_state 0 fdb_flush", f"neigh flush dev {bridge}"]
        if self._spanning:  # the bridge believes in a root port until that port goes down
            lines += [
                f"link set {endpoint.host_link} {state}" for endpoint in self._endpoints for state in ("down", "up")
            ]
            self._spanning = False
        return [*lines, "route flush cache"]

    def _bridge_lines(self, layer: str) -> list[str]:
        if layer == "PORT":
            return [_opened(endpoint.host_link) for endpoint in self._endpoints]
        return [
            f"fdb replace {mac_text(endpoint.mac)} dev {endpoint.host_link} master dynamic"
            for endpoint in self._endpoints
        ]

    def _reserved_lines(self) -> list[str]:
        return [f"link set {endpoint.host_link} type bridge_slave group_fwd_mask 0" for endpoint in self._endpoints]

    def _neighbour_lines(self) -> list[str]:
        return [
            f"neigh replace {address} lladdr {mac_text(endpoint.mac)} nud stale dev {self._bridge}"
            for endpoint in self._endpoints
            for address in (endpoint.address4, endpoint.address6)
            if address is not None
        ]

    def _set(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            present = self._site.sysctls.read(name)
            if present is not None and present != value and self._site.sysctls.write(name, value):
                self._saved.setdefault(name, present)

    def _batch(self, argv: list[str], lines: list[str]) -> None:
        if lines:
            self._node.run(argv, input="".join(f"{line}\n" for line in lines).encode(), check="-force" not in argv)


def _opened(link: str) -> str:
    return f"link set dev {link} {' '.join(_PORT_DEFAULTS)}"


def _careless(bridge: str, others: tuple[str, ...]) -> dict[str, str]:
    values = {f"net/ipv4/conf/{name}/{key}": value for name in (bridge, *others) for key, value in _CARELESS4.items()}
    values |= {f"net/ipv6/conf/{name}/{key}": value for name in (bridge, *others) for key, value in _CARELESS6.items()}
    values |= {"net/ipv4/conf/all/rp_filter": "0", "net/ipv6/conf/all/seg6_enabled": "1"}
    return {name: value for name, value in values.items() if Path("/proc/sys", name).exists()}


def _with_all_fragments(ruleset: Ruleset) -> Ruleset:
    tables = []
    for table in ruleset.tables:
        chains = tuple(
            msgspec.structs.replace(chain, rules=tuple(rule for rule in chain.rules if not _counts_fragments(rule)))
            for chain in table.chains
        )
        tables.append(msgspec.structs.replace(table, chains=chains))
    return Ruleset(tuple(tables))


def _counts_fragments(rule: Rule) -> bool:
    return any(isinstance(one, Meter) and one.set in ("fragments", "allfragments") for one in rule.statements)


def _loosened(ruleset: Ruleset) -> Ruleset:
    tables = []
    for table in ruleset.tables:
        chains = tuple(_loose_chain(chain) for chain in table.chains)
        tables.append(msgspec.structs.replace(table, chains=chains))
    return Ruleset(tuple(tables))


def _loose_chain(chain: Chain) -> Chain:
    if chain.name.startswith("publish-"):
        rules = tuple(Rule((Verdict("goto", "publish"),)) for _ in chain.rules[:1])
        return msgspec.structs.replace(chain, rules=rules)
    rules = tuple(msgspec.structs.replace(rule, statements=_without_range(rule.statements)) for rule in chain.rules)
    return msgspec.structs.replace(chain, rules=rules)


def _without_range(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(Masquerade(0, 0) if isinstance(statement, Masquerade) else statement for statement in statements)
