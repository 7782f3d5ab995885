"""Whether anybody comes by the address that a port is published at: the rules ask of each client's packet whether its
destination is the node's own."""

from collections.abc import Iterable

from cellwall.engine.site import Site
from cellwall.errors import Conflict
from cellwall.model.addresses import Address
from cellwall.model.endpoint import Endpoint, PortBinding


def refuse_strange_addresses(site: Site, bindings: Iterable[PortBinding]) -> None:
    """Raise Conflict for one that is not the node's, but where the node lets its programs bind such: an address that
    moves between nodes comes after what it leads to."""
    for binding in bindings:
        bind = binding.bind
        if bind is None or site.node.is_own(bind) or _may_come(site, bind):
            continue
        later = "" if _is_nobodys(bind) else f", and {_setting(bind)} is 0"
        raise Conflict(f"expose.bind: {binding}: {bind} is no address of the node{later}")


def unreached_bindings(site: Site, endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Published ports by which nobody comes, a line each: their address has not come yet, or is gone."""
    bound = [(one, binding, binding.bind) for one in endpoints for binding in one.bindings if binding.bind is not None]
    strange = {bind for bind in {bind for *_, bind in bound} if not site.node.is_own(bind)}
    return tuple(
        f"{binding} of {endpoint.key}: nobody comes by it: {bind} is no address of the node"
        for endpoint, binding, bind in bound
        if bind in strange
    )


def _may_come(site: Site, address: Address) -> bool:
    return not _is_nobodys(address) and site.sysctls.read(_setting(address)) == "1"


def _is_nobodys(address: Address) -> bool:
    return address.is_multicast or address.is_reserved


def _setting(address: Address) -> str:
    return f"net.ipv{address.version}.ip_nonlocal_bind"
