"""What a network card does and a veth does not: it writes the checksums of what it sends.

Owns: one ethtool request. A veth hands unfinished checksums on to its peer, so that a packet whose sender chose where
the checksum goes (virtio_net_hdr, as a virtual machine's or any packet socket's) arrives as the hooks saw it; out of a
card it leaves with two bytes written there after every hook. Without the offload the kernel writes them itself, at
the same place and moment as a card does.
"""

import array
import fcntl
import socket
import struct

from cellwall.errors import LabError

_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h


def finish_checksums(ifname: str) -> None:
    """Have every packet leave by a link of the calling thread's namespace with its checksums written, and for that cut
    to size, since the kernel switches segmentation offload off with them. Doing it again changes nothing."""
    request = array.array("B", struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    address, _ = request.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sP16x", ifname.encode(), address))
        except OSError as error:
            raise LabError(f"checksums of {ifname}: {error.strerror}") from error
