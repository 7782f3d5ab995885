"""Packets that rules logged, as the kernel tells of them (linux/netfilter/nfnetlink_log.h).

Owns: one socket that listens to one group, and what the kernel says of each packet, as a value. The kernel gathers
packets, so a datagram holds many; it numbers them, so that what it could not deliver, because the queue was full, is
counted by the gap (`lost`). Needs no thread: when the descriptor is readable, somebody reads.

Refuses: to interpret a packet, a prefix or a mark. Who logged it, and for whom, is for others to say.
"""

import _socket as socket
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import msgspec

from cellwall.adapters.netlink.nfnetlink import NETLINK_NETFILTER
from cellwall.adapters.netlink.nlattr import attribute, attributes, text_of
from cellwall.adapters.netlink.sockets import NLM_F_ACK, NLM_F_REQUEST, Closing
from cellwall.errors import Conflict, KernelError, NoPrivilege, Unsupported

_SUBSYS_ULOG = 4
_NLMSG_ERROR = 2
_SO_RCVBUFFORCE = 33
_PACKET, _CONFIG = _SUBSYS_ULOG << 8, _SUBSYS_ULOG << 8 | 1
_CFG_CMD, _CFG_MODE, _CFG_NLBUFSIZ, _CFG_TIMEOUT, _CFG_QTHRESH, _CFG_FLAGS = 1, 2, 3, 4, 5, 6
_BIND, _COPY_PACKET, _NUMBERED = 1, 2, 1  # NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET, NFULNL_CFG_F_SEQ
_HEADER, _MARK, _TIMESTAMP, _INDEV, _OUTDEV, _PHYSINDEV, _PHYSOUTDEV = 1, 2, 3, 4, 5, 6, 7
_PAYLOAD, _PREFIX, _SEQUENCE, _HARDWARE = 9, 10, 12, 16

_GATHER = 64 << 10  # bytes of a datagram, and so of a read
_GATHERED = 128  # packets, or
_HUNDREDTHS = 5  # of a second after the first of them, whichever comes first
_QUEUE = 8 << 20
_MOST = 4096

_NETLINK = struct.Struct("=IH10x")
_ERROR = struct.Struct("=i")
_PACKET_HEADER = struct.Struct(">HB")
_U32 = struct.Struct(">I")
_TIME = struct.Struct(">QQ")
_NUMBER = 0xFFFFFFFF

_UNPRIVILEGED = "to listen to logged packets needs CAP_NET_ADMIN"


class Logged(msgspec.Struct, frozen=True, gc=False):
    """A packet as a rule logged it.

    `prefix`: what the rule said. `family`: of the rule's hook, 7 bridge, 2 IPv4, 10 IPv6; `hook`: 0 prerouting, 1
    input, 2 forward, 3 output, 4 postrouting. `protocol`: the EtherType. Interfaces are by index, 0 for none; of a
    bridge's port `physindev` is the port and `indev` the bridge. `payload`: the packet from its network header on, as
    much as the rule logs; `hardware`: the header in front of it, empty where it has none. `time`: seconds since 1970,
    0.0 where the kernel says none.
    """

    prefix: str
    family: int
    hook: int
    protocol: int
    indev: int
    outdev: int
    physindev: int
    physoutdev: int
    mark: int
    time: float
    sequence: int
    hardware: bytes
    payload: bytes


class Heard(msgspec.Struct, frozen=True):
    """What was read at once. `lost`: how many packets were logged in front of these, or between them, that the kernel
    could not deliver. `overrun`: the queue was full since the last time, so that more may turn out to be lost."""

    packets: tuple[Logged, ...]
    lost: int = 0
    overrun: bool = False


class PacketLog(Closing):
    """What is logged to `group` in the network namespace that the creating thread is in, from now on.

    `queue`: how many bytes may wait to be read; what comes after that is lost. Conflict where somebody listens to the
    group already, Unsupported where the kernel has no such log; needs CAP_NET_ADMIN.
    """

    def __init__(self, group: int, *, queue: int = _QUEUE) -> None:
        self._socket = _open(queue)
        self._buffer = bytearray(2 * _GATHER)
        self._next = 0
        try:
            self._bind(group)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when there is something to read."""
        return self._socket.fileno()

    def read(self, most: int = _MOST) -> Heard:
        """What has come until now; it ends with the datagram that makes it `most` packets or more. Does not wait."""
        packets: list[Logged] = []
        lost, overrun = 0, False
        while len(packets) < most:
            try:
                length = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(error.errno or errno.EIO, "read logged packets") from error
                overrun = True
                continue
            for family, body in _each(memoryview(self._buffer)[:length], _PACKET):
                packet = _read(family, body)
                lost += packet.sequence - self._next & _NUMBER
                self._next = packet.sequence + 1 & _NUMBER
                packets.append(packet)
        return Heard(tuple(packets), lost, overrun)

    def _bind(self, group: int) -> None:
        self._socket.send(_configuration(group, _LISTEN))
        refused = _answer(self._socket, self._buffer)
        if refused == errno.EBUSY or (refused == errno.EPERM and _is_taken(group)):
            raise Conflict(f"log group {group}: another program listens to it")
        if refused == errno.EPERM:
            raise NoPrivilege(_UNPRIVILEGED)
        if refused == errno.EINVAL:
            raise Unsupported("the kernel has no nfnetlink_log")
        if refused:
            raise KernelError(refused, f"listen to log group {group}")


def refusal(group: int) -> str:
    """Why nobody can listen to `group` in the network namespace that the calling thread is in: the kernel has no such
    log, or another program listens; "" for nothing. Changes nothing; needs CAP_NET_ADMIN."""
    asking = _open(0)
    try:
        asking.send(_configuration(group, b""))
        refused = _answer(asking, bytearray(4096))
    finally:
        asking.close()
    if refused == errno.EPERM:
        return f"another program listens to log group {group}"
    # A group that nobody listens to is no such device.
    return "" if refused in (0, errno.ENODEV) else f"the kernel has no nfnetlink_log ({os.strerror(refused)})"


def _is_taken(group: int) -> bool:
    """Who lacks a capability is refused as one is who comes second; but may not read this either."""
    with suppress(OSError), open("/proc/thread-self/net/netfilter/nfnetlink_log", encoding="ascii") as listeners:
        return any(int(line.split()[0]) == group for line in listeners)
    return False


def _open(queue: int) -> socket.socket:
    try:
        with ExitStack() as undo:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            undo.callback(opened.close)
            if queue:
                opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, queue)
            opened.bind((0, 0))
            undo.pop_all()
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NoPrivilege(_UNPRIVILEGED) from error
        raise KernelError(error.errno or errno.EIO, "open the log of packets") from error
    return opened


_LISTEN = b"".join(
    (
        attribute(_CFG_CMD, bytes((_BIND,))),
        attribute(_CFG_MODE, struct.pack(">IBx", 0xFFFF, _COPY_PACKET)),
        attribute(_CFG_NLBUFSIZ, _U32.pack(_GATHER)),
        attribute(_CFG_TIMEOUT, _U32.pack(_HUNDREDTHS)),
        attribute(_CFG_QTHRESH, _U32.pack(_GATHERED)),
        attribute(_CFG_FLAGS, struct.pack(">H", _NUMBERED)),
    )
)
"""In one message: the kernel binds first, and gathers by its own measure until it has read the rest."""


def _configuration(group: int, said: bytes) -> bytes:
    body = struct.pack(">BBH", 0, 0, group) + said
    return struct.pack("=IHHII", 16 + len(body), _CONFIG, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body


def _answer(asked: socket.socket, buffer: bytearray) -> int:
    """The errno of the refusal of what was asked, 0 for none. The kernel has answered when `send` returns."""
    while True:
        length = asked.recv_into(buffer, 0, socket.MSG_DONTWAIT)
        for _, body in _each(memoryview(buffer)[:length], _NLMSG_ERROR, header=0):
            refused: int = -_ERROR.unpack_from(body)[0]
            return refused


def _each(datagram: memoryview, kind: int, header: int = 4) -> Iterator[tuple[int, bytes]]:
    """(family, what follows nfnetlink's header) of each message of a kind."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, found = _NETLINK.unpack_from(datagram, offset)
        if length < 16:
            return
        if found == kind:
            yield datagram[offset + 16], bytes(datagram[offset + 16 + header : offset + length])
        offset += (length + 3) & ~3


def _read(family: int, body: bytes) -> Logged:
    said = attributes(body)
    protocol, hook = _PACKET_HEADER.unpack_from(said[_HEADER])
    seconds, microseconds = _TIME.unpack(said.get(_TIMESTAMP, bytes(16)))
    return Logged(
        text_of(said.get(_PREFIX, b"")),
        family,
        hook,
        protocol,
        _number(said.get(_INDEV)),
        _number(said.get(_OUTDEV)),
        _number(said.get(_PHYSINDEV)),
        _number(said.get(_PHYSOUTDEV)),
        _number(said.get(_MARK)),
        seconds + microseconds / 1e6,
        _number(said.get(_SEQUENCE)),
        said.get(_HARDWARE, b""),
        said.get(_PAYLOAD, b""),
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0
