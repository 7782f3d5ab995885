"""How long what is allowed did not pass: a sandbox asks a service outside again and again, in each family."""

import threading
import time

from cellwall.lab import Host
from world import Stream, public

_PATIENCE, _PAUSE = 0.02, 0.002
_ASKS = 20


class Gaps:
    """Questions while the block runs, every few by a new flow: as many as the limits of a sandbox allow. Afterwards
    `longest` is the longest time between two that were answered, in milliseconds. A measure and no judgement: it is as
    noisy as the machine."""

    def __init__(self, host: Host, port: int) -> None:
        self._host, self._port = host, port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(public(family),)) for family in (4, 6)]
        self.longest = 0.0

    def _run(self, address: str) -> None:
        last = time.monotonic()
        answered = True
        while not (self._ended.is_set() and (answered or time.monotonic() - last > 5)):
            with Stream(self._host, address, self._port, udp=True) as flow:
                for number in range(_ASKS):
                    answered = flow.ask(b"<%d>" % number, timeout=_PATIENCE)
                    now = time.monotonic()
                    self.longest = max(self.longest, (now - last) * 1000)
                    last = now if answered else last
                    if not answered or self._ended.wait(_PAUSE):
                        break
            self._ended.wait(_PAUSE)

    def __enter__(self) -> "Gaps":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
