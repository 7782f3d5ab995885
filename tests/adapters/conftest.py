"""Nameless network namespaces: they end with the last descriptor, so no crash of a test leaves one behind."""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cellwall.adapters import process
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.node.facts import NodeObserver
from cellwall.adapters.sandbox import netns

if TYPE_CHECKING:
    from .endpoints import Attached

_CLONE_NEWNET = 0x40000000


class Namespace:
    """One namespace, by its descriptor."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                netns.setns(home)
        finally:
            os.close(home)

    def close(self) -> None:
        os.close(self.fd)

    def entered(self) -> AbstractContextManager[None]:
        return netns.entered(self.fd)

    def run(self, command: str, *, input: bytes | None = None) -> str:
        with self.entered():
            return process.run(command.split(), input=input).text

    def json(self, command: str) -> list[dict[str, Any]]:
        return msgspec.json.decode(self.run(command) or "[]", type=list[dict[str, Any]])

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def addresses(self, link: str) -> set[str]:
        (shown,) = self.json(f"ip -j address show dev {link}")
        return {f"{entry['local']}/{entry['prefixlen']}" for entry in shown["addr_info"]}

    def neighbours(self) -> dict[str, tuple[str, str]]:
        shown = self.json("ip -j neighbour show nud all")
        return {entry["dst"]: (entry["lladdr"], entry["state"][0]) for entry in shown if "lladdr" in entry}


@pytest.fixture
def make_namespace() -> Iterator[Callable[[], Namespace]]:
    with ExitStack() as stack:

        def make() -> Namespace:
            made = Namespace()
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def node(make_namespace: Callable[[], Namespace]) -> Iterator[Namespace]:
    """The node; the test runs inside it."""
    made = make_namespace()
    with made.entered():
        yield made


@pytest.fixture
def links(node: Namespace) -> Iterator[LinkLayer]:
    with LinkLayer() as layer:
        yield layer


@pytest.fixture
def attach(links: LinkLayer, make_namespace: Callable[[], Namespace]) -> "Callable[..., Attached]":
    """An endpoint of this number, wired to the node."""
    from .endpoints import Attached

    def make(number: int, *, ipv6: bool = True) -> Attached:
        return Attached(links, make_namespace(), number, ipv6=ipv6)

    return make


HOST = """\
ip link set lo up
ip link add eth0 mtu 1400 type bridge
ip link set eth0 up
ip address add 93.184.216.10/24 dev eth0
ip address add 2606:2800:220:1::10/64 dev eth0 nodad
ip route add default via 93.184.216.1 metric 50
ip -6 route add default via 2606:2800:220:1::1"""


@pytest.fixture(params=[0, 1], ids=["asked first", "asked before"])
def observer(node: Namespace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NodeObserver]:
    """One that was just made, and one that goes by what the kernel tells it."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("search example.org\nnameserver 9.9.9.9\nnameserver 2620:fe::fe # quad9\nnameserver fe80::1%eth0\n")
    for line in HOST.splitlines():
        node.run(line)
    with NodeObserver(resolv_conf=str(conf)) as observer:
        for _ in range(request.param):
            observer.fingerprint()
        yield observer
