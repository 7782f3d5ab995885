"""Where metrics are told over TCP: at the address that was given, however the node's addresses come and go."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from cellwall.daemon.metrics.scraping import listening_at
from cellwall.lab import Lab
from cellwall.lab.host import Host
from cellwall.model.scraped import Scraped
from running import wait_until

pytestmark = pytest.mark.root

PORT = 9469


@pytest.fixture(scope="module")
def node() -> Iterator[Host]:
    """With both loopback addresses; the tests run on it."""
    with Lab() as lab, lab.node.enter():
        lab.node.ip(["link set lo up"])
        yield lab.node


def reaches(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("where", "reached"),
    [("127.0.0.1", {4}), ("0.0.0.0", {4}), ("::1", {6}), ("::", {6})],
)
def test_metrics_are_at_the_address_that_was_given_and_at_none_of_the_other_family(
    node: Host, where: str, reached: set[int]
) -> None:
    with scraped_at(where):
        assert {family for family, address in ((4, "127.0.0.1"), (6, "::1")) if reaches(address)} == reached


@pytest.mark.parametrize("where", ["203.0.113.77", "2001:db8::77"])
def test_an_address_that_comes_later_is_listened_at(node: Host, where: str) -> None:
    with scraped_at(where):
        assert not reaches(where)
        node.ip([f"address add {where} dev lo"])
        wait_until(lambda: reaches(where))


def test_the_next_daemon_listens_where_the_last_one_ended_a_connection(node: Host) -> None:
    """The kernel keeps the port for a minute from others than who says that it is the same's."""
    with scraped_at("127.0.0.1") as listening, socket.create_connection(("127.0.0.1", PORT), timeout=5) as client:
        listening.accept()[0].close()
        assert client.recv(1) == b""
    with scraped_at("127.0.0.1"):
        assert reaches("127.0.0.1")


def test_an_address_that_is_taken_is_told_of_and_no_error(node: Host, caplog: pytest.LogCaptureFixture) -> None:
    given = Scraped(ip_address("127.0.0.1"), PORT)
    with scraped_at("127.0.0.1"):
        assert listening_at(given) is None
    assert f"daemon.metrics: {given}: somebody else listens there" in caplog.text


@contextmanager
def scraped_at(where: str) -> Iterator[socket.socket]:
    listening = listening_at(Scraped(ip_address(where), PORT))
    assert listening is not None
    with listening:
        yield listening
