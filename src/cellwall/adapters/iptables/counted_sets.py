"""What rules of iptables count by address of what they deny: ipsets that they add an address to, with a counter each.

An entry stays as long as its set, whoever has the address: it counts on, and totals are for others to tell apart.
"""

import errno
from ipaddress import ip_address

from cellwall.adapters.iptables.ipset import list_set
from cellwall.adapters.netlink.nlattr import each_attribute
from cellwall.adapters.netlink.sockets import Netlink
from cellwall.errors import KernelError
from cellwall.lower.xt.sets import counting_sets
from cellwall.model.figures import Denied

_IP, _PACKETS = 1, 25  # IPSET_ATTR_*


def read_denied_by_address(netfilter: Netlink) -> Denied | None:
    """All that was counted; None where there are no such sets."""
    counted: dict[str, int] = {}
    try:
        for one in counting_sets():
            for entry in list_set(netfilter, one.name):
                address = next(str(ip_address(packed)) for _, packed in each_attribute(entry[_IP]))
                counted[address] = counted.get(address, 0) + int.from_bytes(entry[_PACKETS], "big")
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
    return Denied({}, {}, {}, counted)
