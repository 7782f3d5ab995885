"""Whether this kernel takes a latch: tried where it latches nothing, in a network namespace that is thrown away."""

import ctypes
import os
import threading

from cellwall.adapters.latch import ensure_latch
from cellwall.adapters.rtnetlink import open_route_socket
from cellwall.errors import KernelError

_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1  # the first link of every namespace (include/linux/netdevice.h, LOOPBACK_IFINDEX)


def try_latch() -> str:
    """Why it takes none, "" where it does."""
    said: list[str] = []
    # A thread of its own: the namespace that it unshares ends with it.
    trial = threading.Thread(target=lambda: said.append(_attempt()), name="cellwall-latch")
    trial.start()
    trial.join()
    return said[0] if said else "it could not be tried"


def _attempt() -> str:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return f"no network namespace can be made: {os.strerror(ctypes.get_errno())}"
    try:
        with open_route_socket() as route:
            return "" if ensure_latch(route, _LOOPBACK, 1, frames=True) else "the kernel has no cls_bpf"
    except KernelError as error:
        return str(error)
