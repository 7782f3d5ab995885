"""Clients: a connection, a datagram, an echo request, and what came of it.

Owns: the mapping from what the kernel reports to four kinds of answer. "refused" is a TCP RST or a port
unreachable; "unreachable" is any other ICMP error and also no route at all; "timeout" is silence. What the
sender is told is never proof that nothing arrived: the other side's `Services` and `Capture` say that.
"""

import errno
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Literal

import msgspec

from cellwall.errors import LabError, printable

if TYPE_CHECKING:
    from cellwall.lab.host import Host

Kind = Literal["answer", "refused", "unreachable", "timeout"]
_REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE}
_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EACCES,  # ICMPv6 administratively prohibited
    errno.EPERM,  # a local output rule
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.ENONET,
    errno.EOPNOTSUPP,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EMSGSIZE,
    errno.EINVAL,  # an address that cannot be a destination, as 0.0.0.0/8 on old kernels
    errno.EADDRNOTAVAIL,  # no source address of this family
    errno.EAFNOSUPPORT,
}
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h; in the socket module from Python 3.14 on


class Answer(msgspec.Struct, frozen=True):
    """What came back, and after how many seconds."""

    kind: Kind
    data: bytes = b""
    seconds: float = 0.0

    def __bool__(self) -> bool:
        return self.kind == "answer"


def connect(
    host: "Host",
    address: str,
    port: int,
    *,
    udp: bool = False,
    payload: bytes = b"hello",
    timeout: float = 5.0,
    source: str | tuple[str, int] | None = None,
) -> Answer:
    """Send `payload` from `host` to `address` (for a link-local one: `fe80::1%eth0`) and wait for data.

    `source` is an address or (address, port) of the host to send from. LabError where it cannot be bound.
    """
    began = time.monotonic()
    family = _family(address)
    with host.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as sock:
        with host.enter():  # an interface's name in a link-local address is looked up here
            target = _numeric(address, port)
            _bind(sock, source)
        _report_every_error(sock)
        sock.settimeout(timeout)
        try:
            sock.connect(target)
            sock.sendall(payload)
            sock.settimeout(max(0.001, timeout - (time.monotonic() - began)))
            data = sock.recv(1 << 17)
            # A FIN without data: the connection was accepted and turned away.
            kind: Kind = "answer" if data or udp else "refused"
        except OSError as error:
            kind, data = _kind(error), b""
    return Answer(kind, data, time.monotonic() - began)


def ping(host: "Host", address: str, *, size: int = 56, timeout: float = 5.0, source: str | None = None) -> Answer:
    """Send one ICMP echo request with `size` bytes of data, wait for its reply or an error about it."""
    began = time.monotonic()
    family = _family(address)
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    token = os.urandom(min(size, 8)) + bytes(max(0, size - 8))
    ident = int.from_bytes(os.urandom(2), "big")
    with host.socket(family, socket.SOCK_RAW, protocol) as sock:
        with host.enter():
            target = _numeric(address, 0)
            _bind(sock, source)
        _report_every_error(sock)
        try:
            # Connected: other hosts' packets are filtered by the kernel, and errors about ours are reported.
            sock.connect(target)
            sock.send(_echo_request(family, ident, token))
            kind: Kind = "answer" if _replied(sock, ident, token, began + timeout) else "timeout"
        except OSError as error:
            kind = _kind(error)
    return Answer(kind, token if kind == "answer" else b"", time.monotonic() - began)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _numeric(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    try:
        socket.inet_pton(_family(address), address.partition("%")[0])  # getaddrinfo takes "1.2.3" and "" too
        found = socket.getaddrinfo(address, port, proto=socket.IPPROTO_UDP, flags=socket.AI_NUMERICHOST)
    except OSError as error:
        raise LabError(f"address: {printable(address)}: is not a numeric address here") from error
    return found[0][4]  # type: ignore[return-value]  # (int, bytes) is for families other than these two


def _bind(sock: socket.socket, source: str | tuple[str, int] | None) -> None:
    if source is None:
        return
    address, port = (source, 0) if isinstance(source, str) else source
    try:
        sock.bind(_numeric(address, port))
    except OSError as error:
        raise LabError(f"source: {printable(address)}: {error.strerror}") from error


def _report_every_error(sock: socket.socket) -> None:
    # Without it a datagram socket learns of "port unreachable" but not of "host" or "net unreachable", which
    # Linux holds for passing, and a ping would sit out its time.
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _kind(error: OSError) -> Kind:
    if isinstance(error, TimeoutError):
        return "timeout"
    if error.errno in _REFUSED:
        return "refused"
    if error.errno in _UNREACHABLE:
        return "unreachable"
    raise error


def _echo_request(family: int, ident: int, token: bytes) -> bytes:
    kind = 128 if family == socket.AF_INET6 else 8
    message = struct.pack("!BBHHH", kind, 0, 0, ident, 1) + token
    if family == socket.AF_INET6:  # the kernel fills in the checksum, which covers the addresses
        return message
    return message[:2] + struct.pack("!H", _checksum(message)) + message[4:]


def _checksum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _replied(sock: socket.socket, ident: int, token: bytes, deadline: float) -> bool:
    kind = 129 if sock.family == socket.AF_INET6 else 0
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        message = sock.recv(1 << 17)
        if sock.family == socket.AF_INET:
            message = message[(message[0] & 0xF) * 4 :]
        if message[0] == kind and message[4:6] == ident.to_bytes(2, "big") and message[8:] == token:
            return True
    return False
