"""What systemd hands to a service and hears of it: sd_notify(3), sd_listen_fds(3), the watchdog, the descriptor store.

Without a service manager every word is for nobody. What it says in the environment is taken out of it, so that no child
takes it for its own.
"""

import logging
import os
import socket
import time
from array import array
from collections.abc import MutableMapping

import msgspec

_log = logging.getLogger("cellwall.daemon")
_FIRST = 3  # SD_LISTEN_FDS_START
_LISTENS = 1.0
"""Seconds for it to take a word where others wait to be heard: what is being done is not to wait for it longer."""


class Given(msgspec.Struct, frozen=True):
    """A descriptor that was there from the start: a socket of a socket unit, or one that an earlier run had kept."""

    name: str
    fd: int


class ServiceManager:
    """Who started this process, if that is one that wants to hear of it. `watchdog`: seconds within which it does, 0
    where it does not."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog(environ)
        self.given = _given(environ)

    def tell(self, **said: object) -> None:
        """Send what was said, a line each (READY=1, STATUS=…). What cannot be sent is logged: nothing depends on it."""
        self._send(said)

    def reloading(self) -> None:
        """A reload begins; READY=1 ends it."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def keep(self, name: str, *fds: int) -> None:
        """Have duplicates kept for the next run, through a kill too. Those of that name are replaced."""
        self.forget(name)
        self._send({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0}, *fds)  # an error that waits at it is no end of it

    def forget(self, name: str) -> None:
        """Have none of that name kept."""
        self._send({"FDSTOREREMOVE": 1, "FDNAME": name})

    def _send(self, said: dict[str, object], *fds: int) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in said.items())
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
                speaking.settimeout(_LISTENS)
                speaking.sendmsg([text.encode()], carried, 0, address)
        except OSError as error:
            _log.warning("the service manager was not told %s: %s", text.partition("\n")[0], error)


def _watchdog(environ: MutableMapping[str, str]) -> float:
    wanted, whose = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not wanted.isdigit() or whose not in ("", str(os.getpid())):
        return 0.0
    return int(wanted) / 1e6


def _given(environ: MutableMapping[str, str]) -> tuple[Given, ...]:
    count, whose = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or whose != str(os.getpid()):
        return ()
    given = []
    for number in range(int(count)):
        os.set_inheritable(_FIRST + number, False)
        given.append(Given(names[number] if number < len(names) else "unknown", _FIRST + number))
    return tuple(given)
