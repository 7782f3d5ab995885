"""What the kernel tells of addresses and routes, and what of it can matter."""

from collections.abc import Iterator

import pytest

from cellwall.adapters.news.node_news import News

from .conftest import Namespace

pytestmark = pytest.mark.root
USED = 77  # by index: the interface that has addresses and routes


@pytest.fixture(params=["all", "some"])
def news(node: Namespace, request: pytest.FixtureRequest) -> Iterator[News]:
    """Told of everything, and by a filter in the kernel of what can matter."""
    node.run(f"ip link add eth0 index {USED} up type bridge")
    with News() as news:
        assert not news.nothing_about({USED})  # nobody has listened
        news.hear_all()
        assert news.nothing_about({USED})
        if request.param == "some":
            news.hear_of({USED - 1, USED, USED + 1})
        yield news


def test_a_port_that_comes_and_goes_is_no_news(news: News, node: Namespace) -> None:
    """As an attach and a detach leave it: without addresses, on a bridge that has some."""
    for command in (
        "ip link add b9_br0 type bridge",
        "ip link add b9h1 master b9_br0 type veth peer name inner",
        "bridge link set dev b9h1 isolated on learning off",
        "ip link set b9h1 addrgenmode none",
        "ip link set b9h1 up",
        "ip link set inner addrgenmode none",
        "ip link set inner up",
        "ip link set b9h1 down group 99",
        "ip link del b9h1",
    ):
        node.run(command)
        assert news.nothing_about({USED}), command


@pytest.mark.parametrize(
    "command",
    [
        "ip address add 10.1.1.1/24 dev eth0",
        "ip -6 address add fd00::1/64 dev eth0 nodad",
        "ip route add 10.8.0.0/24 dev eth0",
        "ip -6 route add fd00:8::/48 dev eth0",
        "ip link set eth0 down",
        "ip link del eth0",
        "ip nexthop add id 7 dev eth0",
        "ip rule add from all lookup 99",
        "ip -6 rule add from all lookup 99",
        "sysctl -qw net.ipv4.conf.all.ignore_routes_with_linkdown=1",
        "sysctl -qw net.ipv6.conf.eth0.ignore_routes_with_linkdown=1",
    ],
)
def test_news_are_told_once(news: News, node: Namespace, command: str) -> None:
    node.run(command)
    assert not news.nothing_about({USED})
    assert news.nothing_about({USED})


@pytest.mark.parametrize("table", [99, 1000])
def test_routes_of_a_table_are_news_for_who_asks_for_it(news: News, node: Namespace, table: int) -> None:
    node.run(f"ip route add 10.8.0.0/24 dev eth0 table {table}")
    assert news.nothing_about({USED})
    node.run(f"ip route del 10.8.0.0/24 dev eth0 table {table}")
    assert not news.nothing_about({USED}, {254, table})


@pytest.mark.parametrize("most", [1, 200, 201])
def test_links_of_others_fill_no_queue(news: News, node: Namespace, most: int) -> None:
    node.run("ip address flush dev eth0")  # duplicate address detection would end amid this
    for command in ("link add other type bridge", "link set other addrgenmode none", "link set other up"):
        node.run(f"ip {command}")
    news.nothing_about({USED})
    heard = range(1000, 1000 + most)
    news.hear_of(heard)
    node.run("ip -batch -", input=b"link set other alias a\nlink set other alias b\n" * 2000)
    assert news.nothing_about(heard) == (most <= 200)
    news.hear_of({USED})
    node.run("ip link set eth0 down")
    assert not news.nothing_about({USED})
    news.hear_all()
    node.run("ip link set other alias c")
    assert not news.nothing_about(range(1000))


def test_a_queue_that_overflowed_is_news(news: News, node: Namespace) -> None:
    news.hear_all()
    node.run("ip link add other type bridge")
    toggles = b"link set other up\nlink set other down\n" * 2000
    node.run("ip -batch -", input=toggles)
    assert not news.nothing_about({USED})
    assert news.nothing_about({USED})
