"""Whether somebody may have taken rules or chains away, for who does nothing but close what that leaves open.

Owns: a netlink socket that nf_tables tells of each transaction, and what of it is not told (`socket_filter`). News of
elements are most of all, each attach's a dozen, and none of them takes away what judges: they are left in the kernel,
so that who listens here takes no time of who writes in the same process.

Refuses: to know what was taken, and whose it was. A queue that overflowed counts as something. Rules of
iptables-legacy make no event at all.
"""

import _socket as socket

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NETLINK_NETFILTER,
    NFNLGRP_NFTABLES,
    NFT_MSG_DELSETELEM,
    NFT_MSG_NEWGEN,
    NFT_MSG_NEWSETELEM,
    SUBSYS_NFTABLES,
)
from cellwall.adapters.netlink.nlattr import attribute_of, text_of
from cellwall.adapters.netlink.socket_filter import tell_nothing_of
from cellwall.adapters.netlink.sockets import Closing, each_message, subscribed
from cellwall.adapters.news.alarms import IPTABLES

_QUEUE = 1 << 20
_MOST = 4096
_NOTHING = [SUBSYS_NFTABLES << 8 | kind for kind in (NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, NFT_MSG_NEWGEN)]


class RuleNews(Closing):
    """What the kernel tells of the network namespace that the creating thread is in, from now on. `tables`: the names
    of those that hold the wall."""

    def __init__(self) -> None:
        self.tables = IPTABLES
        self._socket = subscribed(NETLINK_NETFILTER, 1 << NFNLGRP_NFTABLES - 1, _QUEUE)
        self._buffer = bytearray(1 << 16)
        tell_nothing_of(self._socket, _NOTHING)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """What becomes readable when something was told."""
        return self._socket.fileno()

    def read(self) -> bool:
        """Whether there was anything since the last call. Does not wait."""
        anything = False
        for _ in range(_MOST):
            try:
                length = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                anything = True
                continue
            anything = anything or self._matters(memoryview(self._buffer)[:length])
        return anything

    def _matters(self, datagram: memoryview) -> bool:
        """Whatever a message is about, the name of its table is attribute 1."""
        told = (body for kind, body in each_message(datagram) if kind not in _NOTHING)
        return any(text_of(attribute_of(body, 1, HEADER_SIZE) or b"") in self.tables for body in told)
