"""The node's listening sockets, by both ways of asking the kernel."""

import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any, Literal

import msgspec
import pytest

from cellwall.adapters.node.listeners import read_listeners, tabled_listeners
from cellwall.engine.contracts import Listener
from cellwall.lab import Lab
from cellwall.lab.addresses import NODE4, NODE6

pytestmark = pytest.mark.root
Reader = Callable[[Any], Iterable[Listener]]
BOUND = (("0.0.0.0", 700), ("127.0.0.1", 701), (NODE4, 702), ("::", 703), (NODE6, 704), (f"::ffff:{NODE4}", 705))
FOUND = {(ip_address(address.removeprefix("::ffff:")), port) for address, port in BOUND}


def bound(lab: Lab, stack: ExitStack, address: str, port: int, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = stack.enter_context(lab.node.socket(family, kind))
    sock.bind((address, port))
    return sock


@pytest.mark.parametrize("read", [read_listeners, tabled_listeners])
def test_listeners_are_found_at_their_addresses_and_connections_are_none(lab: Lab, read: Reader) -> None:
    with ExitStack() as stack:
        for address, port in BOUND:
            bound(lab, stack, address, port, socket.SOCK_STREAM).listen()
            bound(lab, stack, address, port, socket.SOCK_DGRAM)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            bound(lab, stack, "127.0.0.1", 720, kind).connect(("127.0.0.1", 701))
        bound(lab, stack, NODE4, 721, socket.SOCK_STREAM)  # it does not listen
        with lab.node.enter():
            for protocol in ("tcp", "udp"):
                found = {(row.address, row.port) for row in read(protocol) if 700 <= row.port < 730}
                assert found == FOUND


def numberless(protocol: Literal["tcp", "udp"], port: int) -> set[Listener]:
    """Without the number that each socket has."""
    return {msgspec.structs.replace(one, inode=0) for one in read_listeners(protocol, port)}


def test_one_port_may_be_asked_for_and_a_dual_socket_is_told_from_one_of_ipv6_alone(lab: Lab) -> None:
    with ExitStack() as stack:
        bound(lab, stack, "::", 703, socket.SOCK_DGRAM)
        bound(lab, stack, "0.0.0.0", 704, socket.SOCK_DGRAM)
        alone = stack.enter_context(lab.node.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        alone.bind(("::", 704))
        with lab.node.enter():
            assert numberless("udp", 703) == {Listener(ip_address("::"), 703, both=True)}
            assert numberless("udp", 704) == {
                Listener(ip_address("0.0.0.0"), 704),
                Listener(ip_address("::"), 704),
            }
            assert read_listeners("tcp", 703) == ()


def test_an_interface_that_a_socket_is_bound_to_is_told(lab: Lab) -> None:
    with lab.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, lab.node.enter():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
        sock.bind(("0.0.0.0", 705))
        (row,) = read_listeners("udp", 705)
        assert row.interface == socket.if_nametoindex("eth1")
