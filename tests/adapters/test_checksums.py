"""The filter of unfinished checksums on the bridge: put, recognised, put right, and gone with the bridge."""

import os

import pytest

from cellwall.adapters import process
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.netlink.nlattr import attribute_text, attribute_u32
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, Message
from cellwall.adapters.tc import checksums
from cellwall.adapters.tc.bpf import load_packet_filter
from cellwall.adapters.tc.traffic_control import BPF_FD, BPF_NAME, INGRESS, RTM_NEWTFILTER, classifier
from cellwall.lower.bpf.checksums import CONTINUE
from cellwall.lower.bpf.instructions import assemble, leave
from cellwall.model.network import Network

from .conftest import Namespace

pytestmark = pytest.mark.root

NETWORK = Network()
GONE = ("does not filter unfinished checksums",)
PASS_ALL = ["bpf", "da", "bytecode", "1,6 0 0 4294967295"]


@pytest.fixture
def bridge(links: LinkLayer) -> int:
    index = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert links.checksum_differences(index) == GONE
    assert links.ensure_checksum_filter(index) == ""
    return index


def shown(node: Namespace) -> str:
    return node.run(f"tc filter show dev {NETWORK.bridge} ingress pref 1")


def test_a_bridge_has_the_filter(links: LinkLayer, node: Namespace, bridge: int) -> None:
    assert links.checksum_differences(bridge) == ()
    assert "direct-action" in shown(node)


def test_putting_it_there_again_changes_nothing(links: LinkLayer, node: Namespace, bridge: int) -> None:
    before = shown(node)
    assert links.ensure_checksum_filter(bridge) == ""
    assert shown(node) == before


def test_another_program_in_its_place_is_not_it(links: LinkLayer, node: Namespace, bridge: int) -> None:
    where = f"dev {NETWORK.bridge} ingress pref 1 handle 1 protocol all"
    with node.entered():
        process.run(["tc", "filter", "replace", *where.split(), *PASS_ALL])
    assert links.checksum_differences(bridge) == GONE
    assert links.ensure_checksum_filter(bridge) == ""
    assert links.checksum_differences(bridge) == ()


@pytest.mark.parametrize("named", ["theirs", "ours"])
def test_a_program_of_somebody_elses_is_not_it_whatever_its_name(
    links: LinkLayer, node: Namespace, bridge: int, named: str
) -> None:
    """Its digest is the kernel's, not the name's to say."""
    (ours,) = checksums._read(links._route, bridge)
    node.run(f"tc filter del dev {NETWORK.bridge} ingress pref 1")
    program = load_packet_filter(assemble(leave(CONTINUE)), name="passes_all", license="GPL")
    try:
        name = ours.name if named == "ours" else checksums._name(program.tag).replace("cellwall", "theirs")
        links._route.transact([checksums._filter(bridge, program.fd, name)], "put a filter there")
    finally:
        os.close(program.fd)
    assert "name passes_all" in shown(node) and name in shown(node)
    assert links.checksum_differences(bridge) == GONE
    assert links.ensure_checksum_filter(bridge) == ""
    assert links.checksum_differences(bridge) == ()
    assert shown(node).count("direct-action") == 1


def test_in_another_place_it_is_not_it(links: LinkLayer, node: Namespace, bridge: int) -> None:
    """Whatever stands before it there may have the last word."""
    node.run(f"tc filter del dev {NETWORK.bridge} ingress pref 1")
    fd, name = checksums._load()
    try:
        body = classifier(bridge, INGRESS, 3, attribute_u32(BPF_FD, fd), attribute_text(BPF_NAME, name))
        links._route.transact([Message(RTM_NEWTFILTER, NLM_F_CREATE, body, "filter")], "put the filter elsewhere")
    finally:
        os.close(fd)
    assert links.checksum_differences(bridge) == GONE
    assert links.ensure_checksum_filter(bridge) == ""
    assert links.checksum_differences(bridge) == ()


def test_without_the_discipline_it_stands_on_it_is_gone(links: LinkLayer, node: Namespace, bridge: int) -> None:
    node.run(f"tc qdisc del dev {NETWORK.bridge} clsact")
    assert links.checksum_differences(bridge) == GONE
    assert links.ensure_checksum_filter(bridge) == ""
    assert links.checksum_differences(bridge) == ()


def test_it_leaves_the_latch_where_it_is(links: LinkLayer, bridge: int) -> None:
    assert links.ensure_latch(bridge, 0x1000)
    assert links.ensure_checksum_filter(bridge) == ""
    assert links.latch_differences(bridge, 0x1000) == ()
    assert links.checksum_differences(bridge) == ()
