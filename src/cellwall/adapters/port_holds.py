"""Host ports that this process holds: a socket of TCP and one of UDP, bound at every address of both families.

Neither listens. To a SYN the kernel answers as to a port where nobody is, with a reset; a datagram is dropped, for a
bound socket of UDP takes what comes, and nobody reads this one. Without SO_REUSEADDR and SO_REUSEPORT nobody else can
bind the port at any address, and the kernel gives it to no connection of the node's own. What is led to a container by
then never comes to a socket.
"""

import errno
import os
import resource
import socket
from collections.abc import Callable, Container, Sequence
from contextlib import suppress

from cellwall.errors import KernelError
from cellwall.model.reserved import MAX_RESERVED, most_reserved

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_FAMILIES = (socket.AF_INET6, socket.AF_INET)
_ELSEWHERE = (errno.EADDRINUSE, errno.EACCES)
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class PortHolds:
    """`engine.contracts.PortHolds`, of the network namespace of whoever calls."""

    def __init__(self) -> None:
        self.lasting = False
        self._held: dict[int, dict[str, socket.socket]] = {}
        self._keep: Callable[[int, Sequence[int]], None] = lambda port, sockets: None
        self._forget: Callable[[int], None] = lambda port: None

    @property
    def most(self) -> int:
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        unbounded = not self.lasting or descriptors == resource.RLIM_INFINITY
        return MAX_RESERVED if unbounded else most_reserved(descriptors)

    def attend(self, keep: Callable[[int, Sequence[int]], None], forget: Callable[[int], None]) -> None:
        """Tell of every port that is held from now on, with its sockets, and of every one that is let go."""
        self._keep, self._forget = keep, forget
        self.lasting = True

    def hold(self, port: int, given: Sequence[int] = ()) -> int | None:
        """Hold it; the inode of its UDP socket, None where somebody else has the port. Idempotent. `given`: descriptors
        of a process before this one, to go on with; they are this object's from here on."""
        if port not in self._held:
            sockets = _sockets_among(given, port)
            known = len(sockets) == len(_KINDS)
            try:
                for kind in _KINDS:
                    if kind not in sockets:
                        sockets[kind] = _bound(kind, port)
            except OSError as error:
                for one in sockets.values():
                    one.close()
                if error.errno in _ELSEWHERE:
                    return None
                raise KernelError(error.errno or errno.EIO, f"hold port {port}") from error
            self._held[port] = sockets
            if not known:
                self._keep(port, [one.fileno() for one in sockets.values()])
        return os.fstat(self._held[port]["udp"].fileno()).st_ino

    def holds(self, port: int) -> bool:
        """Whether this process holds it."""
        return port in self._held

    def release_others(self, ports: Container[int]) -> None:
        """Let go of all but these: somebody else has given them back."""
        for port in [port for port in self._held if port not in ports]:
            self.release(port)

    def own_socket(self, port: int) -> int | None:
        """A duplicate, the caller's to close, of the TCP socket that holds it; None where it is not held. Who listens
        by it and stops, with shutdown(2), leaves the port held: what bound it by its number goes on to have it."""
        return os.dup(self._held[port]["tcp"].fileno()) if port in self._held else None

    def vacant(self, port: int) -> bool:
        """Whether nobody has it at all: it could be held."""
        try:
            for kind in _KINDS:
                _bound(kind, port).close()
        except OSError:
            return False
        return True

    def release(self, port: int) -> None:
        """Let it go. Idempotent."""
        sockets = self._held.pop(port, None)
        if sockets is None:
            return
        self._forget(port)
        for one in sockets.values():
            one.close()

    def close(self) -> None:
        """Let go of all. Who was told of them may have duplicates, which hold on."""
        while self._held:
            for one in self._held.popitem()[1].values():
                one.close()


def _sockets_among(given: Sequence[int], port: int) -> dict[str, socket.socket]:
    """Those that are what they should be; the others are closed."""
    found: dict[str, socket.socket] = {}
    for fd in given:
        try:
            one = socket.socket(fileno=fd)
        except OSError:  # no socket at all
            os.close(fd)
            continue
        kind = next((kind for kind, number in _KINDS.items() if one.type == number), "")
        with suppress(OSError):
            if kind and kind not in found and one.family in _FAMILIES and one.getsockname()[1] == port:
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    one.shutdown(socket.SHUT_RDWR)  # whom it served died, and maybe as that was withdrawn
                found[kind] = one
                continue
        one.close()
    return found


def _bound(kind: str, port: int) -> socket.socket:
    """Bound in both families at once; on a node without IPv6 in IPv4."""
    try:
        return _bound_in(socket.AF_INET6, kind, port)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
        return _bound_in(socket.AF_INET, kind, port)


def _bound_in(family: int, kind: str, port: int) -> socket.socket:
    one = socket.socket(family, _KINDS[kind] | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == "udp":  # TCP's takes nothing before somebody listens, who then needs all there is
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # as little as the kernel has of what nobody reads
        one.bind(("", port))
    except BaseException:
        one.close()
        raise
    return one
