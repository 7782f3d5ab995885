"""What conntrack remembers of a host port's former life: flows to another container, or to the node itself.

An entry is made once, with the first packet of a flow, and every packet keeps it alive, also one that is dropped: a
client that keeps its source port would be led to the former holder for ever. So whoever publishes a port ends them,
with its own elements in place, and they begin anew. Whoever withdraws one ends those by it: where another port leads to
the same one of the endpoint, no rule of iptables tells them apart.
"""

from collections.abc import Sequence

import msgspec

from cellwall.engine.contracts import PortFlows
from cellwall.engine.site import Site
from cellwall.model.addresses import Address, Protocol, parse_address
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.versions import every_version, stems


def end_former_flows(site: Site, published: Sequence[tuple[Endpoint, PortBinding]]) -> None:
    """End flows to these host ports that do not lead to their endpoints. Without bindings it asks the kernel nothing,
    and for TCP only where an endpoint that is closed had the port: a new connection of a client begins with a SYN, by
    which conntrack forgets one that the node refused, and withdrawing a port ended what it had."""
    closed = [binding for former in site.journal.draining.all() for binding in former.bindings] if published else []
    ended = [
        (endpoint, binding)
        for endpoint, binding in published
        if binding.protocol == "udp" or any(binding.overlaps(former) for former in closed)
    ]
    if ended:
        own = site.node.addresses()
        site.flows.end_flows([_flows(own, binding, endpoint) for endpoint, binding in ended])


def note_withdrawal(site: Site, binding: PortBinding) -> None:
    """Put on record, in the caller's transaction, that flows by this port have to end; it is nobody's from then on."""
    port = (binding.protocol, binding.host_port, binding.last, str(binding.bind or ""))
    site.journal.put("withdrawn", msgspec.json.encode(port))


def end_withdrawn_flows(site: Site) -> None:
    """End the flows by the port that is on record as withdrawn; nothing where none is. It stays on record."""
    body = site.journal.get("withdrawn")
    if body is not None:
        protocol, first, last, bind = msgspec.json.decode(body, type=tuple[Protocol, int, int, str])
        address = parse_address(bind, "bind") if bind else None
        gone = PortBinding(protocol, first, first, last, address)
        site.flows.end_flows([_flows(site.node.addresses(), gone, None)])


def end_unknown_flows(site: Site) -> None:
    """End the flows of endpoints that are not on record, as where it was lost: versions begin anew at random, and what
    an old stamp says of whose a flow is means nothing beside new ones."""
    known = stems(tuple(one for row in site.journal.endpoints() for one in (*row.past_generations, row.generation)))
    network = site.settings.network
    networks = (network.subnet4, network.subnet6)
    site.flows.end_stamped_flows(every_version(site.settings.mark), networks, frozenset(known))


def forget_withdrawal(site: Site) -> None:
    """In the caller's transaction: they have ended, or the port is its holder's again."""
    site.journal.drop("withdrawn")


def _flows(own: frozenset[Address], binding: PortBinding, holder: Endpoint | None) -> PortFlows:
    keep = () if holder is None else (holder.address4, holder.address6)
    return PortFlows(
        protocol=binding.protocol,
        first=binding.host_port,
        last=binding.last,
        destinations=own if binding.bind is None else frozenset({binding.bind}),
        keep=frozenset(address for address in keep if address is not None),
    )
