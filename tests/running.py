"""A program that runs beside a test, until it has come as far as the test needs it."""

import subprocess
from collections.abc import Callable
from contextlib import suppress


def come_to(running: "subprocess.Popen[bytes]", point: Callable[[], bool]) -> None:
    """Return when `point` is true; AssertionError where the program ends before that."""
    while not point():
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"it ended before that, with {running.wait(0.01)}")
    assert running.poll() is None
