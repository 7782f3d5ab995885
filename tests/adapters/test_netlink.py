"""The wire format, and what importing the hot path may cost."""

import errno
import sys
from socket import AF_INET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwall.adapters import process
from cellwall.adapters.netlink.nlattr import (
    attribute,
    attribute_of,
    attribute_text,
    attribute_u8,
    attribute_u16,
    attribute_u32,
    attributes,
    each_attribute,
    nested,
    text_of,
    u32_of,
)
from cellwall.adapters.netlink.rtnetlink import (
    RTM_GETLINK,
    get_link,
    get_links,
    get_routes,
    link_header,
    open_route_socket,
    read_link,
)
from cellwall.adapters.netlink.sockets import Message
from cellwall.adapters.node.routes import default_interface, read_routes
from cellwall.errors import KernelError

from .conftest import Namespace

_KINDS = st.integers(1, 0x3FFF)


@given(st.lists(st.tuples(_KINDS, st.binary(max_size=70))))
def test_attributes_read_back(pairs: list[tuple[int, bytes]]) -> None:
    body = b"".join(attribute(kind, value) for kind, value in pairs)
    assert len(body) % 4 == 0
    assert list(each_attribute(body)) == pairs
    assert attributes(body) == dict(pairs)
    for kind, _ in pairs:
        assert attribute_of(body, kind, 0) == next(value for other, value in pairs if other == kind)


@given(st.binary(max_size=200), st.integers(0, 10))
def test_no_bytes_of_a_foreign_sender_break_the_reading(body: bytes, offset: int) -> None:
    assert attributes(body, offset) == dict(each_attribute(body, offset))


def test_sized_attributes_are_padded_to_four() -> None:
    body = nested(1, attribute_u8(2, 3), attribute_u16(4, 5), attribute_u32(6, 7), attribute_text(8, "ab"))
    (inner,) = attributes(body).values()
    found = attributes(inner)
    assert (found[2], found[4], u32_of(found[6]), text_of(found[8])) == (b"\3", b"\5\0", 7, "ab")


@pytest.mark.root
def test_refusal_carries_errno_and_the_kernels_words(node: Namespace) -> None:
    with open_route_socket() as route, pytest.raises(KernelError) as caught:
        route.transact([Message(RTM_GETLINK, 0, b"\0" * 8, "a short one")], "ask")
    assert caught.value.errno == errno.EINVAL
    assert "ask: a short one" in str(caught.value)
    assert caught.value.detail


@pytest.mark.root
def test_the_first_refusal_of_a_batch_is_raised_and_the_socket_stays_usable(node: Namespace) -> None:
    with open_route_socket() as route:
        for _ in range(3):
            with pytest.raises(KernelError, match="read link second"):
                route.transact([get_link("lo"), get_link("second"), get_link("lo"), get_link("fourth")], "read")
            assert read_link(route.transact([get_link("lo")], "read")[0]).name == "lo"


@pytest.mark.root
def test_tolerated_refusal_is_success(node: Namespace) -> None:
    absent = Message(RTM_GETLINK, 0, link_header(4711), "absent", (errno.ENODEV,))
    with open_route_socket() as route:
        assert len(route.transact([absent, get_link("lo")], "read")) == 1
        assert route.transact([absent], "read") == []


@pytest.mark.root
def test_a_dump_of_many_datagrams_is_whole(node: Namespace) -> None:
    with open_route_socket() as route:
        batch = "".join(f"link add br{number} type bridge\n" for number in range(120))
        node.run("ip -batch -", input=batch.encode())
        names = {read_link(reply).name for reply in route.dump(get_links(), "links")}
    assert names == {"lo", *(f"br{number}" for number in range(120))}


@pytest.mark.root
def test_of_a_dump_that_somebody_else_fills_only_the_beginning_is_read(node: Namespace) -> None:
    node.run("ip link set lo up")
    node.run("ip route add default dev lo")
    routes = "".join(f"route add 10.0.{n >> 8}.{n & 255} dev lo\n" for n in range(5000))
    node.run("ip -batch -", input=routes.encode())
    with open_route_socket() as route:
        found = route.beginning(get_routes(AF_INET), "read routes", 100)
    assert 100 <= len(found) < 2000
    assert default_interface(read_routes(found, (AF_INET,))) == 1
    with open_route_socket() as route:
        assert len(route.beginning(get_routes(AF_INET), "read routes", 1 << 20)) == 5001


def test_the_hot_path_imports_nothing_heavy() -> None:
    heavy = ["asyncio", "email", "json", "logging", "subprocess", "tempfile", "cellwall.adapters.process"]
    program = (
        "import sys, cellwall.adapters.interfaces.links, cellwall.adapters.nftables.tables\n"
        "import cellwall.adapters.node.facts\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    assert process.run([sys.executable, "-c", program]).text.strip() == "[]"
