"""How frames are put on a wire so that nothing said about them is by accident.

The kernel passes what a veth sends through a queue per CPU, 1,000 packets long, that every namespace of the machine
shares. Frames of one volley come from one CPU, so that none overtakes the sentinel, few at a time, and whether the
queue lost any is looked up: a frame that was lost was not stopped by anybody.
"""

import errno
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cellwall.errors import TooBusy
from cellwall.lab.capture import one_cpu

AT_ONCE = 100
"""Frames between two sentinels; each may become several packets."""

_PATIENCE = 5.0
_SOFTNET = Path("/proc/net/softnet_stat")
_DROPPED, _CPU = 1, 12  # net/core/net-procfs.c, softnet_seq_show


def send(sock: socket.socket, frames: Sequence[bytes], losses: Callable[[], int] | None = None) -> None:
    """Send each frame exactly once; TooBusy where the queue of the CPU stays full.

    A classifier of the link's own that drops a frame says the same as a full queue; but then nothing more is lost by
    trying again, as `losses` counts it (`lost` where it is not given), and the frame was sent as far as anybody can.
    """
    count = losses or lost
    with one_cpu():
        for data in frames:
            deadline, before = time.monotonic() + _PATIENCE, -1
            while not _sent(sock, data):
                now = count()
                if now == before:
                    break
                before = now
                if time.monotonic() > deadline:
                    raise TooBusy("nothing can be sent")
                os.sched_yield()  # to the thread that empties the queue


def _sent(sock: socket.socket, data: bytes) -> bool:
    try:
        sock.send(data)
    except OSError as error:
        if error.errno != errno.ENOBUFS:  # the queue was full, the frame is gone
            raise
        return False
    return True


def lost() -> int:
    """How many packets the queue of that CPU ever lost."""
    rows = [[int(word, 16) for word in line.split()] for line in _SOFTNET.read_text().splitlines()]
    cpu = min(os.sched_getaffinity(0))
    numbered = {row[_CPU] if len(row) > _CPU else number: row for number, row in enumerate(rows)}
    return numbered[cpu][_DROPPED]
