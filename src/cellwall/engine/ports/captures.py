"""What a host port would take away from the node itself: its declared services, and whatever listens there now."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from cellwall.engine.contracts import Listener
from cellwall.engine.node.foreign_chains import Translation
from cellwall.engine.site import Foundation, Site
from cellwall.errors import Conflict, InvalidSpec
from cellwall.model.addresses import Address, Protocol
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.settings import Opening


def refuse_captures(site: Site, found: Foundation, bindings: Sequence[PortBinding], *, ipv6: bool) -> None:
    """Raise InvalidSpec for a port of `node.services`, Conflict for one on which a socket of the node takes what comes.
    `ipv6`: the endpoint has an IPv6 address."""
    for binding in bindings:
        for service in _services(site, binding):
            raise InvalidSpec("expose.host_port", str(binding), f"is {service.name} of node.services")
    versions = (4, 6) if ipv6 else (4,)
    for binding, translation in _translated(site, found, bindings, {*versions}):
        raise Conflict(f"expose.host_port: {binding}: others lead that port elsewhere, in {translation.place}")
    from cellwall.engine.ports.reservations import (
        holding_sockets,  # here and not above: a look without a port needs none
    )

    listeners, holding, interfaces = _listeners(site, bindings), holding_sockets(site), _ways_in(site, found)
    for binding in bindings:
        for listener in listeners[binding.protocol]:
            if listener.inode in holding:
                continue  # it reads nothing: the port is kept for this very endpoint, else it had been refused before
            if listener.interface in interfaces and captures(binding, listener, {*versions, binding.proxy}):
                where = f"{listener.address} port {listener.port}"
                raise Conflict(f"expose.host_port: {binding}: the node itself listens there, on {where}")


def captured_services(site: Site, endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Ports that were published before a service of the node was declared there, a line each."""
    return tuple(
        f"{binding} of {endpoint.key} captures {service.name} of node.services"
        for endpoint in endpoints
        for binding in endpoint.bindings
        for service in _services(site, binding)
    )


def captured_listeners(site: Site, found: Foundation, endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Ports that were published before a socket of the node listened there, a line each: it gets nothing."""
    published = [(endpoint, binding) for endpoint in endpoints for binding in endpoint.bindings if not binding.proxy]
    if not published:
        return ()
    from cellwall.engine.ports.reservations import holding_sockets  # as above

    listeners = _listeners(site, [binding for _, binding in published])
    holding, interfaces = holding_sockets(site), _ways_in(site, found)
    return tuple(
        f"{binding} of {endpoint.key} takes what comes to {listener.address} port {listener.port}, where the node "
        "listens by now"
        for endpoint, binding in published
        for listener in listeners[binding.protocol]
        if listener.interface in interfaces and listener.inode not in holding
        if captures(binding, listener, (4,) if endpoint.address6 is None else (4, 6))
    )


def captured_translations(site: Site, found: Foundation) -> tuple[str, ...]:
    """Ports that were published before others led them elsewhere, a line each: who comes first has the clients."""
    return tuple(
        f"{binding} of {endpoint.key} and others want what comes to one port: {translation.place}"
        for endpoint in site.journal.endpoints("attached")
        for binding, translation in _translated(
            site, found, endpoint.bindings, {4} if endpoint.address6 is None else {4, 6}
        )
    )


def _translated(
    site: Site, found: Foundation, bindings: Iterable[PortBinding], versions: set[int]
) -> Iterator[tuple[PortBinding, Translation]]:
    """Bindings whose clients a rule of others leads elsewhere, if ours does not."""
    published = list(bindings)
    translations = site.neighbours.translations() if published else ()
    if not translations:
        return
    own = site.node.addresses()
    for binding in published:
        reached = versions if binding.bind is None else {binding.bind.version}
        addresses = {address for address in own if address.version in reached and binding.bind in (None, address)}
        for one in translations:
            meets = one.protocol == binding.protocol and one.first <= binding.last and binding.host_port <= one.last
            if meets and one.version in (None, *reached) and _comes_by(one, found.uplink, addresses):
                yield binding, one


def _comes_by(translation: Translation, uplink: str, addresses: Collection[Address]) -> bool:
    """Whether it is about what comes to one of these addresses by the uplink."""
    name = translation.interface.removeprefix("!").replace("+", "*")
    if name and fnmatchcase(uplink, name) == translation.interface.startswith("!"):
        return False
    if not translation.addresses:
        return True
    return any(
        address.version == first.version and int(first) <= int(address) <= int(last)
        for first, last in translation.addresses
        for address in addresses
    )


def _ways_in(site: Site, found: Foundation) -> tuple[int, ...]:
    """The interfaces to which a socket may be bound that gets what comes by the uplink; 0: to none."""
    uplink = site.links.find(found.uplink)
    return (0,) if uplink is None else (0, uplink.index)


def _services(site: Site, binding: PortBinding) -> Iterator[Opening]:
    for service in site.settings.services:
        named = binding.protocol == service.protocol and binding.host_port <= service.port <= binding.last
        if named and binding.bind in (None, service.address):
            yield service


def captures(binding: PortBinding, listener: Listener, versions: Collection[int]) -> bool:
    """Some packet that the listener would get is led to the endpoint instead. `versions`: those of the endpoint's
    addresses. Both are of one protocol."""
    if listener.address.is_loopback or not binding.host_port <= listener.port <= binding.last:
        return False
    if not listener.address.is_unspecified:
        return binding.bind == listener.address or (binding.bind is None and listener.address.version in versions)
    served = {4, 6} if listener.both else {listener.address.version}
    return bool(served & (set(versions) if binding.bind is None else {binding.bind.version}))


def _listeners(site: Site, bindings: Sequence[PortBinding]) -> dict[Protocol, tuple[Listener, ...]]:
    """One look a protocol, and for a single port at that port alone."""
    protocols = {binding.protocol for binding in bindings}
    single = len(bindings) == 1 and bindings[0].last == bindings[0].host_port
    port = bindings[0].host_port if single else 0
    return {protocol: site.node.listeners(protocol, port) for protocol in protocols}
