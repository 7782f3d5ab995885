"""What a lab must end: its programs, its sockets, its server thread.

Owns: every program started by `Host.popen`, every open socket made for a test, and the loop. A socket left
open keeps its namespace alive, without a name, after the lab is gone; so does a program. Programs are ended
by pid, politely first.
"""

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from cellwall.adapters import process
from cellwall.lab.loop import Loop

if TYPE_CHECKING:
    import subprocess


class Closable(Protocol):
    """Whatever has a `close` that may be called twice."""

    def close(self) -> None: ...


class Custody:
    """Everything a lab has to end, in the order it must be ended in."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._programs: list[subprocess.Popen[bytes]] = []
        # Weak: a socket that nobody refers to any more has closed itself.
        self._open: weakref.WeakSet[Closable] = weakref.WeakSet()

    def keep_program(self, program: "subprocess.Popen[bytes]") -> None:
        """End `program` when the lab closes."""
        self._programs.append(program)

    def keep_open(self, thing: Closable) -> None:
        """Close `thing` when the lab closes, if it is still in use then."""
        self._open.add(thing)

    def close(self) -> None:
        """End everything; a second call finds nothing to do."""
        process.end(self._programs)
        self._programs.clear()
        # The loop first: it must not find a socket closed under it.
        self.loop.close()
        for thing in list(self._open):
            with suppress(OSError):
                thing.close()
        self._open.clear()
