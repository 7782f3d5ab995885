"""What runs beside a test: until it has come as far as the test needs it, and what labs a program has."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from cellwall.lab import records


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return when it holds, of which nobody tells; AssertionError where it does not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def come_to(running: "subprocess.Popen[bytes]", point: Callable[[], bool]) -> None:
    """Return when `point` is true; AssertionError where the program ends before that."""
    while not point():
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it ended before that, with {running.wait(0.01)}")
    assert running.poll() is None


def labs_of(pid: int) -> list[str]:
    """The prefixes of a process' labs that are on record."""
    found = []
    for path in records.RECORDS.glob("[a-z]*"):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=records.Record)
        except FileNotFoundError:
            continue
        if record.pid == pid:
            found.append(record.prefix)
    return found
