"""Results of ADD in each spoken version, and CHECK's comparison of an earlier one with an endpoint.

Owns: the shape of the specification's result type. Order matters to plugins that follow in a list: bridge, host
side, then the interface in the sandbox, which the addresses point at; `bandwidth` and `tuning` find theirs that way.
What earlier plugins of a list reported is kept and comes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cellwall.cni.conf import Names
from cellwall.model.addresses import Address, mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.network import Network


class Port(msgspec.Struct, frozen=True):
    """The host side's hardware address and the MTU, as the kernel has them."""

    mac: int
    mtu: int


def render_result(
    version: str,
    endpoint: Endpoint,
    network: Network,
    port: Port,
    names: Names,
    previous: Mapping[str, Any] | None = None,
) -> bytes:
    """The result of an ADD as JSON."""
    earlier = dict(previous or {})
    interfaces = list(earlier.get("interfaces") or ())
    index = len(interfaces) + 2
    interfaces += _interfaces(version, endpoint, network, port)
    document = {
        **earlier,
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": list(earlier.get("ips") or ()) + _ips(version, endpoint, network, index),
        "routes": list(earlier.get("routes") or ()) + _routes(endpoint, network),
        "dns": names,
    }
    return msgspec.json.encode(document)


def told_names(conf: Names, resolvers: Sequence[Address]) -> Names:
    """The `dns` of a result: what the conflist says, else the wall's resolvers."""
    if conf.nameservers:
        return conf
    return msgspec.structs.replace(conf, nameservers=tuple(str(address) for address in resolvers))


def _interfaces(version: str, endpoint: Endpoint, network: Network, port: Port) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {"name": network.bridge, "mac": mac_text(network.bridge_mac)},
        {"name": endpoint.host_link, "mac": mac_text(port.mac)},
        {"name": endpoint.key.ifname, "mac": mac_text(endpoint.mac), "sandbox": endpoint.netns},
    ]
    if version == "1.1.0":
        for row in rows:
            row["mtu"] = port.mtu
    return rows


def _ips(version: str, endpoint: Endpoint, network: Network, index: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for address, subnet, gateway in _families(endpoint, network):
        row: dict[str, object] = {
            "address": f"{address}/{subnet}",
            "gateway": str(gateway),
            "interface": index,
        }
        if version == "0.4.0":
            row["version"] = str(address.version)
        rows.append(row)
    return rows


def _routes(endpoint: Endpoint, network: Network) -> list[dict[str, object]]:
    return [
        {"dst": "0.0.0.0/0" if address.version == 4 else "::/0", "gw": str(gateway)}
        for address, _, gateway in _families(endpoint, network)
    ]


def _families(endpoint: Endpoint, network: Network) -> Iterator[tuple[Address, int, Address]]:
    yield endpoint.address4, network.subnet4.prefixlen, network.gateway4
    if endpoint.address6 is not None:
        yield endpoint.address6, network.subnet6.prefixlen, network.gateway6


def compare_result(previous: Mapping[str, Any], endpoint: Endpoint, network: Network) -> Iterator[str]:
    """Where an earlier result does not describe this endpoint; other plugins' rows in it are theirs to check."""
    sandboxed = [row for row in _rows(previous, "interfaces") if row.get("sandbox")]
    named = [row for row in sandboxed if row.get("name") == endpoint.key.ifname]
    if not named:
        yield f"prevResult.interfaces: no {endpoint.key.ifname} in a sandbox"
    for row in named:
        if str(row.get("mac", "")).lower() != mac_text(endpoint.mac):
            yield f"prevResult.interfaces: {row.get('mac')}: the endpoint's MAC is {mac_text(endpoint.mac)}"
    addresses = [row.get("address") for row in _rows(previous, "ips")]
    for address, length, _ in _families(endpoint, network):
        if f"{address}/{length}" not in addresses:
            yield f"prevResult.ips: {address}/{length} of the endpoint is not among {addresses}"


def _rows(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = document.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
