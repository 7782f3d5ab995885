"""Netlink by hand: messages, a socket that sends many at once, and one that is told what others change.

Owns: the header of a message (linux/netlink.h), sequence numbers, acknowledgements with the kernel's extended text, the
retry of a dump that the kernel says was inconsistent, and subscriptions. Knows nothing of links or rules.

Netlink to the kernel is synchronous: a request is carried out inside `send`, in the sender's context, and its answers
lie in the receive queue when `send` returns (net/netlink/af_netlink.c, netlink_unicast_kernel). So nothing here waits
or has a time-out: an empty queue before the last answer is an error. Because refused messages are always answered,
only the last message of a batch needs to ask for an acknowledgement: one system call to send any number of messages
and, when all went well, one to learn it.

Refuses: to stop at the first refused message. rtnetlink carries out the rest of a batch all the same, so callers
order their messages such that a later one does no harm without an earlier one; the first refusal is what is raised.
"""

import _socket as socket  # what socket is made of; its enumerations cost a CNI call 2 ms
import errno
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Self

import msgspec

from cellwall.adapters.netlink.nlattr import attributes, text_of, u32_of
from cellwall.errors import KernelError, NoPrivilege, Unavailable

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG, _NLMSGERR_ATTR_OFFS = 1, 2
_SOL_NETLINK = 270
_SO_RCVBUFFORCE, _SO_PROTOCOL, _SO_DOMAIN = 33, 38, 39
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12
_RECEIVE = 1 << 16  # the largest datagram the kernel builds for a dump is 32 KiB
_DUMP_ATTEMPTS = 8

_HEADER = struct.Struct("=IHHII")
_TOLD = struct.Struct("=IH10x")  # the header, where nobody was asked
_ERROR = struct.Struct("=i")


class Message(msgspec.Struct, frozen=True, gc=False):
    """One request without its header. `what` names it in an error; errnos in `tolerate` are as good as success.
    The body's length is a multiple of 4."""

    type: int
    flags: int
    body: bytes
    what: str = ""
    tolerate: tuple[int, ...] = ()


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One message from the kernel that is not an acknowledgement."""

    type: int
    body: bytes


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The kernel's answer to one refused message; `offset` is the offending attribute's, from the start of the
    message's header, 0 where the kernel did not say."""

    position: int
    errno: int
    text: str
    offset: int


class Closing:
    """What holds sockets until `close`, which the end of a `with` block calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


class Netlink(Closing):
    """A netlink socket of the network namespace that the creating thread is in, wherever it is used later.

    `descriptor`: one that is open already and becomes this one's to close; KernelError (EPROTONOSUPPORT) where it is a
    socket of another kind.
    """

    def __init__(
        self, protocol: int, *, strict: bool = False, send_buffer: int = 0, descriptor: int | None = None
    ) -> None:
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_NETLINK, kind, protocol, descriptor)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, "netlink socket") from error
        if descriptor is not None:
            self._prove(protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        if strict:
            # Without it the kernel ignores every filter of a dump (Linux 4.20).
            with suppress(OSError):
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        if send_buffer:
            self._allow(send_buffer)
        self._sequence = int.from_bytes(os.urandom(3), "big")
        self._buffer = bytearray(_RECEIVE)
        if descriptor is None:
            self._socket.bind((0, 0))
            return
        os.set_inheritable(descriptor, False)
        while self._receive() is not None:  # answers to who had it before
            pass

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, for what is no message."""
        return self._socket.fileno()

    @property
    def port(self) -> int:
        """The number by which the kernel knows the socket."""
        address: tuple[int, int] = self._socket.getsockname()
        return address[0]

    def _prove(self, protocol: int) -> None:
        """A descriptor from elsewhere is a socket of this protocol; else it is closed."""
        found = [self._socket.getsockopt(socket.SOL_SOCKET, option) for option in (_SO_DOMAIN, _SO_PROTOCOL)]
        if found != [socket.AF_NETLINK, protocol]:
            self._socket.close()
            raise KernelError(errno.EPROTONOSUPPORT, "netlink socket", "the descriptor is another kind of socket")

    def transact(self, messages: Sequence[Message], operation: str) -> list[Reply]:
        """Send all messages at once, the last one acknowledged; raise the first refusal that is not tolerated."""
        replies, refusals = self.exchange(messages, len(messages) - 1, operation)
        for refusal in refusals:
            message = messages[refusal.position]
            if refusal.errno in message.tolerate:
                continue
            what = f"{operation}: {message.what}" if message.what else operation
            if refusal.errno == errno.EPERM:
                raise NoPrivilege(f"{what}: needs CAP_NET_ADMIN")
            raise KernelError(refusal.errno, what, refusal.text)
        return replies

    def exchange(
        self, messages: Sequence[Message], acknowledged: int, operation: str
    ) -> tuple[list[Reply], list[Refusal]]:
        """Send all messages at once and read until the one at position `acknowledged` is answered."""
        first = self._send(messages, acknowledged, operation)
        replies: list[Reply] = []
        refusals: list[Refusal] = []
        while True:
            datagram = self._receive()
            if datagram is None:
                if refusals:
                    return replies, refusals
                raise Unavailable(f"{operation}: the kernel gave no answer")
            for kind, flags, sequence, body in _split(datagram):
                position = sequence - first & 0xFFFFFFFF
                if position >= len(messages):
                    continue  # an answer to a batch that was given up
                if kind != _NLMSG_ERROR:
                    replies.append(Reply(kind, body))
                    continue
                if refusal := _refusal(position, flags, body):
                    refusals.append(refusal)
                if position == acknowledged:
                    return replies, refusals

    def dump(self, message: Message, operation: str) -> list[Reply]:
        """All answers of a dump; taken again where the kernel says that it changed underneath."""
        for _ in range(_DUMP_ATTEMPTS):
            replies, consistent = self._dump(message, operation)
            if consistent:
                return replies
        raise KernelError(errno.EINTR, operation, "the dump never came out consistent")

    def _dump(self, message: Message, operation: str) -> tuple[list[Reply], bool]:
        first = self._send([message], -1, operation, NLM_F_DUMP)
        replies: list[Reply] = []
        consistent = True
        while (datagram := self._receive()) is not None:
            for kind, flags, sequence, body in _split(datagram):
                if sequence != first:
                    continue
                consistent = consistent and not flags & _NLM_F_DUMP_INTR
                if kind not in (_NLMSG_ERROR, _NLMSG_DONE):
                    replies.append(Reply(kind, body))
                    continue
                # The end of a dump carries an errno as well, where the kernel gave up underway.
                refusal = _refusal(0, flags, body) if kind == _NLMSG_ERROR else _ended(body)
                if refusal is not None and refusal.errno not in (*message.tolerate, errno.EINTR):
                    raise KernelError(refusal.errno, operation, refusal.text)
                return replies, consistent and (refusal is None or refusal.errno != errno.EINTR)
        raise Unavailable(f"{operation}: the kernel gave no answer")

    def beginning(self, message: Message, operation: str, most: int) -> list[Reply]:
        """The first answers of a dump, `most` or somewhat more where there are as many, of whatever moment each is: for
        tables that somebody else fills. The kernel makes the rest of a dump as it is read, so none is made; but it
        refuses another dump on this socket, which is good for closing only."""
        first = self._send([message], -1, operation, NLM_F_DUMP)
        replies: list[Reply] = []
        while len(replies) < most and (datagram := self._receive()) is not None:
            for kind, _, sequence, body in _split(datagram):
                if sequence != first:
                    continue
                if kind not in (_NLMSG_ERROR, _NLMSG_DONE):
                    replies.append(Reply(kind, body))
                    continue
                refusal = _refusal(0, 0, body) if kind == _NLMSG_ERROR else _ended(body)
                if refusal is not None and refusal.errno not in (*message.tolerate, errno.EINTR):
                    raise KernelError(refusal.errno, operation)
                return replies
        return replies

    def _send(self, messages: Sequence[Message], acknowledged: int, operation: str, extra: int = 0) -> int:
        first = self._sequence
        self._sequence = (first + len(messages)) & 0xFFFFFFFF
        chunks: list[bytes] = []
        for position, message in enumerate(messages):
            flags = message.flags | NLM_F_REQUEST | extra | (NLM_F_ACK if position == acknowledged else 0)
            sequence = (first + position) & 0xFFFFFFFF
            chunks.append(_HEADER.pack(16 + len(message.body), message.type, flags, sequence, 0))
            chunks.append(message.body)
        data = b"".join(chunks)
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise KernelError(error.errno or errno.EIO, operation) from error
            self._allow(2 * len(data))
            self._send_large(data, operation)
        return first

    def _send_large(self, data: bytes, operation: str) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, operation, f"{len(data)} bytes in one batch") from error

    def _allow(self, size: int) -> None:
        """A send buffer of at least `size` bytes. The limit net.core.wmem_max binds only who lacks CAP_NET_ADMIN."""
        for option in (socket.SO_SNDBUFFORCE if hasattr(socket, "SO_SNDBUFFORCE") else 32, socket.SO_SNDBUF):
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, size)
                return

    def _receive(self) -> memoryview | None:
        """The next datagram, None where the queue is empty."""
        while True:
            try:
                length = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                # Answers were lost for want of buffer space; those that fitted are still there.
                if error.errno == errno.ENOBUFS:
                    continue
                raise KernelError(error.errno or errno.EIO, "netlink receive") from error
            return memoryview(self._buffer)[:length]


def subscribed(protocol: int, groups: int, queue: int) -> socket.socket:
    """A socket that the kernel tells of what these groups of a netlink protocol are about, in the calling thread's
    network namespace; `queue`: how many bytes may wait to be read. KernelError."""
    try:
        told = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        told.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, queue)
        told.bind((0, groups))
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "subscribe to changes of rules and links") from error
    return told


def each_message(datagram: memoryview) -> Iterator[tuple[int, bytes]]:
    """The messages of a datagram: what each is about, and what is behind its netlink header."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, kind = _TOLD.unpack_from(datagram, offset)
        if length < 16:
            return
        yield kind, bytes(datagram[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def _split(datagram: memoryview) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of every message of a datagram."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        if length < 16:
            return
        yield kind, flags, sequence, bytes(datagram[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def _refusal(position: int, flags: int, body: bytes) -> Refusal | None:
    """What an NLMSG_ERROR says; None for an acknowledgement."""
    number = -_ERROR.unpack_from(body)[0]
    if number == 0:
        return None
    text, bad = "", 0
    if flags & _NLM_F_ACK_TLVS:
        copied = 16 if flags & _NLM_F_CAPPED else u32_of(body[4:8])
        extended = attributes(body, 4 + copied)
        text = text_of(extended.get(_NLMSGERR_ATTR_MSG, b""))
        bad = u32_of(extended.get(_NLMSGERR_ATTR_OFFS, b"\0\0\0\0"))
    return Refusal(position, number, text, bad)


def _ended(body: bytes) -> Refusal | None:
    number = -_ERROR.unpack_from(body)[0] if len(body) >= 4 else 0
    return Refusal(0, number, "", 0) if number > 0 else None
