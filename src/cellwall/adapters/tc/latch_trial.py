"""Whether this kernel takes a latch: tried where it latches nothing."""

from cellwall.adapters.netlink.rtnetlink import open_route_socket
from cellwall.adapters.tc.latch import ensure_latch
from cellwall.adapters.throwaway import in_new_namespace
from cellwall.errors import KernelError

_LOOPBACK = 1  # the first link of every namespace (include/linux/netdevice.h, LOOPBACK_IFINDEX)


def try_latch() -> str:
    """Why it takes none, "" where it does."""
    try:
        return "" if in_new_namespace(_attempt) else "the kernel has no cls_bpf"
    except KernelError as error:
        return str(error)


def _attempt() -> bool:
    with open_route_socket() as route:
        return ensure_latch(route, _LOOPBACK, 1, frames=True)
