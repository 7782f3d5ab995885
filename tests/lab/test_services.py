"""Echo servers: what they answer, what they remember, what they refuse."""

import socket
import threading

import pytest

from cellwall.errors import LabError
from cellwall.lab import Lab, connect
from cellwall.lab import addresses as at

pytestmark = pytest.mark.root


def test_seen_payload_knows_both_ends(lab: Lab) -> None:
    with lab.internet.serve(udp=[700], tcp=[700]) as services:
        for udp in (False, True):
            assert connect(lab.node, "8.8.8.8", 700, udp=udp, payload=b"ends", source=(at.NODE4, 40000))
        assert [(seen, seen.transport) for seen in services.seen] == [(b"ends", "tcp"), (b"ends", "udp")]
        assert {(seen.peer, seen.local) for seen in services.seen} == {((at.NODE4, 40000), ("8.8.8.8", 700))}


@pytest.mark.parametrize("address", ["10.0.0.5", "fd00:ec2::254"])
def test_udp_answer_leaves_from_the_address_that_was_asked(lab: Lab, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.internet.serve(udp=[701]), lab.node.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(b"x", (address, 701))
        assert sock.recvfrom(100)[1][:2] == (address, 701)


def test_broadcast_is_answered_from_a_unicast_address(lab: Lab) -> None:
    with lab.node.serve(udp=[702]) as services, lab.lan.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.settimeout(10)
        sock.sendto(b"all", ("93.184.216.255", 702))
        assert sock.recvfrom(100)[1] == (at.NODE4, 702)
        assert services.seen[0].local == ("93.184.216.255", 702)


def test_link_local_address_is_served(lab: Lab) -> None:
    target = next(address for address in lab.node.addresses("eth0") if address.startswith("fe80"))
    with lab.node.serve(tcp=[703], udp=[703]):
        for udp in (False, True):
            assert connect(lab.lan, f"{target}%eth0", 703, udp=udp).data == b"node hello"


def test_address_given_later_is_served(lab: Lab) -> None:
    with lab.lan.serve(tcp=[704], udp=[704]):
        lab.lan.run(["ip", "address", "add", "93.184.216.77/32", "dev", "lo"])
        for udp in (False, True):
            assert connect(lab.node, "93.184.216.77", 704, udp=udp).data == b"lan hello"
        lab.lan.run(["ip", "address", "del", "93.184.216.77/32", "dev", "lo"])


def test_saw_is_sure_without_waiting(lab: Lab) -> None:
    """A datagram is in the receiver's buffer when send returns, so `saw` must never answer too early."""
    with lab.node.serve(udp=[705]) as services, lab.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(300):
            token = b"<%d>" % number
            sock.sendto(token, ("127.0.0.1", 705))
            assert services.saw(token)
        assert not services.saw(b"<300>")
        assert len(services.seen) == 300


def test_connection_without_data_is_remembered(lab: Lab) -> None:
    with lab.node.serve(tcp=[706]) as services, lab.lan.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect((at.NODE4, 706))
        assert services.accepted == [(sock.getsockname(), (at.NODE4, 706))]
        assert services.seen == []


def test_large_transfer_is_echoed_whole(lab: Lab) -> None:
    size = 4 << 20
    with lab.node.serve(tcp=[707]) as services, lab.lan.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect((at.NODE6, 707))
        sender = threading.Thread(target=sock.sendall, args=(b"\0" * size,))
        sender.start()
        got = 0
        while got < size:
            data = sock.recv(1 << 20)
            assert data
            got += data.count(0)
        sender.join()
        assert sum(len(seen) for seen in services.seen) < 1 << 18


def test_two_clients_do_not_mix(lab: Lab) -> None:
    with lab.node.serve(tcp=[708]):
        one, two = (lab.lan.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(2))
        with one, two:
            for sock in (one, two):
                sock.settimeout(10)
                sock.connect((at.NODE4, 708))
            two.sendall(b"two")
            one.sendall(b"one")
            assert (one.recv(100), two.recv(100)) == (b"node one", b"node two")


def test_closed_port_refuses_again(lab: Lab) -> None:
    services = lab.node.serve(tcp=[709], udp=[709])
    assert connect(lab.lan, at.NODE4, 709)
    services.close()
    services.close()
    for udp in (False, True):
        assert connect(lab.lan, at.NODE4, 709, udp=udp).kind == "refused"
    assert services.saw(b"hello")
    lab.node.serve(tcp=[709]).close()


def test_port_is_served_once(lab: Lab) -> None:
    with lab.node.serve(tcp=[710]):
        with pytest.raises(LabError, match="710"):
            lab.node.serve(tcp=[710])
        lab.node.serve(udp=[710]).close()
        lab.lan.serve(tcp=[710]).close()


def test_port_taken_by_another_program_is_an_error(lab: Lab) -> None:
    with lab.node.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("", 711))
        sock.listen()
        with pytest.raises(LabError, match="711"):
            lab.node.serve(udp=[711], tcp=[711])
    lab.node.serve(udp=[711], tcp=[711]).close()


def test_reset_connection_does_not_stop_the_server(lab: Lab) -> None:
    with lab.node.serve(tcp=[712]):
        for _ in range(20):
            with lab.lan.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                # Linger 0 makes close send a reset.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.connect((at.NODE4, 712))
                sock.send(b"x")
        assert connect(lab.lan, at.NODE4, 712)


def test_wait_for_gives_up(lab: Lab) -> None:
    with lab.node.serve(udp=[713]) as services:
        assert not services.wait_for(b"never", timeout=0.05)
        later = threading.Timer(0.05, connect, (lab.lan, at.NODE4, 713), {"udp": True, "payload": b"late"})
        later.start()
        assert services.wait_for(b"late")
        later.join()  # before the service and the lab go
