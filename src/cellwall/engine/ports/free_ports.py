"""Host ports that nothing else may want, to be given to who asks for any."""

import os
from collections.abc import Iterator

from cellwall.engine.site import Site
from cellwall.model.endpoint import PortBinding
from cellwall.model.reserved import Span, candidates, parse_spans


def free_ports(site: Site, reserved: set[int]) -> Iterator[int]:
    """Ports of the configured range that nothing else may want: neither a connection of the node's own, nor a
    translated flow, a declared service, a published port or another reservation."""
    spared = [*_spared(site), *((port, port) for port in reserved)]
    low, high = site.settings.reserved_ports
    for port in candidates((low, high), spared, int.from_bytes(os.urandom(4))):
        if not is_published(site, port):
            yield port


def is_published(site: Site, port: int) -> bool:
    """Whether it is led to some endpoint."""
    return any(site.journal.binding_holder(PortBinding(kind, port, port)) for kind in ("tcp", "udp"))


def ephemeral_ports(site: Site) -> tuple[Span, ...]:
    """Those that the kernel gives to connections of the node's own."""
    return parse_spans(site.sysctls.read("net.ipv4.ip_local_port_range") or "")


def set_aside_ports(site: Site) -> tuple[Span, ...]:
    """Those that the kernel gives to nobody who asks for any: the operator has something in mind for them."""
    return parse_spans(site.sysctls.read("net.ipv4.ip_local_reserved_ports") or "")


def range_text(site: Site) -> str:
    """Where these ports are taken from, for who is told that there are no more."""
    low, high = site.settings.reserved_ports
    return f"{low}-{high} (node.reserved_ports), without ip_local_port_range, node.nat_ports and what is in use,"


def _spared(site: Site) -> list[Span]:
    services = [(one.port, one.port) for one in site.settings.services]
    return [
        site.settings.nat_ports,
        *ephemeral_ports(site),
        *set_aside_ports(site),
        *site.settings.kept_ports,
        *services,
    ]
