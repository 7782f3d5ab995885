"""Who has containers attached, published and detached while the daemon ends and begins, and notes what it was told."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress

from cellwall.client import Client
from cellwall.errors import Unavailable
from cellwall.model.endpoint import Endpoint


class Customer:
    """One container again and again, each time in one of the ways there are: in a namespace of its own with a port of
    its own, any free one, or one that was reserved before, or claimed ready as the client writes it."""

    def __init__(self, client: Client, name: str, netns: str, port: int, seed: int = 0) -> None:
        self.client = client
        self.name = name
        self._netns = netns
        self._port = port
        self._chance = random.Random(seed)
        self._published: tuple[str, ...] = ()
        self.known: bool | None = False
        """Whether it is attached; None where nobody was told."""
        self.done = 0
        """Operations that were carried out, by what was answered."""

    def go(self, stop: threading.Event) -> None:
        """Raises what no daemon may answer, whatever becomes of it just then."""
        while not stop.is_set():
            self.step()

    def step(self) -> None:
        before, self.known = self.known, None
        with suppress(Unavailable):  # what a daemon on its way out may say
            if before is False:
                self._come(self._chance.choice((self._attached, self._given_a_port, self._reserving, self._claimed)))
            else:
                self._leave(attached=before is True)
            self.known = before is False
            self.done += 1

    def _come(self, way: Callable[[], Endpoint]) -> None:
        self._published = tuple(str(binding) for binding in way().bindings)

    def _attached(self) -> Endpoint:
        return self.client.attach(self.name, netns=self._netns, expose=[f"{self._port}:80"])

    def _given_a_port(self) -> Endpoint:
        return self.client.attach(self.name, netns=self._netns, expose=["auto:80"])

    def _reserving(self) -> Endpoint:
        first, _ = self.client.reserve_ports(self.name, 2).ports
        return self.client.attach(self.name, netns=self._netns, expose=[f"{first}:80"])

    def _claimed(self) -> Endpoint:
        return self.client.claim(self.name)

    def _leave(self, *, attached: bool) -> None:
        if attached:
            for binding in self._published:
                self.client.unexpose(self.name, binding)
            self.client.expose(self.name, f"{self._port}:81/udp")
        self.client.detach(self.name)
        self.client.release_ports(self.name)
