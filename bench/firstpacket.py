"""When a packet first passes both ways: the end of every timed attach.

The answer is the kernel's own, an ICMP echo reply of the lab's Internet host through the node's forwarding and NAT: no
process has to be scheduled for it, so the clock stops when the path works and not when a server wakes up. The sockets
exist before the clock starts. A request that finds no route or no answer is sent again at once.
"""

import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import Self

from cellwall.errors import LabError
from cellwall.lab import Host
from cellwall.lab.addresses import PUBLIC4, PUBLIC6

_PAUSE_MS = 1
_TARGETS = {socket.AF_INET: (PUBLIC4[2], 0), socket.AF_INET6: (PUBLIC6[2], 0)}


class Echo:
    """Echo requests of one sandbox to the Internet, in one family."""

    def __init__(self, sandbox: Host, family: socket.AddressFamily) -> None:
        v6 = family == socket.AF_INET6
        self._name = sandbox.name
        self._target = _TARGETS[family]
        self._socket = sandbox.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
        self._socket.setblocking(False)
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._packet, self._token = _request(v6)

    def await_reply(self, timeout: float) -> None:
        """Return when a reply has arrived; LabError after `timeout` seconds."""
        if not self.passes_within(timeout):
            raise LabError(f"{self._name}: no reply from {self._target[0]} within {timeout:g} s")

    def passes_within(self, timeout: float) -> bool:
        """Whether a reply arrived within `timeout` seconds; returns when one does."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(OSError):  # no address, no route, or no carrier yet
                self._socket.sendto(self._packet, self._target)
            if self._replied():
                return True
        return False

    def _replied(self) -> bool:
        while True:
            try:
                packet = self._socket.recv(2048)
            except BlockingIOError:
                if not self._readable.poll(_PAUSE_MS):
                    return False
            else:
                if self._token in packet:
                    return True

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _request(v6: bool) -> tuple[bytes, bytes]:
    """An echo request and the token that its reply carries, and nothing else does: requests are not looped back."""
    token = os.urandom(16)
    ident = int.from_bytes(token[:2], "big")
    message = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, ident, 1) + token
    if not v6:  # the kernel sums ICMPv6 itself
        message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
    return message, token


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
