"""The fingerprint of the node's facts, for one who goes by the news: what changes the facts changes it, whatever the
order and whoever asks."""

import errno
import random
import sys
import time
from collections.abc import Callable, Sequence
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest

from cellwall.adapters.netlink.rtnetlink import RTM_SETLINK
from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.node.facts import NodeObserver
from cellwall.adapters.process import run
from cellwall.errors import KernelError

from .conftest import Namespace

WITHOUT_CARRIER = "ip link add wan type veth peer name far\nip link set wan up"


CHANGES = [
    *(f"link set {link} {state}" for link in ("eth0", "wan", "far", "lo") for state in ("up", "down")),
    "address replace 10.1.0.2/24 dev wan",
    "address del 10.1.0.2/24 dev wan",
    "address replace 2a0a:4::4/64 dev wan nodad",
    "address del 2a0a:4::4/64 dev wan",
    "route replace default dev wan metric 1",
    "route del default dev wan metric 1",
    "route replace 10.8.0.0/24 dev eth0",
    "-6 route replace 2a0a:8::/48 dev wan",
    "route replace default metric 1 nexthop dev wan nexthop dev eth0",
    "nexthop replace id 7 dev wan",
    "nexthop del id 7",
    "route replace 10.5.0.0/16 nhid 7",
    "link set wan name wan0",
    "link set wan0 name wan",
]


@pytest.mark.root
@pytest.mark.parametrize(
    ("before", "change"),
    [
        ("", "ip address add 10.4.4.4/32 dev eth0"),
        ("", "ip -6 address add 2a0a:4::4/128 dev eth0 nodad"),
        ("", "ip address del 93.184.216.10/24 dev eth0"),
        ("", "ip -6 address del 2606:2800:220:1::10/64 dev eth0"),
        ("ip link add wan up type bridge", "ip address add 10.4.4.4/32 dev wan"),
        ("ip link add wan up type bridge", "ip route add 10.8.0.0/24 dev wan"),
        ("ip link add wan up type bridge", "ip -6 route add 2a0a:8::/48 dev wan"),
        ("ip link add wan up type bridge", "ip route add default dev wan metric 1"),
        ("", "ip link set eth0 down"),
        ("", "ip link set lo down"),
        ("ip address flush dev eth0\nip route add 10.8.0.0/24 dev eth0", "ip link set eth0 down"),
        ("", "ip link del eth0"),
        ("", "ip link set eth0 name uplink0"),
        ("ip nexthop add id 7 dev eth0\nip route add 10.5.0.0/16 nhid 7", "ip nexthop del id 7"),
        (
            "ip nexthop add id 7 via 93.184.216.3 dev eth0\nip route replace default metric 50 nhid 7",
            "ip nexthop del id 7",
        ),
        (
            f"{WITHOUT_CARRIER}\nip route add default dev wan metric 1",
            "sysctl -qw net.ipv4.conf.wan.ignore_routes_with_linkdown=1",
        ),
        (
            f"{WITHOUT_CARRIER}\nip route add default dev wan metric 1",
            "sysctl -qw net.ipv4.conf.all.ignore_routes_with_linkdown=1",
        ),
        (
            f"{WITHOUT_CARRIER}\nip -6 route add default dev wan metric 1",
            "sysctl -qw net.ipv6.conf.all.ignore_routes_with_linkdown=1",
        ),
        ("", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"),
    ],
)
def test_what_changes_the_facts_changes_the_fingerprint_of_one_who_goes_by_the_news(
    observer: NodeObserver, node: Namespace, before: str, change: str
) -> None:
    for command in before.splitlines():
        node.run(command)
    facts, digest = observer.observe(), observer.fingerprint()
    assert observer.fingerprint() == digest
    node.run(change)
    assert observer.observe() != facts
    changed = observer.fingerprint()
    assert changed != digest
    assert observer.fingerprint() == changed
    with NodeObserver() as other:
        assert other.fingerprint() == changed


@pytest.mark.root
def test_the_fingerprint_is_that_of_the_namespace_in_which_the_observer_was_made(
    observer: NodeObserver, node: Namespace, make_namespace: Callable[[], Namespace]
) -> None:
    with make_namespace().entered():
        elsewhere = observer.fingerprint()
        node.run("ip address add 10.4.4.4/32 dev eth0")
        changed = observer.fingerprint()
    assert changed != elsewhere
    assert observer.fingerprint() == changed
    node.run("ip address del 10.4.4.4/32 dev eth0")
    assert observer.fingerprint() == elsewhere


FORKED = """
import os, subprocess
from cellwall.adapters.node.facts import NodeObserver
with NodeObserver() as observer:
    before = observer.fingerprint()
    subprocess.run(["ip", "address", "add", "10.4.4.4/32", "dev", "eth0"], check=True)
    child = os.fork()
    if child == 0:
        os._exit(0 if observer.fingerprint() != before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert observer.fingerprint() != before
"""


@pytest.mark.root
def test_a_forked_child_that_asks_takes_no_news_from_its_parent(observer: NodeObserver) -> None:
    run([sys.executable, "-c", FORKED])  # a process of one thread


@pytest.mark.root
@pytest.mark.slow
def test_one_who_asks_all_along_knows_at_the_end_what_one_who_asks_anew_sees(
    observer: NodeObserver, node: Namespace
) -> None:
    """Changes of every kind in any order, made by another process while the fingerprint is asked for."""
    chosen = random.Random(7)
    node.run("ip link add wan type veth peer name far")
    for _ in range(40):
        with Popen(["ip", "-force", "-batch", "-"], stdin=PIPE, stderr=DEVNULL, text=True) as changing:
            assert changing.stdin is not None
            changing.stdin.write("".join(f"{chosen.choice(CHANGES)}\n" for _ in range(8)))
            changing.stdin.close()
            while changing.poll() is None:
                observer.fingerprint()
        deadline = time.monotonic() + 30  # workers of the kernel go on for a moment
        while observer.fingerprint() != seen_anew():
            assert time.monotonic() < deadline


def seen_anew() -> str:
    with NodeObserver() as other:
        return other.fingerprint()


class Route:
    """The observer's socket: what is asked of it, and dumps that fail where they shall."""

    def __init__(self, route: Netlink, *, fails: bool = False) -> None:
        self._route = route
        self._fails = fails
        self.asked: list[str] = []

    def transact(self, messages: Sequence[Message], operation: str) -> list[Reply]:
        self.asked.append(" ".join(f"message {message.type}" for message in messages))
        return self._route.transact(messages, operation)

    def dump(self, message: Message, operation: str) -> list[Reply]:
        self.asked.append("dump")
        if self._fails:
            raise KernelError(errno.EINTR, operation)
        return self._route.dump(message, operation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)


@pytest.mark.root
def test_news_that_could_not_be_read_up_on_are_not_forgotten(observer: NodeObserver, node: Namespace) -> None:
    before, whole = observer.fingerprint(), observer._route
    node.run("ip address add 10.4.4.4/32 dev eth0")
    observer._route = Route(whole, fails=True)  # type: ignore[assignment]
    with pytest.raises(KernelError):
        observer.fingerprint()
    observer._route = whole
    assert observer.fingerprint() == seen_anew() != before


@pytest.mark.root
def test_what_was_told_is_read_when_it_is_done(observer: NodeObserver, node: Namespace) -> None:
    """The kernel tells of some changes before it makes them, under a lock that every change waits for: between the news
    and the first dump there is one, which changes nothing."""
    observer.fingerprint()
    node.run("ip address add 10.4.4.4/32 dev eth0")
    observer._route = route = Route(observer._route)  # type: ignore[assignment]
    observer.fingerprint()
    assert route.asked[:2] == [f"message {RTM_SETLINK}", "dump"]
