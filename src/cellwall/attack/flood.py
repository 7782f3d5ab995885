"""A flood: the same frames over and over, for as long as something else is done."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from cellwall.errors import LabError
from cellwall.lab import Host
from cellwall.lab.capture import one_cpu

_EVERY = 0.0003
"""Seconds between rounds: no more frames than a capture can keep up with."""
_PATIENCE = 30.0


class Flood:
    """Frames out of a host's link inside the `with` block, from the moment on that there is such a link.

    `every`: seconds between rounds; 0: as fast as it goes, for whoever captures nothing.
    """

    def __init__(self, host: Host, ifname: str, frames: Sequence[bytes], *, every: float = _EVERY) -> None:
        self._ifname, self._frames, self._every = ifname, frames, every
        self.rounds = 0
        """How often all frames were sent."""
        self._more = threading.Condition()
        self._ended = threading.Event()
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._thread = threading.Thread(target=self._run)

    def wait(self, rounds: int = 10) -> None:
        """Return when all frames were sent that many times more; LabError where nothing can be sent."""
        with self._more:
            aim = self.rounds + rounds
            if not self._more.wait_for(lambda: self.rounds >= aim, timeout=_PATIENCE):
                raise LabError(f"flood: nothing could be sent out of {self._ifname}")

    def _run(self) -> None:
        with one_cpu():
            while not self._ended.wait(self._every):
                with suppress(OSError):  # no such link yet, or one that is down
                    for data in self._frames:
                        self._socket.sendto(data, (self._ifname, 0))
                    with self._more:
                        self.rounds += 1
                        self._more.notify_all()

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()
