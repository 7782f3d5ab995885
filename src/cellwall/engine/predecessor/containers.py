"""What becomes of the containers that beta9's own networking left on a bridge of our name (`remains`). Pure.

Decides whose each port is, by which address. A bridge that neither a port of beta9's names nor a rule speaks for is
somebody else's.

Refuses to believe a sandbox, which says itself what its interface has: an address belongs to the one that a rule of the
node leads to, and where none does and two claim it, to neither. A MAC that two have is neither's either, but nobody
is shut out for it: each gets the one that an attach would give. So is a neighbour no worse off than its own sandbox
makes it, but for an address that nothing of the node's says is its.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from itertools import chain

import msgspec

from cellwall.engine.predecessor.former_policies import blocks, former_policy
from cellwall.engine.predecessor.former_rules import Published, accepts, published
from cellwall.engine.predecessor.remains import OldPort, OldRule, Remains
from cellwall.engine.repair.left_closed import ClosedPort
from cellwall.engine.requests import validate_host_ports, validate_mac
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Protocol
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.identifiers import parse_container_id, parse_link_name
from cellwall.model.network import Network, default_mac
from cellwall.model.policy import OPEN, Policy, Tiers
from cellwall.model.settings import Settings
from cellwall.names import host_link

_PORT_NAMES = ("b9h", "b9_veth_h_")


class Adoption(msgspec.Struct, frozen=True):
    """Endpoints as they will be (their policy version is not given yet), ports that stay closed, and what else is not
    as it was."""

    endpoints: tuple[Endpoint, ...]
    closed: tuple[ClosedPort, ...]
    warnings: tuple[str, ...]


class _Claim(msgspec.Struct, frozen=True):
    """The address that a port's sandbox says is its own; `led_to`: those that rules of the node lead to for it."""

    port: int
    address: IPv4Address | None
    led_to: frozenset[Address]

    def outdoes(self, other: "_Claim") -> bool:
        """Leaves the address of another in doubt, or has it."""
        if other.address in self.led_to:
            return True
        return self.address == other.address and other.address not in other.led_to


def decide(remains: Remains, settings: Settings) -> Adoption | None:
    """Whose the ports are; None where the bridge is not beta9's."""
    network = settings.network
    if not _is_beta9s(remains, network):
        return None
    rows = tuple(published(remains.rules))
    claims = [_claim(port, rows, network) for port in remains.ports]
    shared = _shared_macs(remains.ports)
    endpoints: list[Endpoint] = []
    closed: list[ClosedPort] = []
    for port, claim in sorted(zip(remains.ports, claims, strict=True), key=lambda pair: pair[0].name):
        try:
            endpoint = _endpoint(port, _undisputed(claim, claims, network), rows, settings, shared)
            if any(endpoint.key == other.key for other in endpoints):
                raise InvalidSpec("container", str(endpoint.key), "is another port's, too")
            endpoints.append(endpoint)
        except InvalidSpec as error:
            closed.append(ClosedPort(port.index, port.name, str(error)))
    served = tuple(_judged(endpoint, remains.rules, settings) for endpoint in _served(endpoints, rows))
    lost = chain.from_iterable(_lost(endpoint, rows, remains.rules) for endpoint in served)
    return Adoption(served, tuple(closed), tuple(lost))


def without_lists(adoption: Adoption) -> Adoption:
    """As a wall in iptables can hold it, which has no words for networks that a policy allows: who had a list opens
    nothing, and it is told."""
    nothing = Tiers(endpoint=Policy(mode="block"))
    listed = [endpoint.key for endpoint in adoption.endpoints if endpoint.tiers.endpoint.mode == "allow"]
    endpoints = tuple(
        msgspec.structs.replace(endpoint, tiers=nothing) if endpoint.key in listed else endpoint
        for endpoint in adoption.endpoints
    )
    told = (f"{key}: its list of allowed networks has no form in iptables: it opens nothing" for key in listed)
    return Adoption(endpoints, adoption.closed, (*adoption.warnings, *told))


def _served(endpoints: Iterable[Endpoint], rows: Iterable[Published]) -> tuple[Endpoint, ...]:
    """Where rules lead one port of the node to several places it is the first one's, as it was in the kernel."""
    led = {(endpoint.address4, binding) for endpoint in endpoints for binding in endpoint.bindings}
    first: dict[tuple[Protocol, int], tuple[Address, PortBinding]] = {}
    for row in rows:
        if (row.address, row.binding) in led:
            first.setdefault((row.binding.protocol, row.binding.host_port), (row.address, row.binding))
    kept = set(first.values())
    return tuple(
        msgspec.structs.replace(
            endpoint, bindings=tuple(one for one in endpoint.bindings if (endpoint.address4, one) in kept)
        )
        for endpoint in endpoints
    )


def _lost(endpoint: Endpoint, rows: Sequence[Published], rules: Sequence[OldRule]) -> Iterator[str]:
    """What of a container is not as it was."""
    for binding in sorted(_of(endpoint, rows) - set(endpoint.bindings), key=str):
        yield f"{endpoint.key}: {binding} is not taken over"
    own = addresses_of(endpoint)
    for rule in rules:
        from_it = rule.text.startswith(tuple(f"-s {address}/" for address in own))
        if from_it and rule.text.endswith("-j DROP") and not blocks(rule, own):
            yield f"{endpoint.key}: {rule.chain} of {rule.program} still has `{rule.text}`"


def _judged(endpoint: Endpoint, rules: Sequence[OldRule], settings: Settings) -> Endpoint:
    """Under the policy that the node's rules were for it."""
    policy = former_policy(rules, addresses_of(endpoint), settings)
    return endpoint if policy == OPEN else msgspec.structs.replace(endpoint, tiers=Tiers(endpoint=policy))


def addresses_of(endpoint: Endpoint) -> tuple[str, ...]:
    """As rules name them."""
    return (str(endpoint.address4), str(endpoint.address6))


def _is_beta9s(remains: Remains, network: Network) -> bool:
    """It has an address of our network, and something that beta9 makes speaks for it: a port or a rule."""
    ours = (network.subnet4, network.subnet6)
    addressed = any(address.version == net.version and address in net for address in remains.addresses for net in ours)
    by_port = any(port.name.startswith(_PORT_NAMES) for port in remains.ports)
    return addressed and (by_port or any(accepts(rule, network.bridge) for rule in remains.rules))


def _name_of(port: OldPort) -> str:
    return "" if port.inner is None else port.inner.netns.rsplit("/", 1)[-1]


def _endpoint(
    port: OldPort, address4: IPv4Address, rows: Sequence[Published], settings: Settings, shared: Container[int]
) -> Endpoint:
    """The endpoint that a port becomes; InvalidSpec where it cannot be one."""
    inner, network = port.inner, settings.network
    if inner is None:
        raise InvalidSpec("netns", port.name, "leads into no named namespace")
    own = _rows_of(port, rows)
    container = own[0].container if own else _name_of(port)
    key = EndpointKey(parse_container_id(container), parse_link_name(inner.ifname, "ifname"))
    bare = Endpoint(
        key=key,
        tenant="",
        host_link=port.name if port.name.startswith(network.veth_prefix) else host_link(network.veth_prefix, key),
        host_index=port.index,
        mac=default_mac(address4) if inner.mac in shared else _mac(inner.mac, address4, network),
        address4=address4,
        address6=network.address6(address4),
        generation=0,
        netns=inner.netns,
        netns_device=inner.device,
        netns_inode=inner.inode,
    )
    return msgspec.structs.replace(bare, bindings=tuple(_bindings(_of(bare, own), settings)))


def _rows_of(port: OldPort, rows: Sequence[Published]) -> list[Published]:
    return [row for row in rows if port.name == row.veth or _name_of(port) == row.container]


def _mac(found: int, address4: IPv4Address, network: Network) -> int:
    """The one found, where a container could ask for it."""
    try:
        validate_mac(found, address4, network)
    except InvalidSpec:
        return default_mac(address4)
    return found


def _shared_macs(ports: Iterable[OldPort]) -> set[int]:
    found = Counter(port.inner.mac for port in ports if port.inner is not None)
    return {mac for mac, times in found.items() if times > 1}


def _claim(port: OldPort, rows: Sequence[Published], network: Network) -> _Claim:
    """The address that a rule of the node leads to, else the first that its interface has."""
    led_to = frozenset(row.address for row in _rows_of(port, rows))
    edges = (network.subnet4.network_address, network.subnet4.broadcast_address, network.gateway4)
    own = () if port.inner is None else port.inner.addresses
    found = [one for one in own if isinstance(one, IPv4Address) and one in network.subnet4 and one not in edges]
    found.sort(key=lambda address: address not in led_to)
    return _Claim(port.index, found[0] if found else None, led_to)


def _undisputed(claim: _Claim, claims: Iterable[_Claim], network: Network) -> IPv4Address:
    """Whoever is root in a sandbox chooses what its interface says; the node's rules are not a sandbox's to write."""
    if claim.address is None:
        raise InvalidSpec("ip", "none", f"has no address of {network.subnet4} of its own")
    if any(other.outdoes(claim) for other in claims if other.port != claim.port):
        raise InvalidSpec("ip", claim.address, "is claimed by another, too")
    return claim.address


def _of(endpoint: Endpoint, rows: Iterable[Published]) -> set[PortBinding]:
    """By IPv4 alone: a binding is of both families."""
    return {row.binding for row in rows if row.address == endpoint.address4}


def _bindings(wanted: Iterable[PortBinding], settings: Settings) -> Iterator[PortBinding]:
    for binding in sorted(wanted, key=str):
        try:
            validate_host_ports(binding, settings)
        except InvalidSpec:
            continue
        yield binding
