"""What a kernel and its programs have, as far as the lowering depends on it."""

from ipaddress import IPv4Network
from typing import Literal

import msgspec

PinForm = Literal["bitmap", "hash", "program"]
"""How (MAC, address) is bound: a bitmap:ip,mac set, a hash:ip,mac set, or a constant program that knows the MAC of an
address, with a set of those that have another."""

_LARGEST_BITMAP = 16  # a bitmap set holds 65,536 addresses


class XtFeatures(msgspec.Struct, frozen=True):
    """`ipmac`: the set type hash:ip,mac. `program`: the match `bpf`. `security`: the table after `filter`, where what
    a flush of `filter` takes away stands once more. `frames`: ebtables. `ipv6`: ip6tables; `nat6`: its table nat.
    `priority`: a rule can take a packet's place in a queue from it. `timeouts`: connection tracking has timeouts that
    rules name. `packet_log`: rules can tell programs of packets; `frame_log`: those of ebtables can."""

    ipmac: bool = False
    program: bool = True
    security: bool = True
    frames: bool = True
    ipv6: bool = True
    nat6: bool = True
    priority: bool = True
    timeouts: bool = True
    packet_log: bool = True
    frame_log: bool = True


def pin_form(version: int, subnet4: IPv4Network, features: XtFeatures) -> PinForm | None:
    """How endpoints are pinned in a family; None: they cannot be, and have no address of it."""
    if version == 6 and not (features.ipv6 and features.nat6):
        return None
    if version == 4 and subnet4.prefixlen >= _LARGEST_BITMAP:
        return "bitmap"
    if features.ipmac:
        return "hash"
    return "program" if features.program else None
