"""Turns among the threads of a daemon: first come, first served.

A lock of Python's own goes to whoever is quickest after a release, often to the thread that released it: beside one
that writes without a pause, a repair waited for up to 8 writes that were asked for after it.
"""

from collections import deque
from threading import Lock, get_ident


class FairMutex:
    """Reentrant; entered by threads in the order in which they asked."""

    def __init__(self) -> None:
        self._state = Lock()
        self._waiting: deque[Lock] = deque()
        self._holder: int | None = None
        self._depth = 0

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._waiting)

    def __enter__(self) -> bool:
        me = get_ident()
        with self._state:
            if self._holder == me:
                self._depth += 1
                return True
            if self._holder is None:
                self._holder, self._depth = me, 1
                return True
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # released by who hands the turn over
        self._holder = me
        return True

    def enter_if_free(self) -> bool:
        """Enter where nobody has it or waits for it; False where somebody does."""
        with self._state:
            if self._holder not in (None, get_ident()):
                return False
            self._holder = get_ident()
            self._depth += 1
            return True

    def __exit__(self, *exception: object) -> None:
        with self._state:
            self._depth -= 1
            if self._depth:
                return
            if not self._waiting:
                self._holder = None
                return
            self._holder, self._depth = 0, 1  # handed over: nobody's own, and not free
            self._waiting.popleft().release()
