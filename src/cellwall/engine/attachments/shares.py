"""What of a node is not for somebody who is not root: its last quarter of room, and the ports that are its own.

Whoever may attach for `ci-*` may for as many tenants as there are names: no bound of a tenant's is one of theirs.
"""

from collections.abc import Sequence

from cellwall.engine.ports.free_ports import ephemeral_ports, set_aside_ports
from cellwall.engine.requests import AttachRequest
from cellwall.engine.site import Site
from cellwall.errors import Exhausted, InvalidSpec
from cellwall.model.endpoint import AUTO, PortBinding
from cellwall.model.reserved import Span


def refuse_last_quarter(site: Site, requests: Sequence[AttachRequest], room: int) -> None:
    """Raise Exhausted where sandboxes that others than root ask for would be more than three quarters of the node's
    `room`, the number of those that it has ports and addresses for. Root's own are no part of it."""
    asked = sum(request.user is not None for request in requests)
    if not asked:
        return
    room = min(room, site.settings.network.subnet4.num_addresses - 3)  # network, gateway, broadcast
    most = room - room // 4 - asked
    if site.journal.count() - site.journal.pooled_count() <= most:
        return  # whoever they are of, which takes a look into each
    if (there := site.journal.members_count()) > most:
        raise Exhausted(f"attach: {there} of {room} sandboxes are others' than root's; the last quarter is root's")


def refuse_own_ports(site: Site, bindings: Sequence[PortBinding]) -> None:
    """Raise InvalidSpec for host ports that the node's own connections are given, and that its operator keeps, by a
    setting or as the kernel's reserved ones. What comes late to one of the former, when its flow is forgotten, would be
    led to the sandbox; by one of the latter somebody may be served for whom nothing listens, as who asks a NodePort."""
    for setting, whose, spans in _own_ports(site):
        for binding in bindings:
            for low, high in spans:
                if binding.host_port != AUTO and binding.host_port <= high and binding.last >= low:
                    raise InvalidSpec("expose.host_port", str(binding), f"is in {setting}, {low}-{high}{whose}")


def _own_ports(site: Site) -> list[tuple[str, str, Sequence[Span]]]:
    """The setting that names them, what is said of them behind it, and the ports."""
    return [
        ("ip_local_port_range", ", of the node's own connections", ephemeral_ports(site)),
        ("node.kept_ports", "", site.settings.kept_ports),
        ("net.ipv4.ip_local_reserved_ports", ", which the operator keeps", set_aside_ports(site)),
    ]
