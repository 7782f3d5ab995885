"""Large transfers: more than what fits into the buffers of a path, so that both directions have to move at once."""

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellwall.lab.host import Host

_AT_ONCE = 1 << 18


def echoed_bytes(host: "Host", address: str, port: int, size: int, *, timeout: float = 20.0) -> int:
    """Send `size` bytes to an echo server over one connection while its answer is read: how many bytes came back.

    `timeout` is the longest silence in seconds; what ends early or falls silent has sent back less than `size`.
    OSError where there is no connection at all.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect((address, port))
        sender = threading.Thread(target=_send, args=(sock, size))
        sender.start()
        received = 0
        with suppress(OSError):
            while received < size and (data := sock.recv(_AT_ONCE)):
                received += len(data)
        with suppress(OSError):  # wakes a sender that nobody reads from
            sock.shutdown(socket.SHUT_RDWR)
        sender.join()
    return received


def _send(sock: socket.socket, size: int) -> None:
    with suppress(OSError):  # how much came back is what counts
        sock.sendall(bytes(size))
