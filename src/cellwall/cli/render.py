"""The tables of the command's output, and the lines about one thing. Documents are `cellwall.wire.documents`.

Pure: values in, text out.
"""

from collections.abc import Iterable, Sequence

from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint


def endpoint_text(endpoint: Endpoint) -> str:
    """One endpoint, a line per fact."""
    rows = [
        ("container", endpoint.key.container_id),
        ("tenant", endpoint.tenant or "-"),
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
            endpoint.tenant or "-",
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
