"""How long a client waits for a daemon that restarts, and what it says when it has waited long enough."""

import time

from cellwall.errors import NoPrivilege, Unavailable

PATIENCE = 5.0
"""Seconds for which nobody may be at the socket: a restart takes a fraction of one."""

ANSWER = 60.0
"""Seconds that the daemon may take for an answer."""

LATER = 503
"""The status of a daemon that is on its way out, or has no room just now."""

_FIRST, _LONGEST = 0.005, 0.1


class Patience:
    """One wait, from the first failure to the last."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._pause = _FIRST

    def pause(self) -> float | None:
        """How long to wait until the next attempt; None: that was the last."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        if now >= self._deadline:
            return None
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST)
        return pause


def unreachable(socket: str, error: OSError | None, seconds: float) -> Unavailable | NoPrivilege:
    """The error for a socket at which nobody answered."""
    if isinstance(error, PermissionError):
        return NoPrivilege(f"{socket}: permission denied; it is root's, and that of the group in daemon.group")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{socket}: the daemon did not answer within {ANSWER:g} s")
    why = f" ({error.strerror})" if error is not None and error.strerror else ""
    return Unavailable(f"{socket}: no daemon answered within {seconds:g} s{why}")
