"""`cellwall watch` as a process of a lab's node, and what it says."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from world import World

_PATIENCE = 20.0


class Watchman:
    """A running `cellwall watch`."""

    def __init__(self, world: World) -> None:
        argv = [sys.executable, "-m", "cellwall.cli.main", "--root", str(world.lab.root), "-vv", "watch"]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        self._said = b""
        self._fd = self._process.stderr.fileno()
        os.set_blocking(self._fd, False)
        self.heard("watching")

    def heard(self, words: str) -> str:
        """The next line with these words; those before it are forgotten."""
        return self.heard_until(words)[-1]

    def heard_until(self, words: str) -> list[str]:
        """All lines up to the next one with these words."""
        deadline, lines = time.monotonic() + _PATIENCE, [""]
        while words not in lines[-1]:
            line, newline, rest = self._said.partition(b"\n")
            if newline:
                self._said = rest
                lines.append(line.decode())
            else:
                assert time.monotonic() < deadline, f"not a word of {words!r}, last: {lines[-1]!r}"
                self._hear(deadline - time.monotonic())
        return lines

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; its exit status, and what it said that nobody had heard yet."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The same, of one that ends by itself."""
        status = self._process.wait(_PATIENCE)
        self._hear(0)
        return status, self._said.decode()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _hear(self, timeout: float) -> None:
        if select.select([self._fd], [], [], max(timeout, 0))[0]:
            while chunk := _read(self._fd):
                self._said += chunk


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""


@contextmanager
def watched(world: World) -> Iterator[Watchman]:
    """The node is watched while the block runs."""
    man = Watchman(world)
    try:
        yield man
    finally:
        man.close()
