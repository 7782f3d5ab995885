"""Flows are removed by their mark, and only those."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from cellwall.adapters import process
from cellwall.adapters.nftables.tables import NftRules
from cellwall.engine.contracts import PortFlows
from cellwall.errors import InvalidSpec
from cellwall.model.versions import BLOCK, every_version

from .conftest import Namespace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(process.find_program("conntrack") is None, reason="the conntrack program is the witness"),
]

PORTS = (1001, 1002, 1003)
STAMP = (0x30000, 0xFFFF0000)
"""What the marks of all of them begin with, and of no other."""


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    """One flow of each family to each port, marked with a version of the block of the port's number, and an unmarked
    one."""
    lines = "\n".join(f"  udp dport {port} ct mark set {port * BLOCK + port % BLOCK}" for port in PORTS)
    with NftRules() as rules:
        rules.load(f"table inet x {{\n chain o {{\n  type filter hook output priority 0\n{lines}\n }}\n}}\n")
        node.run("ip link set lo up")
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in (*PORTS, 53):
                with node.socket(family, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"flow", (address, port))
        yield rules


def _marks(node: Namespace) -> list[int]:
    listed = node.run("conntrack -L -f ipv4") + node.run("conntrack -L -f ipv6")
    marks = [int(word.removeprefix("mark=")) for word in listed.split() if word.startswith("mark=")]
    return sorted(mark // BLOCK for mark in marks)


def versions(*blocks: int) -> list[int]:
    """A version of each, whichever."""
    return [block * BLOCK + block % 7 for block in blocks]


def test_only_flows_of_the_named_blocks_go(rules: NftRules, node: Namespace) -> None:
    assert _marks(node) == [0, 0, 1001, 1001, 1002, 1002, 1003, 1003]
    rules.purge_flows(versions(1001, 1003))
    assert _marks(node) == [0, 0, 1002, 1002]


def test_blocks_that_lie_together_take_no_flow_beside_them(rules: NftRules, node: Namespace) -> None:
    rules.purge_flows(versions(*range(900, 1003)))
    assert _marks(node) == [0, 0, 1003, 1003]
    rules.purge_flows(versions(*range(1, 1003), *range(1004, 2000)))
    assert _marks(node) == [0, 0, 1003, 1003]


def test_absent_blocks_are_no_error(rules: NftRules, node: Namespace) -> None:
    rules.purge_flows(versions(4711))
    rules.purge_flows([])
    assert len(_marks(node)) == 8


@pytest.mark.parametrize("version", [0, 255, -1, 1 << 32])
def test_a_mark_that_cannot_be_ours_is_refused(rules: NftRules, node: Namespace, version: int) -> None:
    with pytest.raises(InvalidSpec):
        rules.purge_flows([*versions(1001), version])
    assert len(_marks(node)) == 8


LOOPBACKS = frozenset({ip_address("127.0.0.1"), ip_address("::1")})


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        ([PortFlows("udp", 1001, 1001, LOOPBACKS)], [0, 0, 1002, 1002, 1003, 1003]),
        ([PortFlows("udp", 1001, 1002, LOOPBACKS)], [0, 0, 1003, 1003]),
        ([PortFlows("udp", 1, 65535, LOOPBACKS)], []),
        ([PortFlows("udp", port, port, LOOPBACKS) for port in (53, 1003)], [1001, 1001, 1002, 1002]),
        ([PortFlows("udp", 1001, 1003, frozenset({ip_address("::1")}))], [0, 0, 1001, 1002, 1003]),
        ([PortFlows("udp", 1001, 1003, LOOPBACKS, frozenset({ip_address("127.0.0.1")}))], [0, 0, 1001, 1002, 1003]),
        ([PortFlows("tcp", 1, 65535, LOOPBACKS)], [0, 0, *sorted((*PORTS, *PORTS))]),
        ([PortFlows("udp", 1, 65535, frozenset({ip_address("192.0.2.1")}))], [0, 0, *sorted((*PORTS, *PORTS))]),
        ([], [0, 0, *sorted((*PORTS, *PORTS))]),
    ],
)
def test_flows_to_ports_end_and_no_others(
    rules: NftRules, node: Namespace, ended: list[PortFlows], left: list[int]
) -> None:
    rules.end_flows(ended)
    assert _marks(node) == left


@pytest.mark.parametrize(
    ("networks", "keep", "left"),
    [
        (("127.0.0.0/8", "::1/128"), (), [0, 0]),
        (("127.0.0.0/8",), (), [0, 0, 1001, 1002, 1003]),
        (("127.0.0.0/8", "::/64"), (1002,), [0, 0, 1002, 1002]),
        (("10.0.0.0/8", "fd00::/8"), (), [0, 0, 1001, 1001, 1002, 1002, 1003, 1003]),
        ((), (), [0, 0, 1001, 1001, 1002, 1002, 1003, 1003]),
    ],
)
def test_stamped_flows_of_a_network_go_but_for_those_of_known_blocks(
    rules: NftRules, node: Namespace, networks: tuple[str, ...], keep: tuple[int, ...], left: list[int]
) -> None:
    rules.end_stamped_flows(STAMP, [ip_network(one) for one in networks], frozenset(one * BLOCK for one in keep))
    assert _marks(node) == left


def test_marks_that_are_no_versions_stay(rules: NftRules, node: Namespace) -> None:
    before = _marks(node)
    rules.end_stamped_flows(every_version(1 << 12), [ip_network("127.0.0.0/8"), ip_network("::/0")], ())
    assert _marks(node) == before
