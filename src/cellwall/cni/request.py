"""What one ADD asks of the wall, out of the configuration, the capabilities and CNI_ARGS.

Owns: the order among the three places that can name an address or a MAC (they must agree: a runtime that says two
different things has no right answer), the tenant, and the translation of port mappings.
Refuses: whatever is wrong without knowing the node. What only the wall can judge (a leased address, a taken port) it
refuses itself; `origin` then tells which of the caller's fields its complaint is about.
"""

from collections.abc import Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

import msgspec

from cellwall.cni.conf import AttachConf, PortMapping
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Address, Prefix, Protocol, parse_address, parse_mac, refuse_odd_length
from cellwall.model.endpoint import PortBinding, parse_port, validate_binding
from cellwall.model.identifiers import parse_tenant
from cellwall.model.network import Network

TENANT_ARGUMENT = "K8S_POD_NAMESPACE"

_WILDCARDS: dict[str, Prefix] = {"0.0.0.0": IPv4Network("0.0.0.0/0"), "::": IPv6Network("::/0")}

_ORIGINS = {"netns": "CNI_NETNS", "ifname": "CNI_IFNAME", "container id": "CNI_CONTAINERID"}
_MAPPING_KEYS = {"host_port": "hostPort", "bind": "hostIP", "port": "containerPort"}


class Request(msgspec.Struct, frozen=True):
    """An attach request. `tenant` None: the container is its own. `prefixes`: what the caller wrote behind its
    addresses, to be compared with the network's."""

    tenant: str | None = None
    address4: IPv4Address | None = None
    address6: IPv6Address | None = None
    mac: int | None = None
    bindings: tuple[PortBinding, ...] = ()
    prefixes: tuple[IPv4Interface | IPv6Interface, ...] = ()
    origins: Mapping[str, str] = {}

    def origin(self, field: str, value: object) -> str:
        """The caller's name of a field that the wall complained about."""
        if field == "ip":
            field = "ip6" if ":" in str(value) else "ip4"
            # an address that was not asked for follows from the one that was
            return self.origins.get(field) or next(iter(self.origins.values()), "ip")
        head, _, key = field.partition(".")
        if head == "expose":
            numbers = [n for n, binding in enumerate(self.bindings) if str(binding) == str(value)]
            place = f"[{numbers[-1]}]" if numbers else ""
            return f"runtimeConfig.portMappings{place}.{_MAPPING_KEYS.get(key, key)}"
        return self.origins.get(field) or _ORIGINS.get(field, field)

    def retold(self, message: str) -> str:
        """A refusal of the wall's, `field: value: reason`, in the caller's words."""
        field, first, rest = message.partition(": ")
        value, second, _ = rest.partition(": ")
        return f"{self.origin(field, value)}: {rest}" if first and second else message

    def require_subnets(self, network: Network) -> None:
        """A prefix length that was written must be the network's: the caller means another network otherwise."""
        for interface in self.prefixes:
            subnet = network.subnet4 if interface.version == 4 else network.subnet6
            if interface.network != subnet:
                where = self.origin("ip", interface)
                raise InvalidSpec(where, str(interface), f"is not in the network's subnet {subnet}")


def parse_request(conf: AttachConf, arguments: Mapping[str, str]) -> Request:
    """The request of one ADD; raises InvalidSpec naming the field as the caller knows it."""
    origins: dict[str, str] = {}
    interfaces = tuple(_addresses(conf, arguments, origins))
    by_family = {interface.version: interface.ip for interface in interfaces}
    address4, address6 = by_family.get(4), by_family.get(6)
    return Request(
        tenant=_tenant(conf, arguments),
        address4=address4 if isinstance(address4, IPv4Address) else None,
        address6=address6 if isinstance(address6, IPv6Address) else None,
        mac=_mac(conf, arguments, origins),
        bindings=tuple(
            _binding(mapping, f"runtimeConfig.portMappings[{number}]")
            for number, mapping in enumerate(conf.runtime_config.port_mappings)
        ),
        prefixes=tuple(item for item in interfaces if item.network.prefixlen != item.max_prefixlen),
        origins=origins,
    )


def _tenant(conf: AttachConf, arguments: Mapping[str, str]) -> str | None:
    if conf.tenant_from not in ("", TENANT_ARGUMENT):
        raise InvalidSpec("tenantFrom", conf.tenant_from, f"must be {TENANT_ARGUMENT}")
    if not conf.tenant_from:
        return parse_tenant(conf.tenant) if conf.tenant else None
    if conf.tenant:
        raise InvalidSpec("tenant", conf.tenant, "is given beside tenantFrom; only one of them can name the tenant")
    namespace = arguments.get(TENANT_ARGUMENT, "")
    # never a silent fall-back to another tenant: the operator said that this argument decides
    return parse_tenant(namespace, f"CNI_ARGS.{TENANT_ARGUMENT}")


def _addresses(
    conf: AttachConf, arguments: Mapping[str, str], origins: dict[str, str]
) -> Iterator[IPv4Interface | IPv6Interface]:
    seen: dict[int, Address] = {}
    wanted = [(f"runtimeConfig.ips[{number}]", text) for number, text in enumerate(conf.runtime_config.ips)]
    wanted += [("CNI_ARGS.IP", text) for text in arguments.get("IP", "").split(",") if text]
    for field, text in wanted:
        interface = _interface(text, field)
        address: Address = interface.ip
        if seen.setdefault(interface.version, address) != address:
            reason = f"is a second IPv{interface.version} address beside {seen[interface.version]}"
            raise InvalidSpec(field, text, reason)
        origins.setdefault(f"ip{interface.version}", field)
        yield interface


def _interface(text: str, field: str) -> IPv4Interface | IPv6Interface:
    parse_address(text.partition("/")[0], field)
    refuse_odd_length(text, field)
    try:
        return ip_interface(text)
    except ValueError as error:
        raise InvalidSpec(field, text, "is not an IP address, with or without a prefix length") from error


def _mac(conf: AttachConf, arguments: Mapping[str, str], origins: dict[str, str]) -> int | None:
    given = [("runtimeConfig.mac", conf.runtime_config.mac), ("CNI_ARGS.MAC", arguments.get("MAC", ""))]
    macs = [(field, text, parse_mac(text, field)) for field, text in given if text]
    if not macs:
        return None
    for field, text, mac in macs[1:]:
        if mac != macs[0][2]:
            raise InvalidSpec(field, text, f"differs from {macs[0][0]} {macs[0][1]}")
    origins["mac"] = macs[0][0]
    return macs[0][2]


def _binding(mapping: PortMapping, field: str) -> PortBinding:
    protocol = mapping.protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp"):
        raise InvalidSpec(f"{field}.protocol", mapping.protocol, "must be tcp or udp")
    family = _WILDCARDS.get(mapping.host_ip)
    bind = None if family or not mapping.host_ip else parse_address(mapping.host_ip, f"{field}.hostIP")
    typed: Protocol = "udp" if protocol == "udp" else "tcp"
    binding = PortBinding(
        protocol=typed,
        host_port=parse_port(mapping.host_port, f"{field}.hostPort"),
        port=parse_port(mapping.container_port, f"{field}.containerPort"),
        bind=bind,
        # a wildcard means one family (nerdctl and Podman pass 0.0.0.0); no bind address would open the other too
        sources=(family,) if family else (),
    )
    try:
        validate_binding(binding, field)
    except InvalidSpec as error:
        raise InvalidSpec(error.field.replace(".bind", ".hostIP"), error.value, error.reason) from error
    return binding
