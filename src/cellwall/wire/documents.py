"""What the daemon answers, and what `--json` prints: the values of `api` as documents, and back.

The documents are a promise: a field keeps its name and meaning, new ones may be added. An endpoint is

    {"container": "web", "interface": "eth0", "tenant": "acme", "address4": "192.168.0.2",
     "address6": "fd00:abcd::2" or null, "mac": "0a:58:c0:a8:00:02", "host_interface": "b9h…",
     "netns": "/run/…", "exposed": [{"protocol": "tcp", "host_port": 8080, "host_port_last": 8080, "port": 80,
     "bind": null or an address, "sources": ["203.0.113.0/24", …]}], "host_index": 7, "netns_device": 4,
     "netns_inode": 4026532300, "owns_netns": false, "generation": 1, "past_generations": [],
     "policies": null or {"tenant": {…}, "endpoint": {…}, "number": 0}}

Pure: values in, values out. Reading one tolerates fields that it does not know: a newer daemon's.
"""

from _socket import AF_INET6, inet_ntop
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

import msgspec

from cellwall.engine.requests import Reconciled, Status, UpReport
from cellwall.model.addresses import Address, Protocol, mac_text, parse_mac
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.wire.policies import TiersDocument, tiers_document, tiers_of

Proxy = Literal["6to4", "4to6"]
"""Clients of which family a proxy serves, by the server's address of which."""


def proxy_text(binding: PortBinding) -> Proxy | None:
    """How programs read it."""
    return None if binding.proxy == 0 else "6to4" if binding.proxy == 6 else "4to6"


def proxied_family(text: Proxy | None) -> Literal[0, 4, 6]:
    """What `proxy_text` tells of."""
    return 0 if text is None else 6 if text == "6to4" else 4


class ExposureDocument(msgspec.Struct, frozen=True):
    """A port binding as programs read it."""

    protocol: Protocol
    host_port: int
    host_port_last: int
    port: int
    bind: str | None
    sources: tuple[str, ...]
    proxy: Proxy | None = None


class EndpointDocument(msgspec.Struct, frozen=True):
    """An endpoint as programs read it."""

    container: str
    interface: str
    tenant: str
    address4: str
    address6: str | None
    mac: str
    host_interface: str
    netns: str
    exposed: tuple[ExposureDocument, ...]
    host_index: int
    netns_device: int
    netns_inode: int
    owns_netns: bool
    generation: int
    past_generations: tuple[int, ...]
    policies: TiersDocument | None = None
    tenant_number: int = 0


class StatusDocument(msgspec.Struct, frozen=True):
    """Live compared with desired. `node_drift` are those lines of `drift` that no tenant can cause."""

    up: bool
    mechanism: str
    endpoints: int
    draining: int
    drift: tuple[str, ...]
    node_drift: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    ready: int = 0


class UpDocument(msgspec.Struct, frozen=True):
    """What `up` found and did."""

    changed: bool
    mechanism: str
    uplink: str
    ipv6: bool
    dns: tuple[str, ...]
    warnings: tuple[str, ...]


class ReconciledDocument(msgspec.Struct, frozen=True):
    """What was repaired, a line each."""

    repaired: tuple[str, ...]


def endpoint_document(endpoint: Endpoint) -> EndpointDocument:
    """The document of one endpoint."""
    return EndpointDocument(
        container=endpoint.key.container_id,
        interface=endpoint.key.ifname,
        tenant=endpoint.tenant,
        address4=str(endpoint.address4),
        # What `str` gives of an address of a sandbox, in a tenth of the time (RFC 5952).
        address6=None if endpoint.address6 is None else inet_ntop(AF_INET6, endpoint.address6.packed),
        mac=mac_text(endpoint.mac),
        host_interface=endpoint.host_link,
        netns=endpoint.netns,
        exposed=tuple(_exposure_document(binding) for binding in endpoint.bindings),
        host_index=endpoint.host_index,
        netns_device=endpoint.netns_device,
        netns_inode=endpoint.netns_inode,
        owns_netns=endpoint.owns_netns,
        generation=endpoint.generation,
        past_generations=endpoint.past_generations,
        policies=tiers_document(endpoint.tiers),
        tenant_number=endpoint.tenant_number,
    )


def endpoint_of(document: EndpointDocument) -> Endpoint:
    """The endpoint that a document tells of; InvalidSpec or ValueError for what no daemon writes."""
    return Endpoint(
        key=EndpointKey(document.container, document.interface),
        tenant=document.tenant,
        host_link=document.host_interface,
        host_index=document.host_index,
        mac=parse_mac(document.mac),
        address4=IPv4Address(document.address4),
        address6=None if document.address6 is None else IPv6Address(document.address6),
        generation=document.generation,
        netns=document.netns,
        netns_device=document.netns_device,
        netns_inode=document.netns_inode,
        owns_netns=document.owns_netns,
        past_generations=document.past_generations,
        bindings=tuple(_binding_of(exposure) for exposure in document.exposed),
        tiers=tiers_of(document.policies),
        tenant_number=document.tenant_number,
    )


def _exposure_document(binding: PortBinding) -> ExposureDocument:
    return ExposureDocument(
        protocol=binding.protocol,
        host_port=binding.host_port,
        host_port_last=binding.last,
        port=binding.port,
        bind=None if binding.bind is None else str(binding.bind),
        sources=tuple(str(source) for source in binding.sources),
        proxy=proxy_text(binding),
    )


def _binding_of(document: ExposureDocument) -> PortBinding:
    return PortBinding(
        protocol=document.protocol,
        host_port=document.host_port,
        port=document.port,
        host_port_last=document.host_port_last if document.host_port_last != document.host_port else 0,
        bind=None if document.bind is None else ip_address(document.bind),
        sources=tuple(ip_network(source) for source in document.sources),
        proxy=proxied_family(document.proxy),
    )


def status_document(status: Status) -> StatusDocument:
    """The document of a status."""
    return StatusDocument(
        up=status.up,
        mechanism=status.mechanism,
        endpoints=status.endpoints,
        draining=status.pending,
        drift=status.drift,
        node_drift=status.node_drift,
        warnings=status.warnings,
        notes=status.notes,
        ready=status.ready,
    )


def status_of(document: StatusDocument) -> Status:
    """The status that a document tells."""
    return Status(
        up=document.up,
        endpoints=document.endpoints,
        pending=document.draining,
        drift=document.drift,
        node_drift=document.node_drift,
        warnings=document.warnings,
        notes=document.notes,
        mechanism=document.mechanism,
        ready=document.ready,
    )


def up_document(report: UpReport) -> UpDocument:
    """The document of an `up`."""
    return UpDocument(
        changed=report.changed,
        mechanism=report.mechanism,
        uplink=report.uplink,
        ipv6=report.ipv6,
        dns=addresses_text(report.dns),
        warnings=report.warnings,
    )


def up_of(document: UpDocument) -> UpReport:
    """The report that a document tells."""
    return UpReport(
        changed=document.changed,
        uplink=document.uplink,
        ipv6=document.ipv6,
        dns=addresses_of(document.dns),
        warnings=document.warnings,
        mechanism=document.mechanism,
    )


def reconciled_document(reconciled: Reconciled) -> ReconciledDocument:
    """The document of a reconcile."""
    return ReconciledDocument(reconciled.repaired)


def reconciled_of(document: ReconciledDocument) -> Reconciled:
    """What a document tells was repaired."""
    return Reconciled(document.repaired)


def addresses_text(addresses: tuple[Address, ...]) -> tuple[str, ...]:
    """Each as text."""
    return tuple(str(address) for address in addresses)


def addresses_of(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """The addresses of such texts."""
    return tuple(ip_address(text) for text in texts)
