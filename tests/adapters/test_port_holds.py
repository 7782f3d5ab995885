"""Sockets that keep a host port from everybody else, and what becomes of who sends to it."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from cellwall.adapters.node.listeners import read_listeners, tabled_listeners
from cellwall.adapters.port_holds import PortHolds
from cellwall.lab import Lab

pytestmark = pytest.mark.root
PORT = 61234
KINDS = [(socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def holds(lab: Lab) -> Iterator[PortHolds]:
    with lab.node.enter():
        made = PortHolds()
        yield made
        made.close()


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "93.184.216.10", "::", "::1"])
def test_nobody_else_binds_a_port_that_is_held(holds: PortHolds, kind: int, name: str, address: str) -> None:
    assert holds.vacant(PORT)
    assert holds.hold(PORT)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError) as caught:
            other.bind((address, PORT))
        assert caught.value.errno == errno.EADDRINUSE
        holds.release(PORT)
        other.bind((address, PORT))
    assert holds.vacant(PORT)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_port_that_a_program_has_in_one_way_is_not_held_in_any(holds: PortHolds, kind: int, name: str) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", PORT))
        assert holds.hold(PORT) is None
        assert not holds.holds(PORT) and not holds.vacant(PORT)
    assert holds.hold(PORT)


def test_a_connection_to_a_held_port_is_refused_and_a_datagram_is_dropped(holds: PortHolds) -> None:
    holds.hold(PORT)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT), 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", PORT))
        for _ in range(100):
            client.send(bytes(1000))  # which an ICMP error would fail
    (seen,) = [one for one in read_listeners("udp", PORT) if one.port == PORT]
    with open("/proc/thread-self/net/udp6", encoding="ascii") as table:
        (row,) = [line.split() for line in table if f":{PORT:04X} " in line]
    assert int(row[4].partition(":")[2], 16) < 10000, "no more is kept than the kernel keeps at least"
    assert seen.both


def test_a_holding_socket_is_known_among_the_nodes_by_its_number(holds: PortHolds) -> None:
    inode = holds.hold(PORT)
    assert [one.inode for one in read_listeners("udp", PORT)] == [inode]
    assert [one.inode for one in tabled_listeners("udp") if one.port == PORT] == [inode]
    assert read_listeners("tcp", PORT) == (), "it does not listen"
    assert holds.hold(PORT) == inode, "a second time it is the same"


def test_who_comes_next_goes_on_with_the_sockets_that_were_kept(holds: PortHolds) -> None:
    kept: dict[int, list[int]] = {}
    holds.attend(lambda port, sockets: kept.update({port: [os.dup(fd) for fd in sockets]}), kept.__delitem__)
    inode = holds.hold(PORT)
    assert holds.lasting and {port: len(sockets) for port, sockets in kept.items()} == {PORT: 2}
    holds.close()
    after = PortHolds()
    assert not after.vacant(PORT), "a duplicate holds on"
    assert after.hold(PORT, kept.pop(PORT)) == inode
    after.close()
    assert after.vacant(PORT)
    holds.hold(PORT)
    for fd in kept[PORT]:
        os.close(fd)
    holds.release(PORT)
    assert kept == {} and holds.vacant(PORT)


def test_a_kept_descriptor_of_something_else_is_let_go(holds: PortHolds) -> None:
    reading, writing = os.pipe()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        assert holds.hold(PORT, [reading, other.detach()])
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_a_socket_that_comes_from_a_dead_process_listens_no_more_and_may_again(holds: PortHolds) -> None:
    """What it served may have been withdrawn as it died: clients would wait for somebody who never comes."""
    assert holds.hold(PORT)
    kept = [os.dup(one.fileno()) for one in holds._held[PORT].values()]
    listening = holds.own_socket(PORT)
    assert listening is not None
    with socket.socket(fileno=listening) as served:
        served.listen()
        socket.create_connection(("127.0.0.1", PORT), 5).close()
    holds.close()
    assert holds.hold(PORT, kept)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT), 5)
    again = holds.own_socket(PORT)
    assert again is not None
    with socket.socket(fileno=again) as served:
        served.listen()
        socket.create_connection(("127.0.0.1", PORT), 5).close()
    holds.release(PORT)
    assert holds.vacant(PORT)


def test_who_listens_by_a_held_port_takes_what_comes_as_fast_as_any(holds: PortHolds) -> None:
    """What is accepted has the buffer of the socket that listens, and one that was set never grows."""
    assert holds.hold(PORT)
    held = holds.own_socket(PORT)
    assert held is not None
    with socket.socket(fileno=held) as one, socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as usual:
        buffers = [each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for each in (one, usual)]
        assert buffers[0] == buffers[1]
