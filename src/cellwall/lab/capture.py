"""Frames as they are on the wire: captured, and injected exactly once.

Owns: packet sockets. A captured frame is given as its sender put it on the wire: the kernel has moved a
VLAN tag into the socket's auxiliary data by then, and it is put back here. A capture that lost frames
raises instead of answering, because "the victim saw nothing" would be wrong. Frames are injected from one
CPU: the kernel delivers a veth's frames through a queue per CPU, and a sentinel sent from another CPU could
overtake the volley before it.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cellwall.errors import LabError, TooBusy

ETH_P_ALL = 3
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _STATISTICS, _AUXDATA, _IGNORE_OUTGOING = 1, 6, 8, 23
_MR_PROMISC = 1
_VLAN_VALID, _VLAN_TPID_VALID = 1 << 4, 1 << 6
_ETH_P_8021Q = 0x8100
_BUFFER = 32 << 20
_SO_RCVBUFFORCE = 33
_FRAME = 1 << 17


class Capture:
    """A running capture; it sees frames from its creation on."""

    def __init__(
        self,
        sock: socket.socket,
        ifnames: Sequence[str],
        *,
        bound_to: str | None,
        promiscuous: bool,
        outgoing: bool,
    ) -> None:
        """Start on `sock` in the namespace the caller is in, on one link or on all.

        `ifnames` are the links to make promiscuous.
        """
        self._sock = sock
        self._where = bound_to or "every link"
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        sock.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        if not outgoing:
            sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        if promiscuous:
            for name in ifnames:
                request = struct.pack("=iHH8s", socket.if_nametoindex(name), _MR_PROMISC, 0, bytes(8))
                sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
        if bound_to is not None:
            sock.bind((bound_to, ETH_P_ALL))
        sock.setblocking(False)
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    def read_until(self, sentinel: bytes, timeout: float = 30.0) -> list[bytes]:
        """All frames up to and with the one that contains `sentinel`; LabError after `timeout` seconds."""
        frames: list[bytes] = []
        deadline = time.monotonic() + timeout
        while True:
            frame = self._next(deadline - time.monotonic())
            if frame is None:
                raise LabError(
                    f"capture on {self._where}: no sentinel within {timeout:g} s, {len(frames)} other frames"
                )
            frames.append(frame)
            if sentinel in frame:
                self._check_loss()
                return frames

    def drain(self) -> list[bytes]:
        """All frames that wait to be read now."""
        frames = []
        while (frame := self._next(0)) is not None:
            frames.append(frame)
        self._check_loss()
        return frames

    def discard(self) -> None:
        """Forget all frames that wait to be read now, and what was lost before: nothing is said about them."""
        while self._next(0) is not None:
            pass
        self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8)  # which begins anew with every question

    def close(self) -> None:
        """End the capture; a second call does nothing."""
        self._sock.close()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, timeout: float) -> bytes | None:
        # poll, not select: select refuses descriptors above 1023, and a large lab has more than those.
        if not self._readable.poll(max(timeout, 0.0) * 1000):
            return None
        data, ancillary, _, _ = self._sock.recvmsg(_FRAME, 128)
        for level, kind, auxiliary in ancillary:
            if (level, kind) == (_SOL_PACKET, _AUXDATA):
                return _with_tag(data, auxiliary)
        return data

    def _check_loss(self) -> None:
        _, lost = struct.unpack("=II", self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        if lost:
            raise TooBusy(f"capture on {self._where}: {lost} frames were lost, nothing can be said about them")


def _with_tag(frame: bytes, auxiliary: bytes) -> bytes:
    status, _, _, _, _, tci, tpid = struct.unpack_from("=IIIHHHH", auxiliary)
    if not status & _VLAN_VALID:
        return frame
    kind = tpid if status & _VLAN_TPID_VALID else _ETH_P_8021Q
    return frame[:12] + struct.pack("!HH", kind, tci) + frame[12:]


def inject(sock: socket.socket, ifname: str, frames: Sequence[bytes]) -> None:
    """Send each frame once, in order, out of `ifname`, through a packet socket made in its namespace."""
    try:
        sock.bind((ifname, 0))
        with one_cpu():
            for number, frame in enumerate(frames):
                if sock.send(frame) != len(frame):
                    raise LabError(f"inject on {ifname}: frame {number} was cut")
    except OSError as error:
        raise LabError(f"inject on {ifname}: {error.strerror}") from error


@contextmanager
def one_cpu() -> Iterator[None]:
    """The calling thread on the first of its CPUs: a veth delivers through a queue per CPU, and a sentinel from
    another one could overtake what was sent before it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
