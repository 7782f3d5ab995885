"""What a tenant puts into its own namespace costs whoever looks at it little, and nobody else anything."""

from collections.abc import Iterator

import pytest

from cellwall.api import Wall
from cellwall.errors import NotFound
from world import Sandbox, World, Wrapped, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def sandbox(node: World) -> Iterator[Sandbox]:
    sandbox = node.attach("tenant")
    yield sandbox
    node.detach(sandbox)


def test_the_inside_is_read_while_others_work(node: World, sandbox: Sandbox) -> None:
    """Another wall takes the writer lock in the middle of it."""
    links, other = node.wall._site.links, node.attach("other")

    def inspect(ifname: str, netns_fd: int) -> object:
        with Wall.open(root=node.lab.root, settings=node.wall.settings) as busy:
            busy.expose(other.name, "8080:80")
        return links.inspect_sandbox(ifname, netns_fd)

    assert rewired(node.wall, links=Wrapped(links, inspect_sandbox=inspect)).verify(sandbox.name) == ()
    assert node.wall.endpoint(other.name).bindings
    node.detach(other)


def test_an_endpoint_that_is_detached_meanwhile_is_not_found(node: World) -> None:
    leaving = node.attach("leaving")
    links = node.wall._site.links

    def inspect(ifname: str, netns_fd: int) -> object:
        node.detach(leaving)
        node.wall.reconcile()  # its link is deleted
        return links.inspect_sandbox(ifname, netns_fd)

    with pytest.raises(NotFound, match=leaving.name):
        rewired(node.wall, links=Wrapped(links, inspect_sandbox=inspect)).verify(leaving.name)


def test_a_full_route_table_hides_nothing_that_is_there(node: World, sandbox: Sandbox) -> None:
    for family, routes in ((4, "10.{}.{}.0/24"), (6, "2a0a:{:x}:{:x}::/64")):
        batch = "".join(f"route add {routes.format(n >> 8, n & 255)} dev eth0\n" for n in range(10000))
        sandbox.host.run(["ip", f"-{family}", "-batch", "-"], input=batch.encode(), timeout=60)
    assert node.wall.verify(sandbox.name) == ()
    sandbox.host.run(["ip", "route", "del", "default"])
    sandbox.host.run(["ip", "-6", "route", "del", "default"])
    assert node.wall.verify(sandbox.name) == tuple(
        f"routes: no IPv{version} default route by eth0 inside the sandbox" for version in (4, 6)
    )


def test_many_addresses_hide_none_of_ours(node: World, sandbox: Sandbox) -> None:
    batch = "".join(f"address add 10.7.{n >> 8}.{n & 255}/32 dev lo\n" for n in range(2000))
    batch += "".join(f"address add 10.8.{n >> 8}.{n & 255}/32 dev eth0\n" for n in range(2000))
    batch += "".join(f"address add 2a0a::{n:x}/128 dev eth0 nodad\n" for n in range(1, 2000))
    sandbox.host.run(["ip", "-batch", "-"], input=batch.encode(), timeout=60)
    assert node.wall.verify(sandbox.name) == ()
