"""Who reaches whom in a lab that nobody has touched yet, in packets."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6  # noqa: F401  (Ether knows it once it is imported)
from scapy.layers.l2 import Ether

from cellwall.errors import LabError
from cellwall.lab import Lab, Services, connect, ping
from cellwall.lab import addresses as at

pytestmark = pytest.mark.root

PORT = 8080


@pytest.fixture(scope="module")
def services(lab: Lab) -> Iterator[dict[str, Services]]:
    hosts = (lab.node, lab.lan, lab.internet, lab.infra, lab.other)
    served = {host.name: host.serve(tcp=[PORT], udp=[PORT]) for host in hosts}
    yield served
    for service in served.values():
        service.close()


REACHABLE = [
    ("lan", at.NODE4, "node"),
    ("lan", at.NODE6, "node"),
    ("lan", at.INTERNET4, "internet"),
    ("lan", "1.1.1.1", "internet"),
    ("lan", "2a04:4e42::1", "internet"),
    ("internet", at.NODE4, "node"),
    ("internet", at.LAN6, "lan"),
    ("node", at.LAN4, "lan"),
    ("node", at.LAN6, "lan"),
    ("node", at.INFRA4, "infra"),
    ("node", at.INFRA6, "infra"),
    ("node", at.OTHER4, "other"),
    ("node", at.OTHER6, "other"),
    ("node", "127.0.0.1", "node"),
    ("node", "::1", "node"),
    ("infra", at.NODE_INFRA4, "node"),
    ("infra", at.NODE4, "node"),
    ("infra", at.NODE6, "node"),
    ("other", at.NODE_OTHER4, "node"),
    ("other", at.NODE_OTHER6, "node"),
]


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize(("source", "address", "answering"), REACHABLE)
def test_neighbours_and_the_internet_answer(
    lab: Lab, services: dict[str, Services], source: str, address: str, answering: str, udp: bool
) -> None:
    answer = connect(getattr(lab, source), address, PORT, udp=udp, payload=b"knock")
    assert (answer.kind, answer.data) == ("answer", f"{answering} knock".encode())


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("address", [*at.INTERNET_LO4, *at.INTERNET_LO6])
def test_internet_owns_an_address_of_every_special_range(
    lab: Lab, services: dict[str, Services], address: str, udp: bool
) -> None:
    token = f"to-{address}".encode()
    assert connect(lab.node, address, PORT, udp=udp, payload=token).data == b"internet " + token
    assert services["internet"].saw(token)
    assert ping(lab.node, address)


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("lan", at.INFRA4),
        ("lan", at.OTHER4),
        ("infra", "1.1.1.1"),
        ("infra", at.OTHER4),
        ("other", at.LAN4),
        ("other", "2606:4700:4700::1111"),
        ("infra", at.OTHER6),
    ],
)
def test_node_does_not_forward_by_itself(lab: Lab, services: dict[str, Services], source: str, address: str) -> None:
    token = f"through-{source}-{address}".encode()
    assert connect(getattr(lab, source), address, PORT, udp=True, payload=token, timeout=0.2).kind != "answer"
    assert not any(service.saw(token) for service in services.values())


@pytest.mark.parametrize(("address", "target"), [("192.168.0.7", "1.1.1.1"), ("fd00:abcd::7", "2a04:4e42::1")])
def test_private_source_reaches_the_internet_and_gets_no_answer(
    lab: Lab, services: dict[str, Services], address: str, target: str
) -> None:
    length = 128 if ":" in address else 32
    # without nodad nobody can bind to it before a worker of the kernel's has come to it (net/ipv6/addrconf.c)
    lab.node.run(["ip", "address", "add", f"{address}/{length}", "dev", "lo", *(["nodad"] if length == 128 else [])])
    token = f"private-{address}".encode()
    with lab.internet.capture("eth0") as capture:
        answer = connect(lab.node, target, PORT, udp=True, payload=token, source=address, timeout=0.2)
        assert answer.kind == "timeout"
        frame = capture.read_until(token)[-1]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert socket.inet_pton(family, address) in frame
    assert services["internet"].saw(token)
    lab.node.run(["ip", "address", "del", f"{address}/{length}", "dev", "lo"])


def test_node_is_an_ordinary_host(lab: Lab) -> None:
    def setting(name: str) -> str:
        with lab.node.enter():
            return Path("/proc/sys/net", name).read_text().strip()

    assert setting("ipv4/ip_forward") == "0"
    assert setting("ipv6/conf/all/forwarding") == "0"
    assert setting("ipv6/conf/default/accept_dad") == "1"
    assert setting("ipv6/conf/default/accept_ra") == "1"
    assert setting("ipv4/conf/default/rp_filter") == "0"
    assert lab.node.addresses("br-other")[:2] == [at.NODE_OTHER4, at.NODE_OTHER6]


def test_sandbox_is_empty(lab: Lab) -> None:
    sandbox = lab.sandbox("empty")
    assert sandbox.netns == Path(f"/run/netns/{lab.prefix}-empty")
    with sandbox.enter():
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
    assert connect(sandbox, "127.0.0.1", PORT).kind == "unreachable"


def test_sandbox_names_are_checked(lab: Lab) -> None:
    lab.sandbox("once")
    for bad in ("once", "node", "", "UPPER", "a b", "../x", "-x", "a\nb"):
        with pytest.raises(LabError):
            lab.sandbox(bad)


def test_deleted_sandbox_leaves_its_name_free(lab: Lab) -> None:
    gone = lab.sandbox("again")
    lab.delete_sandbox(gone)
    assert not gone.netns.exists()
    assert lab.sandbox("again").netns.exists()
    with pytest.raises(LabError):
        lab.delete_sandbox(lab.node)


def test_lab_without_ipv6_has_none() -> None:
    with Lab(ipv6=False) as plain:
        plain.internet.serve(tcp=[PORT])
        assert connect(plain.node, "1.1.1.1", PORT)
        assert not [address for address in plain.node.addresses("eth0") if ":" in address]
        assert connect(plain.node, "2606:4700:4700::1111", PORT, timeout=0.2).kind == "unreachable"
        # A link that is made later has none either.
        plain.node.run(["ip", "link", "add", "br-late", "up", "type", "bridge"])
        assert plain.node.addresses("br-late") == []


@pytest.mark.parametrize(("offload", "finished"), [(False, True), (True, False)], ids=["as a card", "as a veth"])
def test_what_leaves_the_node_has_the_checksums_that_a_card_writes(offload: bool, finished: bool) -> None:
    with Lab(offload=offload) as lab:
        for host, target in ((lab.lan, at.LAN4), (lab.lan, at.LAN6), (lab.infra, at.INFRA4), (lab.infra, at.INFRA6)):
            with host.capture("eth0", outgoing=False) as wire:
                connect(lab.node, target, PORT, udp=True, payload=b"<counted>")
                sent = next(frame for frame in wire.drain() if b"<counted>" in frame)
            udp = Ether(sent)[UDP]
            written = udp.chksum
            del udp.chksum
            assert (Ether(bytes(udp.underlayer.underlayer))[UDP].chksum == written) is finished, target
