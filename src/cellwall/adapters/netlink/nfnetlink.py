"""nfnetlink (linux/netfilter/nfnetlink.h): message headers, and batches, which are nf_tables' transactions.

Owns: the frame of a batch (BEGIN … END: all of it or nothing) and the pointing of the kernel's refusal at the message
it is about. Knows nothing of sets; see `elements`.
"""

import errno
import struct
from collections.abc import Sequence

from cellwall.adapters.netlink.nlattr import attribute, attributes
from cellwall.adapters.netlink.sockets import Message, Netlink, Refusal
from cellwall.errors import KernelError, NoPrivilege

NFPROTO: dict[str, int] = {"inet": 1, "arp": 3, "bridge": 7, "ip6": 10}
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN = 0, 1, 2, 3, 4
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE, NFT_MSG_NEWSET, NFT_MSG_GETSET = 6, 7, 8, 9, 10
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = 12, 13, 14
NFT_MSG_NEWGEN, NFT_MSG_GETGEN, NFT_MSG_NEWOBJ = 15, 16, 18
NFT_MSG_DESTROYTABLE = 26  # Linux 6.3: deletes what is there, if it is

NETLINK_NETFILTER, SUBSYS_NFTABLES, NFNLGRP_NFTABLES = 12, 10, 7
_SUBSYS_CONNTRACK, _SUBSYS_IPSET, _SUBSYS_TIMEOUTS = 1, 6, 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_HEADER = struct.Struct(">BBH")
HEADER_SIZE = _HEADER.size

_BEGIN = Message(_BATCH_BEGIN, 0, _HEADER.pack(0, 0, SUBSYS_NFTABLES), "begin")
_GENERATION = 1  # NFTA_GEN_ID, and NFNL_BATCH_GENID
_END = Message(_BATCH_END, 0, _HEADER.pack(0, 0, SUBSYS_NFTABLES), "end")

# A bulk attach of 1,000 endpoints is about 0.5 MiB; more grows the buffer when it comes to it.
_SEND_BUFFER = 1 << 21


def open_netfilter_socket(descriptor: int | None = None) -> Netlink:
    """A NETLINK_NETFILTER socket of the calling thread's namespace, or of wherever `descriptor` was opened."""
    return Netlink(NETLINK_NETFILTER, send_buffer=_SEND_BUFFER, descriptor=descriptor)


def nft_message(kind: int, family: int, body: bytes, *, flags: int = 0, what: str = "") -> Message:
    """A message of nf_tables."""
    return Message(SUBSYS_NFTABLES << 8 | kind, flags, _HEADER.pack(family, 0, 0) + body, what)


def conntrack_message(
    kind: int, family: int, body: bytes, *, what: str = "", tolerate: tuple[int, ...] = ()
) -> Message:
    """A message of the connection tracker."""
    return Message(_SUBSYS_CONNTRACK << 8 | kind, 0, _HEADER.pack(family, 0, 0) + body, what, tolerate)


def ipset_message(kind: int, flags: int, body: bytes, *, family: int = 2, what: str = "") -> Message:
    """A message about ipsets; NFPROTO_IPV4 where the family does not matter."""
    return Message(_SUBSYS_IPSET << 8 | kind, flags, _HEADER.pack(family, 0, 0) + body, what)


def timeout_message(kind: int, flags: int, body: bytes, *, what: str = "", tolerate: tuple[int, ...] = ()) -> Message:
    """A message about named timeouts of the connection tracker."""
    return Message(_SUBSYS_TIMEOUTS << 8 | kind, flags, _HEADER.pack(2, 0, 0) + body, what, tolerate)


def generation(netfilter: Netlink) -> int:
    """Which state of all tables it is: every transaction of anybody gives another number."""
    (reply,) = netfilter.transact([nft_message(NFT_MSG_GETGEN, 0, b"")], "ask for the generation")
    return int.from_bytes(attributes(reply.body, HEADER_SIZE)[_GENERATION], "big")


def run_batch(
    netfilter: Netlink, messages: Sequence[Message], operation: str, *, only_at: int | None = None
) -> Refusal | None:
    """One transaction; None when it was committed, else the refusal of one of `messages` (`position` is its index in
    them), with nothing changed.

    The acknowledgement is asked of the last message and not of END, which only Linux 6.10 and later answer. Answers
    are delivered after the commit (net/netfilter/nfnetlink.c, nfnl_err_deliver), so it speaks for the whole batch.
    `only_at`: of no other `generation`; KernelError (ERESTART) where somebody was faster.
    """
    begin = _BEGIN if only_at is None else _begin_at(only_at)
    _, refusals = netfilter.exchange([begin, *messages, _END], len(messages), operation)
    if not refusals:
        return None
    first = min(refusals, key=lambda refusal: refusal.position)
    if 0 < first.position <= len(messages):
        return Refusal(first.position - 1, first.errno, first.text, first.offset)
    if first.errno == errno.EPERM:
        raise NoPrivilege(f"{operation}: changing the rules needs CAP_NET_ADMIN")
    raise KernelError(first.errno, operation, first.text)


def _begin_at(number: int) -> Message:
    return Message(_BEGIN.type, 0, _BEGIN.body + attribute(_GENERATION, number.to_bytes(4, "big")), "begin")


def batch_is_valid(netfilter: Netlink, messages: Sequence[Message], operation: str) -> bool:
    """Whether the kernel would accept the batch; see `refusal_of`."""
    return refusal_of(netfilter, messages, operation) is None


def refusal_of(netfilter: Netlink, messages: Sequence[Message], operation: str) -> Refusal | None:
    """What the kernel would first refuse of the batch, `position` counted in `messages`; None where it would accept
    it. Without END it validates everything and then takes it all back."""
    _, refusals = netfilter.exchange([_BEGIN, *messages], len(messages), operation)
    if not refusals:
        return None
    first = min(refusals, key=lambda refusal: refusal.position)
    return Refusal(first.position - 1, first.errno, first.text, first.offset)
