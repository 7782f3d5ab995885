"""What the kernel tells of logged packets, and what it says when it could not."""

import select
import socket
import time
from collections.abc import Iterator

import pytest

from cellwall.adapters.events.nflog import Logged, PacketLog, refusal
from cellwall.errors import Conflict
from cellwall.model.addresses import PROTOCOL_NUMBERS

from .conftest import Namespace

pytestmark = pytest.mark.root
GROUP = 4711
RULES = """table inet told {
    chain output {
        type filter hook output priority 0;
        udp dport 9 meta mark set 0x1234 log prefix "FWD deny out: the floor" group 4711 snaplen 64 drop
    }
}"""


@pytest.fixture
def logging_node(node: Namespace) -> Namespace:
    node.run("ip link set lo up")
    node.run("nft -f -", input=RULES.encode())
    return node


@pytest.fixture
def log(logging_node: Namespace) -> Iterator[PacketLog]:
    with PacketLog(GROUP) as log:
        yield log


def send(node: Namespace, data: bytes, *, to: str = "127.0.0.1", times: int = 1) -> None:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with node.socket(family, socket.SOCK_DGRAM) as sender:
        for _ in range(times):
            with pytest.raises(PermissionError):  # by the drop
                sender.sendto(data, (to, 9))


def wait(log: PacketLog) -> None:
    """Until the kernel has handed over what it gathers."""
    assert select.select([log], [], [], 10)[0], "nothing was logged"


@pytest.mark.parametrize(("to", "family", "ethertype"), [("127.0.0.1", 2, 0x0800), ("::1", 10, 0x86DD)])
def test_a_packet_is_told_as_the_rule_logged_it(
    log: PacketLog, logging_node: Namespace, to: str, family: int, ethertype: int
) -> None:
    before = time.time()
    send(logging_node, b"x" * 100, to=to)
    wait(log)
    (packet,) = log.read().packets
    assert packet.prefix == "FWD deny out: the floor"
    assert (packet.family, packet.protocol, packet.hook) == (family, ethertype, 3)
    assert (packet.indev, packet.outdev) == (0, 1)
    assert packet.mark == 0x1234
    assert len(packet.payload) == 64
    assert packet.payload[9 if family == 2 else 6] == PROTOCOL_NUMBERS["udp"]
    assert packet.time == 0.0 or abs(packet.time - before) < 60


def test_nothing_is_read_where_nothing_was_logged(log: PacketLog) -> None:
    heard = log.read()
    assert (heard.packets, heard.lost, heard.overrun) == ((), 0, False)


def test_packets_come_in_order_and_none_is_missed(log: PacketLog, logging_node: Namespace) -> None:
    send(logging_node, b"one of many", times=1000)
    packets: list[Logged] = []
    while len(packets) < 1000:
        wait(log)
        heard = log.read(most=100)
        assert (heard.lost, heard.overrun) == (0, False)
        packets += heard.packets
    assert [packet.sequence for packet in packets] == list(range(1000))


def test_what_did_not_fit_into_the_queue_is_counted(logging_node: Namespace) -> None:
    with PacketLog(GROUP, queue=1 << 16) as log:
        send(logging_node, b"too many to wait", times=5000)
        wait(log)
        first = log.read()
        assert first.overrun
        send(logging_node, b"after them")
        heard = [first]
        while not any(packet.payload.endswith(b"after them") for packet in heard[-1].packets):
            wait(log)
            heard.append(log.read())
        read = sum(len(one.packets) for one in heard)
        lost = sum(one.lost for one in heard)
        assert lost > 0
        assert read + lost == 5001
        assert log.read().lost == 0


def test_a_reader_that_comes_back_hears_of_what_is_logged_from_then_on(logging_node: Namespace) -> None:
    for data in (b"first", b"second"):
        with PacketLog(GROUP) as log:
            send(logging_node, data)
            wait(log)
            heard = log.read()
            assert [packet.payload[28:] for packet in heard.packets] == [data]
            assert heard.lost == 0
        send(logging_node, b"nobody listens")


def test_a_group_has_one_listener(log: PacketLog) -> None:
    with pytest.raises(Conflict, match="another program"):
        PacketLog(GROUP)
    assert "another program" in refusal(GROUP)
    assert refusal(GROUP + 1) == ""
