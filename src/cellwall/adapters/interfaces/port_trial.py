"""Which flags of a bridge port this kernel has: tried at a port that leads nowhere."""

from cellwall.adapters.interfaces.bridge_ports import absent_flags
from cellwall.adapters.interfaces.bridges import find_link
from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32
from cellwall.adapters.netlink.rtnetlink import (
    IFLA_IFNAME,
    IFLA_MASTER,
    RTM_NEWLINK,
    link_header,
    link_kind,
    link_message,
    open_route_socket,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_EXCL
from cellwall.adapters.throwaway import in_new_namespace
from cellwall.errors import NotFound

_NEW = NLM_F_CREATE | NLM_F_EXCL


def try_port_flags() -> tuple[str, ...]:
    """The names of those that it does not have. KernelError where no namespace, bridge or pair can be made."""
    return in_new_namespace(_attempt)


def _attempt() -> tuple[str, ...]:
    with open_route_socket() as route:

        def make(name: str, kind: str, *attributes: bytes) -> int:
            named = attribute_text(IFLA_IFNAME, name)
            message = link_message(RTM_NEWLINK, link_header(), named, *attributes, link_kind(kind), flags=_NEW)
            route.transact([message], f"make a {kind}")
            link = find_link(route, name)
            if link is None:
                raise NotFound(f"the {kind} that was made")
            return link.index

        bridge = make("bridge", "bridge")
        return absent_flags(route, make("port", "veth", attribute_u32(IFLA_MASTER, bridge)))
