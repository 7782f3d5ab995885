"""Paths of sockets, of any length: an address has room for 107 octets and their end (linux/un.h, UNIX_PATH_MAX)."""

import os

_LONGEST = 107


def reachable(path: str) -> tuple[str, int | None]:
    """The path in a form that an address has room for, and the descriptor, the caller's to close, that must be open as
    long as that is used; None where there is none."""
    if len(os.fsencode(path)) <= _LONGEST:
        return path, None
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}", directory
