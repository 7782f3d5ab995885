"""The documents and tables of the command's output.

The documents are a promise: a field keeps its name and meaning, new ones may be added. An endpoint is

    {"container": "web", "interface": "eth0", "tenant": "acme", "address4": "192.168.0.2",
     "address6": "fd00:abcd::2" or null, "mac": "0a:58:c0:a8:00:02", "host_interface": "b9h…",
     "netns": "/run/…", "exposed": [{"protocol": "tcp", "host_port": 8080, "host_port_last": 8080, "port": 80,
     "bind": null or an address, "sources": ["203.0.113.0/24", …]}]}

Pure: values in, text out.
"""

from collections.abc import Iterable, Sequence

import msgspec

from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint, PortBinding


class ExposureDocument(msgspec.Struct, frozen=True):
    """A port binding as programs read it."""

    protocol: str
    host_port: int
    host_port_last: int
    port: int
    bind: str | None
    sources: tuple[str, ...]


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


def endpoint_document(endpoint: Endpoint) -> EndpointDocument:
    """The document of one endpoint."""
    return EndpointDocument(
        container=endpoint.key.container_id,
        interface=endpoint.key.ifname,
        tenant=endpoint.tenant,
        address4=str(endpoint.address4),
        address6=None if endpoint.address6 is None else str(endpoint.address6),
        mac=mac_text(endpoint.mac),
        host_interface=endpoint.host_link,
        netns=endpoint.netns,
        exposed=tuple(_exposure_document(binding) for binding in endpoint.bindings),
    )


def _exposure_document(binding: PortBinding) -> ExposureDocument:
    return ExposureDocument(
        protocol=binding.protocol,
        host_port=binding.host_port,
        host_port_last=binding.last,
        port=binding.port,
        bind=None if binding.bind is None else str(binding.bind),
        sources=tuple(str(source) for source in binding.sources),
    )


def endpoint_text(endpoint: Endpoint) -> str:
    """One endpoint, a line per fact."""
    rows = [
        ("container", endpoint.key.container_id),
        ("tenant", endpoint.tenant),
        ("interface", f"{endpoint.key.ifname} (on the node: {endpoint.host_link})"),
        ("address", " ".join(_addresses(endpoint))),
        ("mac", mac_text(endpoint.mac)),
        ("netns", endpoint.netns),
    ]
    rows += [("exposed", str(binding)) for binding in endpoint.bindings]
    return facts(rows)


def endpoint_table(endpoints: Iterable[Endpoint]) -> str:
    """All endpoints, a line each."""
    rows = [
        (
            endpoint.key.container_id,
            endpoint.tenant,
            endpoint.key.ifname,
            str(endpoint.address4),
            str(endpoint.address6 or "-"),
            ", ".join(str(binding) for binding in endpoint.bindings) or "-",
        )
        for endpoint in endpoints
    ]
    return table(("CONTAINER", "TENANT", "INTERFACE", "IPV4", "IPV6", "EXPOSED"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the last one unpadded."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Name and value, a line each; a name that repeats is said once."""
    lines: list[str] = []
    last = ""
    for name, value in rows:
        shown = "" if name == last else f"{name}:"
        lines.append(f"{shown:<11} {value}".rstrip())
        last = name
    return "\n".join(lines)


def _addresses(endpoint: Endpoint) -> list[str]:
    return [str(address) for address in (endpoint.address4, endpoint.address6) if address is not None]
