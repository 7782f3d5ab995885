"""A world whose wall has proxies, and servers that listen in one family only."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.daemon.proxy.proxies import Proxies
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4, LAN6, NODE4, NODE6
from cellwall.lab.host import Host
from world import Sandbox, World, open_world

BOTH = pytest.mark.parametrize(("family", "word"), [(6, "tcp6to4"), (4, "tcp4to6")], ids=["6to4", "4to6"])
NODE, LAN = {4: NODE4, 6: NODE6}, {4: LAN4, 6: LAN6}
ANY = {4: "0.0.0.0", 6: "::"}


class Proxied(World):
    """A world whose wall has proxies."""

    def __init__(self, world: World, proxies: Proxies) -> None:
        super().__init__(world.lab, world.wall, world.report)
        self.proxies = proxies

    def detach_all(self) -> None:
        """Nothing of a test is left for the next one, also where it failed: whoever has a policy or a port."""
        self.wall.detach_many([one.key for one in self.wall.endpoints()])
        for tenant in self.wall.policies():
            self.wall.remove_policy(tenant=tenant)


@contextmanager
def proxied_world() -> Iterator[Proxied]:
    """A world whose wall is up and has proxies."""
    with open_world() as world:
        proxies = Proxies()
        world.wall.run_proxies(proxies)
        try:
            yield Proxied(world, proxies)
        finally:
            proxies.close()


@contextmanager
def listening(host: Host, family: int, port: int = 80) -> Iterator[socket.socket]:
    """A server of one family alone."""
    with host.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_STREAM) as one:
        if family == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((ANY[family], port))
        one.listen(8)
        one.settimeout(10)
        yield one


@contextmanager
def bound_by_another(host: Host, port: int) -> Iterator[None]:
    """A program has the port in IPv6, and does not listen: no look at who listens finds it. To have it no connection of
    the last minute may have been there, as the kernel remembers one."""
    with host.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(("::", port))
        yield


@contextmanager
def served(world: Proxied, family: int, spec: str) -> Iterator[Sandbox]:
    """A sandbox that publishes a port, and echoes in the other family than that of the clients who are led."""
    sandbox = world.attach("web", tenant="acme")
    world.wall.expose(sandbox.name, spec)
    with sandbox.host.serve(tcp=[80]):
        yield sandbox


def asked(host: Host, family: int, port: int = 8080) -> bool:
    """Whether a client of this family is answered."""
    return connect(host, NODE[family], port, timeout=2.0).kind == "answer"
