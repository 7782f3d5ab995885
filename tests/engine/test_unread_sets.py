"""Sets that the kernel would not let be read: what has to be compared stays on record until it was."""

import errno
from ipaddress import ip_network
from typing import NoReturn

import pytest

from cellwall.api import Wall
from cellwall.errors import KernelError
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, PUBLIC4
from cellwall.model.settings import Settings
from engine.steps import assert_converged
from world import Stream, World, Wrapped, rewired

pytestmark = pytest.mark.root
CLOSED = PUBLIC4[0]


class Died(BaseException):
    """The process came no further."""


def unreading(wall: Wall, **adapters: object) -> Wall:
    """The same node, and a kernel that has no memory for a dump."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise KernelError(errno.ENOBUFS, "read set")

    return rewired(wall, rules=Wrapped(wall._site.rules, difference=refuse), **adapters)


def test_a_withdrawn_port_that_a_crash_left_open_is_closed_by_the_next_operation_that_can(node: World) -> None:
    def die(*_: object) -> NoReturn:
        raise Died

    sandbox = node.attach("publisher", expose=["8500:80"])
    with sandbox.host.serve(tcp=[80]):
        with pytest.raises(Died):
            rewired(node.wall, rules=Wrapped(node.wall._site.rules, apply=die)).unexpose(sandbox.name, "8500:80")
        assert connect(node.lab.lan, NODE4, 8500).kind == "answer"
        with pytest.raises(KernelError, match="read set"):
            unreading(node.wall).enable_bridge_netfilter()
        node.wall.enable_bridge_netfilter()
        assert connect(node.lab.lan, NODE4, 8500, timeout=0.3).kind != "answer"
    assert_converged(node.wall)
    node.detach(sandbox)


def test_a_tightened_policy_ends_open_flows_once_the_sets_can_be_read(node: World) -> None:
    tenant = node.attach("tenant")
    tighter = {"settings": Settings(protect=(ip_network(CLOSED),))}
    with Stream(tenant.host, CLOSED, 80, udp=True) as flow:
        assert flow.ask(node.token())
        with pytest.raises(KernelError, match="read set"):
            unreading(node.wall, **tighter).up()
        rewired(node.wall, **tighter).enable_bridge_netfilter()
        assert not flow.ask(node.token(), timeout=0.2)
    node.wall.up()
    node.detach(tenant)


def test_an_endpoint_is_not_forgotten_while_its_elements_may_be_live(node: World) -> None:
    tenant = node.attach("tenant")
    node.lab.node.run(["nft", "delete", "element", "inet", "cellwall", "live", f"{{ {tenant.endpoint.generation} }}"])
    with pytest.raises(KernelError, match="read set"):
        unreading(node.wall).detach(tenant.name)
    node.wall.enable_bridge_netfilter()
    assert node.wall.endpoints() == ()
    assert node.wall.status().drift == ()
