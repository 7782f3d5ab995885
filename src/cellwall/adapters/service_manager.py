"""What systemd hands to a service and hears of it: sd_notify(3), sd_listen_fds(3), the watchdog, the descriptor store.

Without a service manager every word is for nobody. What it says in the environment is taken out of it, so that no child
takes it for its own.

One that is busy, as systemd amid a daemon-reload, takes nothing for seconds, and its socket has room for a few words
only. Nobody waits for that: what it does not take at once is said to it by a thread, in the same order, and what is to
be kept stays open until it is. Where no thread can be had it is said with the next word, or the one behind. A kill
meanwhile is as without a place to keep things.
"""

import logging
import os
import socket
import time
from array import array
from collections.abc import Mapping, MutableMapping, Sequence
from threading import Condition, Thread

import msgspec

_log = logging.getLogger("cellwall.daemon")
_FIRST = 3  # SD_LISTEN_FDS_START
_LISTENS = 1.0
"""Seconds for it to take, at the end of this process, what it has not taken yet."""
_LOOK = 0.02
"""Seconds between looks whether it takes more, where no thread waits for that."""


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
        self._waiting: list[_Word] = []
        self._waited_for = False
        self._threadless = False
        self._state = Condition()

    def tell(self, **said: object) -> None:
        """Send what was said, a line each (READY=1, STATUS=…). What cannot be sent is logged: nothing depends on it."""
        self._say(_Word(_text(said)))

    def reloading(self) -> None:
        """A reload begins; READY=1 ends it."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def keep(self, name: str, *fds: int) -> None:
        """Have duplicates kept for the next run, through a kill too. Those of that name are replaced."""
        self.forget(name)
        text = _text({"FDSTORE": 1, "FDNAME": name, "FDPOLL": 0})  # an error that waits at it is no end of it
        self._say(_Word(text, name, fds))

    def forget(self, name: str) -> None:
        """Have none of that name kept."""
        with self._state:
            for word in [word for word in self._waiting[1:] if word.name == name]:  # the first is being said
                self._waiting.remove(word)
                word.close()
        self._say(_Word(_text({"FDSTOREREMOVE": 1, "FDNAME": name}), name))

    def close(self, patience: float = _LISTENS) -> None:
        """Wait until it has taken what was said, for so many seconds at most."""
        end = time.monotonic() + patience
        with self._state:
            while not self._is_said() and (left := end - time.monotonic()) > 0:
                self._state.wait(left if self._waited_for else min(left, _LOOK))

    def _say(self, word: "_Word") -> None:
        if not self._address:
            return
        with self._state:
            if self._is_said() and self._send(word, wait=False):
                return
            if not self._waiting or self._waiting[-1].text != word.text:  # else the watchdog's, mostly
                try:
                    self._waiting.append(word.lasting())
                except OSError as error:
                    word.not_told(error)
                    return
            if not self._waited_for:
                self._wait_for_it()

    def _is_said(self) -> bool:
        """Whether nothing waits any more; what it takes by now is said, where no thread does that."""
        while self._waiting and not self._waited_for and self._send(self._waiting[0], wait=False):
            self._waiting.pop(0).close()
        return not self._waiting

    def _wait_for_it(self) -> None:
        """Have a thread say what waits. Python tells that there is no room for one by a RuntimeError."""
        try:
            Thread(target=self._say_later, args=(self._waiting[0],), name="notify", daemon=True).start()
            self._waited_for, self._threadless = True, False
        except RuntimeError as error:
            if not self._threadless:
                _log.warning("the service manager is busy, and what waits for it is said later: %s", error)
            self._threadless = True

    def _say_later(self, word: "_Word") -> None:
        """Say the first of what waits, and all that waits by then."""
        while True:
            self._send(word, wait=True)
            word.close()
            with self._state:
                del self._waiting[0]
                if not self._waiting:
                    self._waited_for = False
                    self._state.notify_all()
                    return
                word = self._waiting[0]

    def _send(self, word: "_Word", *, wait: bool) -> bool:
        """Whether it has heard this, or never will."""
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", word.fds))] if word.fds else []
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
                speaking.setblocking(wait)
                speaking.sendmsg([word.text], carried, 0, address)
        except BlockingIOError:
            return False
        except OSError as error:
            word.not_told(error)
        return True


class _Word:
    """One message with descriptors. `name`: of what is to be kept, or no longer."""

    def __init__(self, text: bytes, name: str = "", fds: Sequence[int] = ()) -> None:
        self.text = text
        self.name = name
        self.fds = fds

    def lasting(self) -> "_Word":
        """With duplicates of its own, whatever becomes of the descriptors; `close` closes them."""
        fds: list[int] = []
        try:
            for fd in self.fds:
                fds.append(os.dup(fd))
        except OSError:
            _Word(self.text, self.name, fds).close()
            raise
        return _Word(self.text, self.name, fds)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)

    def not_told(self, error: OSError) -> None:
        _log.warning("the service manager was not told %s: %s", self.text.decode().partition("\n")[0], error)


def _text(said: Mapping[str, object]) -> bytes:
    return "\n".join(f"{name}={value}" for name, value in said.items()).encode()


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
