"""What the kernel tells of logged packets, and what it says when it could not."""

import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cellwall.adapters.events.nflog import Logged, PacketLog, refusal
from cellwall.errors import Conflict, KernelError
from cellwall.model.addresses import PROTOCOL_NUMBERS

from .conftest import Namespace

pytestmark = pytest.mark.root
GROUP = 4711
RULES = """table inet told {
    chain output {
        type filter hook output priority 0;
        udp dport 9 meta mark set 0x1234 log prefix "FWD deny out: the floor" group 4711 snaplen 64 drop
    }
    chain input {
        type filter hook input priority 0;
        udp dport 10 log prefix "IN" group 4711
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


def test_a_packet_that_came_in_is_told_with_its_interface_and_its_time(log: PacketLog, logging_node: Namespace) -> None:
    with logging_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        before = time.time()
        sender.sendto(b"", ("127.0.0.1", 10))
        after = time.time()
    wait(log)
    (packet,) = log.read().packets
    assert (packet.prefix, packet.hook, packet.indev, packet.outdev) == ("IN", 1, 1, 0)
    assert before - 1e-5 <= packet.time <= after + 1e-5


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
        assert len(heard.packets) < 300, "it ends with the datagram that makes it 100"
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


def test_numbers_of_packets_that_begin_anew_are_no_loss(log: PacketLog, logging_node: Namespace) -> None:
    """They have 32 bits."""
    log._next = (1 << 32) - 3  # as after so many packets; the kernel begins with 0
    send(logging_node, b"one", times=2)
    wait(log)
    heard = log.read()
    assert ([packet.sequence for packet in heard.packets], heard.lost) == ([0, 1], 3)


@pytest.mark.timeout(60)
def test_what_is_closed_is_not_read_over_and_over(logging_node: Namespace) -> None:
    log = PacketLog(GROUP)
    log.close()
    with pytest.raises(KernelError, match="read logged packets"):
        log.read()


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
    PacketLog(GROUP + 1).close()


@pytest.mark.parametrize("queue", [0, 1 << 16])
def test_who_may_not_listen_is_told_so_and_not_that_another_does(logging_node: Namespace, queue: int) -> None:
    code = f"from cellwall.adapters.events.nflog import PacketLog\nPacketLog({GROUP}, queue={queue})"
    argv = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", code]
    with PacketLog(GROUP + 1):
        said = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=False).stderr
    assert "NoPrivilege: to listen to logged packets needs CAP_NET_ADMIN" in said
