"""A node on which beta9's own networking left two containers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from beta9 import LEGACY, NEW, OLD, Container, Shape, leave_beta9, publish, rule
from world import World, open_world

THEIRS = "-A FORWARD -s 10.1.2.3/32 -j ACCEPT"
"""A rule of somebody else's."""


class Site(NamedTuple):
    world: World
    shape: Shape
    web: Container
    job: Container


KINDS = {"b9h": NEW, "b9_veth_h_": OLD, "iptables-legacy": LEGACY}
"""What its links are called, and which iptables it wrote to."""


@contextmanager
def found_site(kind: str) -> Iterator[Site]:
    """With a published port of the first container and a rule of somebody else's; its wall is not up yet."""
    shape = KINDS[kind]
    with open_world(up=False) as world:
        web, job = leave_beta9(world.lab, shape)
        publish(world.lab, shape, web, 30080, 80)
        rule(world.lab, shape, 4, THEIRS)
        with world.lab.internet.serve(tcp=[80, 7], udp=[7]), web.host.serve(tcp=[80, 7]):
            yield Site(world, shape, web, job)


def inner(container: Container) -> str:
    """The name of its interface, inside."""
    return container.veth.replace("b9_veth_h_", "").replace("b9h", "").join(("b9_veth_c_", ""))


def links(world: World) -> str:
    return world.lab.node.run(["ip", "link"]).text
