"""The node's links over one long-lived rtnetlink socket: pairs, bridge ports, the retired ones.

Owns: that a host end is created down and enslaved, that nothing is opened before `open_port`, and that an index read
once is never trusted alone where something is taken away: indices are reused, names (48 bits of a hash, created
exclusively) are not, so both must agree.

Refuses: to delete a link one by one. A deletion waits for RCU and for the namespaces in cleaning (12 ms and more);
retired links go in one message by group.
"""

import errno
import time
from collections.abc import Container, Sequence

from cellwall.adapters.interfaces import bridge_ports, bridges, carrier
from cellwall.adapters.interfaces.bridge_ports import addresses_of, entry_message, lock_messages
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attribute_u32, nested
from cellwall.adapters.netlink.rtnetlink import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    IFLA_NUM_RX_QUEUES,
    IFLA_NUM_TX_QUEUES,
    NETNSA_FD,
    NETNSA_NSID,
    RTM_DELLINK,
    RTM_DELNEIGH,
    RTM_NEWLINK,
    RTM_NEWNSID,
    RTM_SETLINK,
    VETH_INFO_PEER,
    get_link,
    get_links,
    index_of,
    is_running,
    link_header,
    link_index,
    link_kind,
    link_message,
    neighbour_message,
    open_route_socket,
    read_link,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_EXCL, Closing, Message
from cellwall.adapters.sandbox.sandboxes import configure_sandbox, mtu_message, set_inner_mtu
from cellwall.engine.contracts import LinkPlan, ObservedLink, ObservedSandbox, PortPlan, SandboxPlan
from cellwall.errors import AlreadyExists, KernelError
from cellwall.model.network import Network
from cellwall.names import REAPER_GROUP

_CREATE = NLM_F_CREATE | NLM_F_EXCL
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT)
_NO_PORT = (errno.EOPNOTSUPP, errno.EINVAL)  # of a link that is no port of a bridge

_LARGEST_ID = (1 << 31) - 1
# Nothing depends on an id: what keeps a namespace from having one is for the pair behind it to fail by, if it does.
_WITHOUT_ID = (errno.EEXIST, errno.EINVAL, errno.EBADF, errno.ENOSPC, errno.ENOMEM, errno.EPERM, errno.EOPNOTSUPP)

_REAPED = attribute_u32(IFLA_GROUP, REAPER_GROUP)
# veth uses one queue each way unless told otherwise, but makes one per possible CPU (drivers/net/veth.c,
# veth_init_queues): asking for one changes no packet and saves a fifth of a creation on two CPUs, more on more.
_ONE_QUEUE = attribute_u32(IFLA_NUM_TX_QUEUES, 1) + attribute_u32(IFLA_NUM_RX_QUEUES, 1)


class LinkLayer(Closing):
    """`engine.contracts.Links` of the network namespace that the creating thread is in."""

    def __init__(self) -> None:
        self._route = open_route_socket()
        self._ends: dict[int, carrier.Ends] = {}

    def close(self) -> None:
        self._route.close()

    def ensure_bridge(self, network: Network, *, ipv6: bool, mtu: int) -> int:
        """See `Links.ensure_bridge`."""
        return bridges.ensure_bridge(self._route, network, ipv6=ipv6, mtu=mtu)

    def find_bridge(self, name: str) -> ObservedLink | None:
        """See `Links.find_bridge`."""
        return bridges.find_bridge(self._route, name)

    def bridge_differences(self, network: Network, *, ipv6: bool, mtu: int) -> tuple[str, ...]:
        """See `Links.bridge_differences`."""
        return bridges.bridge_differences(self._route, network, ipv6=ipv6, mtu=mtu)

    def ensure_checksum_filter(self, bridge_index: int) -> str:
        """See `Links.ensure_checksum_filter`."""
        from cellwall.adapters.tc.checksums import ensure_filter  # here and not above: no attach comes by

        return ensure_filter(self._route, bridge_index)

    def checksum_differences(self, bridge_index: int) -> tuple[str, ...]:
        """See `Links.checksum_differences`."""
        from cellwall.adapters.tc.checksums import filter_differences

        return filter_differences(self._route, bridge_index)

    def ensure_latch(self, bridge_index: int, mark: int, *, frames: bool = True) -> bool:
        """See `Links.ensure_latch`."""
        # Imported here: an attach has no use for it.
        from cellwall.adapters.tc.latch import ensure_latch

        return ensure_latch(self._route, bridge_index, mark, frames=frames)

    def shut_latch(self, bridge_index: int) -> None:
        """See `Links.shut_latch`."""
        from cellwall.adapters.tc.latch import shut_latch

        shut_latch(self._route, bridge_index)

    def latch_differences(self, bridge_index: int, mark: int, *, frames: bool = True) -> tuple[str, ...]:
        """See `Links.latch_differences`."""
        from cellwall.adapters.tc.latch import latch_differences

        return latch_differences(self._route, bridge_index, mark, frames=frames)

    def delete_bridge(self, network: Network) -> None:
        """See `Links.delete_bridge`."""
        bridges.delete_bridge(self._route, network)

    def create_pair(self, plan: LinkPlan, netns_fd: int) -> int:
        """See `Links.create_pair`."""
        operation = f"create {plan.host_link}"
        # Refused because of the name, the read after it meets another link: a read does it no harm.
        messages = (_numbered(netns_fd), _pair(plan, netns_fd), get_link(plan.host_link))
        try:
            reply = self._route.transact(messages, operation)[-1]
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            # veth says EEXIST for either end.
            place = f"exists inside the sandbox already, or {plan.host_link} does on the node"
            raise AlreadyExists(f"ifname: {plan.ifname}: {place}") from error
        index, ends = link_index(reply), carrier.ends_of(reply)
        if (read_link(reply).master if ends is None else ends[0]) != plan.bridge_index:
            self._route.transact([_delete(index)], f"undo {operation}")
            raise KernelError(errno.ENODEV, operation, f"it did not become a port of bridge {plan.bridge_index}")
        if ends is not None:
            self._ends[index] = ends
        return index

    def lock_port(self, plan: PortPlan) -> None:
        """See `Links.lock_port`. Idempotent."""
        self._route.transact(lock_messages(plan), f"lock bridge port {plan.host_index}")
        if plan.shut:  # nor does its host end say anything into the sandbox: with IPv6 it would, of itself
            carrier.silence(self._route, plan.host_index)

    def relock_port(self, plan: PortPlan) -> None:
        """See `Links.relock_port`. Idempotent."""
        bridge_ports.relock_port(self._route, plan)

    def port_differences(self, plans: Sequence[PortPlan]) -> dict[int, tuple[str, ...]]:
        """See `Links.port_differences`."""
        return bridge_ports.port_differences(self._route, plans) if plans else {}

    def open_strangers(self, bridge_index: int, known: Container[int]) -> dict[int, str]:
        """See `Links.open_strangers`."""
        return bridge_ports.open_strangers(self._route, bridge_index, known)

    def shut_port(self, bridge_index: int, index: int) -> None:
        """See `Links.shut_port`. Idempotent."""
        bridge_ports.shut_port(self._route, bridge_index, index)

    def configure_sandbox(self, plan: SandboxPlan, netns_fd: int) -> None:
        """See `Links.configure_sandbox`. Idempotent."""
        configure_sandbox(plan, netns_fd)

    def open_port(self, host_index: int) -> None:
        """See `Links.open_port`. Returns when packets pass."""
        carrier.open_port(self._route, host_index, self._ends.pop(host_index, None))

    def let_in(self, bridge: str, host_index: int, host_link: str, mac: int) -> None:
        """See `Links.let_in`. Returns when packets pass. A port that somebody took off the bridge is another's to put
        back, as that of any endpoint is."""
        entry = entry_message(host_index, mac, tolerate=_NO_PORT)
        self._route.transact([entry], f"let in bridge port {host_index}")
        if not (is_running(self._route, host_link) and is_running(self._route, bridge)):
            if self.index_of(host_link) != host_index:
                raise KernelError(errno.ENODEV, f"let in {host_link}", "another link has its name by now, or none")
            carrier.open_port(self._route, host_index)

    def retire(self, plan: PortPlan, host_link: str) -> None:
        """See `Links.retire`. Idempotent."""
        messages = [
            neighbour_message(RTM_DELNEIGH, plan.bridge_index, address, None, what="neighbour", tolerate=_ABSENT)
            for address in addresses_of(plan)
        ]
        if plan.host_index and self.index_of(host_link) == plan.host_index:
            header = link_header(plan.host_index, change=IFF_UP)
            messages.insert(0, link_message(RTM_SETLINK, header, _REAPED, what="link", tolerate=_ABSENT))
        self._route.transact(messages, f"retire {host_link}")

    def reap(self) -> int:
        """See `Links.reap`. A link of another kind, or an open one, that someone put into the group is not ours and
        stays."""
        # Most of a thousand links are of no interest here: to look for the attribute costs a tenth of reading them all.
        replies = [reply for reply in self._route.dump(get_links(), "read the links") if _REAPED in reply.body]
        retired = [link for link in map(read_link, replies) if link.group == REAPER_GROUP]
        ours = [link for link in retired if link.kind == "veth" and not link.up]
        if not ours:
            return 0
        if len(ours) == len(retired):
            messages = [link_message(RTM_DELLINK, link_header(), _REAPED, tolerate=_ABSENT)]
        else:
            messages = [_delete(link.index) for link in ours]
        self._route.transact(messages, "delete the retired links")
        return len(ours)

    def delete(self, link: ObservedLink) -> None:
        """See `Links.delete`."""
        present = self.find(link.name)
        if present is not None and present.index == link.index:
            self._route.transact([_delete(link.index)], f"delete {link.name}")

    def enslave(self, host_index: int, bridge_index: int) -> None:
        """See `Links.enslave`."""
        body = link_header(host_index) + attribute_u32(IFLA_MASTER, bridge_index)
        self._route.transact([Message(RTM_SETLINK, 0, body, "master")], f"enslave {host_index}")

    def set_mtu(self, host_index: int, host_link: str, mtu: int) -> None:
        """See `Links.set_mtu`. Idempotent."""
        link = self.find(host_link)
        if link is not None and link.index == host_index:
            self._route.transact([mtu_message(host_index, mtu)], f"resize {host_link}")

    def set_inner_mtu(self, ifname: str, netns_fd: int, mtu: int) -> None:
        """See `Links.set_inner_mtu`. Idempotent."""
        set_inner_mtu(ifname, netns_fd, mtu)

    def inspect_sandbox(self, ifname: str, netns_fd: int) -> ObservedSandbox | None:
        """See `Links.inspect_sandbox`."""
        # Imported here: an attach has no use for it.
        from cellwall.adapters.sandbox.inspection import inspect_sandbox

        return inspect_sandbox(ifname, netns_fd)

    def observe(self) -> tuple[ObservedLink, ...]:
        """See `Links.observe`."""
        return tuple(read_link(reply) for reply in self._route.dump(get_links(), "read the links"))

    def index_of(self, name: str) -> int:
        """See `Links.index_of`."""
        return index_of(self._route, name)

    def find(self, name: str) -> ObservedLink | None:
        """See `Links.find`."""
        return bridges.find_link(self._route, name)


def _numbered(netns_fd: int) -> Message:
    """The namespace with an id on the node that is lower than that of any before, where it has none yet.

    Each word of the kernel's about a link tells in which namespace its other end is, for which it goes through all ids,
    the lowest first (net/core/net_namespace.c, __peernet2id). What is talked of most is what was made last: by the ids
    that it gives by itself, the lowest that is free, each word takes longer the more sandboxes there are.
    """
    number = _LARGEST_ID - time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 % _LARGEST_ID
    body = bytes(4) + attribute_u32(NETNSA_NSID, number) + attribute_u32(NETNSA_FD, netns_fd)  # struct rtgenmsg first
    return Message(RTM_NEWNSID, 0, body, "id of the namespace", _WITHOUT_ID)


def _pair(plan: LinkPlan, netns_fd: int) -> Message:
    """Both ends in one message. The peer is born inside the sandbox: moving it there afterwards costs 15 ms and, for
    that long, an interface of a tenant's is the node's."""
    mtu = attribute_u32(IFLA_MTU, plan.mtu)
    peer = nested(
        VETH_INFO_PEER,
        link_header(),
        attribute_text(IFLA_IFNAME, plan.ifname),
        attribute(IFLA_ADDRESS, plan.mac.to_bytes(6, "big")),
        mtu,
        _ONE_QUEUE,
        attribute_u32(IFLA_NET_NS_FD, netns_fd),
    )
    return link_message(
        RTM_NEWLINK,
        link_header(),
        attribute_text(IFLA_IFNAME, plan.host_link),
        mtu,
        _ONE_QUEUE,
        attribute_u32(IFLA_MASTER, plan.bridge_index),
        link_kind("veth", peer),
        flags=_CREATE,
        what="pair",
    )


def _delete(index: int) -> Message:
    return link_message(RTM_DELLINK, link_header(index), tolerate=_ABSENT)
