"""Each finding on a real node: there while the fault is, and not before and not after."""

import socket
from collections.abc import Iterator

import pytest
from nodecommand import Command

from cellwall.adapters.events.nflog import PacketLog
from cellwall.doctor import Finding, diagnose, observe
from cellwall.model.settings import Settings
from world import World, about_nftables, open_world

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    with open_world() as world:
        world.attach("tenant")
        yield world


def findings(settings: Settings | None = None) -> list[Finding]:
    """What matters about the node that the thread is on."""
    chosen = settings or Settings()
    return [finding for finding in diagnose(observe(chosen), chosen) if finding.severity != "note"]


FAULTS = {
    "a chain that drops by default": (
        "nft add table ip other; nft 'add chain ip other f { type filter hook forward priority 10; policy drop; }'",
        "nft delete table ip other",
        "other rules",
        "`ip other f` drops by default",
    ),
    "a rule against our subnet": (
        "iptables-nft -I FORWARD -d 192.168.0.0/20 -j DROP",
        "iptables-nft -D FORWARD -d 192.168.0.0/20 -j DROP",
        "other rules",
        "drops traffic of sandboxes",
    ),
    "packets out of tracking": (
        "ip6tables-nft -t raw -A PREROUTING -j NOTRACK",
        "ip6tables-nft -t raw -D PREROUTING -j NOTRACK",
        "other rules",
        "out of connection tracking",
    ),
    "packets diverted before the guard": (
        "nft 'table netdev other { chain i { type filter hook ingress device eth0 priority 0; fwd to \"lo\"; }; }'",
        "nft delete table netdev other",
        "other rules",
        "before the wall",
    ),
    "conntrack marks": (
        "iptables-nft -t mangle -A FORWARD -j CONNMARK --set-mark 7",
        "iptables-nft -t mangle -D FORWARD -j CONNMARK --set-mark 7",
        "other rules",
        "writes conntrack marks",
    ),
    "our bit of the packet mark": (
        "iptables-nft -t mangle -A PREROUTING -j MARK --or-mark 0x1000",
        "iptables-nft -t mangle -D PREROUTING -j MARK --or-mark 0x1000",
        "node.mark",
        "writes bit 0x1000",
    ),
    "our bit in a routing rule": (
        "ip rule add fwmark 0x1000/0x1000 lookup 77",
        "ip rule del fwmark 0x1000/0x1000 lookup 77",
        "node.mark",
        "routing rule",
    ),
    "iptables-legacy that drops": (
        "iptables-legacy --wait 10 -P FORWARD DROP",
        "iptables-legacy --wait 10 -P FORWARD ACCEPT",
        "other rules",
        "iptables-legacy ip filter FORWARD",
    ),
    "a foreign port": (
        "ip link add tap7 type veth peer name tap8; ip link set tap7 master b9_br0",
        "ip link del tap7",
        "bridge ports",
        "tap7",
    ),
    "a foreign link of our prefix": (
        "ip link add b9home type veth peer name tap8",
        "ip link del b9home",
        "network.veth_prefix",
        "b9home",
    ),
    "links wider than the node interface": (
        "ip link set eth0 mtu 1400",
        "ip link set eth0 mtu 1500",
        "MTU",
        "it should be 1400, by eth0",
    ),
    "an overlapping network": (
        "ip address add 192.168.3.1/24 dev eth1",
        "ip address del 192.168.3.1/24 dev eth1",
        "network.subnet4",
        "overlaps",
    ),
    "an overlapping address": (
        "ip address add 192.168.3.1/32 dev eth1",
        "ip address del 192.168.3.1/32 dev eth1",
        "network.subnet4",
        "an address of eth1",
    ),
    "an ephemeral range over ours": (
        "sysctl -qw net.ipv4.ip_local_port_range='20000 60999'",
        "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'",
        "node.nat_ports",
        "ip_local_port_range",
    ),
    "liberal tracking": (
        "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0",
        "conntrack",
        "liberal",
    ),
}


@pytest.fixture(scope="module")
def sound(node: World) -> list[Finding]:
    """What is found about the node before anything is wrong with it."""
    return findings()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_while_it_is_there(node: World, sound: list[Finding], fault: str) -> None:
    make, undo, subject, observed = FAULTS[fault]
    node.lab.node.run(["sh", "-ec", make])
    try:
        new = [finding for finding in findings() if finding not in sound]
    finally:
        node.lab.node.run(["sh", "-ec", undo])
    assert [finding for finding in new if finding.subject == subject and observed in finding.observed], new
    assert all(finding.consequence and finding.remedy for finding in new)
    assert findings() == sound


def test_a_node_with_containers_has_none_of_these_findings(node: World, sound: list[Finding]) -> None:
    subjects = {subject for _, _, subject, _ in FAULTS.values()}
    assert [finding for finding in sound if finding.subject in subjects] == []


def test_a_listener_in_the_nat_range_is_found(node: World, sound: list[Finding]) -> None:
    with socket.create_server(("", 20000)):
        (new,) = [finding for finding in findings() if finding not in sound]
    assert (new.severity, new.subject) == ("error", "node.nat_ports")


def test_a_cap_that_one_container_could_fill_the_table_with_is_found(node: World, sound: list[Finding]) -> None:
    (new,) = [one for one in findings(Settings(connections=1 << 20)) if one not in sound]
    assert new.subject == "conntrack size"
    assert "1 container(s)" in new.observed


def test_what_matters_is_an_exit_status_and_a_document(cellwall: Command) -> None:
    fine = cellwall("doctor", "--json")
    cellwall.lab.node.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"])
    wrong = cellwall("doctor", "--json")
    cellwall.lab.node.run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=0"])
    assert [one for one in wrong.json["findings"] if one not in fine.json["findings"]] == [
        {
            "severity": "warning",
            "subject": "route_localnet",
            "observed": "net.ipv4.conf.all.route_localnet = 1",
            "consequence": "neighbours on the LAN may reach services bound to the loopback while the wall is down",
            "remedy": "set it to 0",
        }
    ]
    assert (wrong.status, wrong.json["ok"]) == (10, False)
    matters = [one for one in fine.json["findings"] if one["severity"] != "note"]
    assert (fine.status, fine.json["ok"]) == ((10, False) if matters else (0, True))


def test_tables_that_another_program_owns_are_found_and_a_daemons_are_not() -> None:
    about_nftables("owners of tables")
    with open_world() as world:
        world.attach("tenant")
        assert world.wall.own() == ""
        world.wall.repair()
        told = [finding for finding in findings() if finding.subject == "owner"]
        assert [finding.severity for finding in told] == ["error"]
        assert "inet cellwall (netlink port" in told[0].observed
        assert "owner" not in {finding.subject for finding in diagnose(observe(Settings(), daemon=True), Settings())}
    with open_world() as world:
        assert "owner" in {finding.subject for finding in diagnose(observe(Settings(), daemon=True), Settings())}
        assert "owner" not in {finding.subject for finding in findings()}


def test_another_listener_to_the_log_of_denials_is_told(node: World) -> None:
    group = node.wall.settings.audit.group
    assert [finding for finding in findings() if finding.subject == "log of denials"] == []
    with PacketLog(group):
        (found,) = (finding for finding in findings() if finding.subject == "log of denials")
        assert str(group) in found.observed
    assert [finding for finding in findings() if finding.subject == "log of denials"] == []
