"""The host side of an endpoint as the kernel has it: two ioctls, for the fields of a result that no state keeps.

Not /sys/class/net: sysfs shows the network namespace it was mounted in, which need not be the caller's.
"""

import _socket as socket
import fcntl
import struct

from cellwall.cni.result import Port
from cellwall.errors import KernelError

_SIOCGIFMTU = 0x8921  # linux/sockios.h
_SIOCGIFHWADDR = 0x8927
_IFREQ = "16s24x"  # linux/if.h struct ifreq: the name, then a union of 24 bytes


def read_port(name: str) -> Port:
    """The MAC and the MTU of one link of the caller's namespace."""
    request = struct.pack(_IFREQ, name.encode())
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        hardware = fcntl.ioctl(probe.fileno(), _SIOCGIFHWADDR, request)
        mtu = fcntl.ioctl(probe.fileno(), _SIOCGIFMTU, request)
    except OSError as error:
        raise KernelError(error.errno or 0, f"reading link {name}") from error
    finally:
        probe.close()
    # struct sockaddr: two bytes of family, then the address
    return Port(int.from_bytes(hardware[18:24], "big"), struct.unpack_from("=i", mtu, 16)[0])
