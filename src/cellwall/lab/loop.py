"""One thread per lab that serves all its servers.

Owns: a selector, and the thread that calls back when a socket is readable or writable. A socket keeps the
namespace it was created in, so one thread serves every host of a lab, and a lab costs no server processes.
`settle` is what makes "the victim saw nothing" a statement about the past: when it returns, everything that
had reached the kernel's socket buffers before the call has been read. Registration is done in the thread
itself, so nothing here is locked.
"""

import queue
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress

from cellwall.errors import LabError

Ready = Callable[[int], None]
_SETTLE_ROUNDS = 1000  # an accept makes a connection readable one round later; endless traffic must not hold it


class Loop:
    """A selector in a thread, started by its first use."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._asked: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._answer)
        self._thread: threading.Thread | None = None
        self._running = True
        self._failure: Exception | None = None

    def watch(self, sock: socket.socket, ready: Ready) -> None:
        """Call `ready(events)` in the thread whenever `sock` is readable."""
        self._in_thread(lambda: self._register(sock, ready))

    def drop(self, socks: Iterable[socket.socket]) -> None:
        """Forget sockets and close them. `socks` is read in the thread: callbacks may change it until then."""
        self._in_thread(lambda: self._forget(list(socks)))

    def settle(self) -> None:
        """Return when all that had arrived before the call has been read; LabError where a server broke down."""
        self._in_thread(self._read_everything)
        if self._failure is not None:
            raise LabError("a server of the lab broke down") from self._failure

    def add(self, sock: socket.socket, ready: Ready) -> None:
        """`watch` for callbacks, which run in the thread already."""
        self._register(sock, ready)

    def want(self, sock: socket.socket, *, write: bool) -> None:
        """From a callback: read `sock`, or wait until it can be written to and read nothing meanwhile."""
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        self._selector.modify(sock, events, self._selector.get_key(sock).data)

    def close(self) -> None:
        """End the thread and close every socket it watched; a second call does nothing."""
        if not self._running:
            return
        if self._thread is not None:
            self._in_thread(self._stop)
            self._thread.join()
        self._running = False
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._wake.close()

    def _in_thread(self, action: Callable[[], None]) -> None:
        if threading.current_thread() is self._thread:
            action()
            return
        if not self._running:
            raise LabError("the lab is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="cellwall-lab", daemon=True)
            self._thread.start()
        done: Future[None] = Future()
        self._asked.put((action, done))
        self._wake.send(b"!")
        done.result(timeout=30.0)

    def _serve(self) -> None:
        while self._running:
            self._round(None)

    def _round(self, timeout: float | None) -> int:
        ready = self._selector.select(timeout)
        for key, events in ready:
            now = self._selector.get_map().get(key.fd)
            # An earlier callback of this round may have dropped the socket, and another may have its number.
            if now is None or now.fileobj is not key.fileobj:
                continue
            try:
                key.data(events)
            except Exception as error:
                # The thread must live on for the other servers; whoever asks next is told.
                self._failure = error
                self._selector.unregister(key.fileobj)
        return len(ready)

    def _answer(self, events: int) -> None:
        self._woken.recv(1)
        action, done = self._asked.get()
        try:
            action()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _read_everything(self) -> None:
        # The waking socket is left out: an action must not begin inside another.
        self._selector.unregister(self._woken)
        try:
            for _ in range(_SETTLE_ROUNDS):
                if not self._round(0):
                    return
        finally:
            self._selector.register(self._woken, selectors.EVENT_READ, self._answer)

    def _register(self, sock: socket.socket, ready: Ready) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, ready)

    def _forget(self, socks: list[socket.socket]) -> None:
        for sock in socks:
            with suppress(KeyError, ValueError):  # never watched, or closed already
                self._selector.unregister(sock)
            sock.close()

    def _stop(self) -> None:
        self._running = False
