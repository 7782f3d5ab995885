"""What is told of the wall: how bad each change by hand can be, and that others' affairs are nobody's alarm."""

from collections.abc import Iterator

import pytest

from cellwall.adapters import process
from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.adapters.news.alarms import Alarm, Alarms
from cellwall.model.network import Network

from .conftest import Namespace

pytestmark = pytest.mark.root

NETWORK = Network()
TABLES = """
table inet cellwall {
    set floor4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
    set live { type mark; elements = { 7 }; }
    chain forward { type filter hook forward priority 0; counter comment "one"; }
}
table inet other { set some { type mark; }; chain theirs { }; }
"""


@pytest.fixture
def alarms(links: LinkLayer, node: Namespace) -> Iterator[Alarms]:
    """A node with something of the wall, and nothing told yet."""
    bridge = links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    links.ensure_latch(bridge, 0x1000)
    process.run(["nft", "-f", "-"], input=TABLES.encode())
    lines = ["link add b9h1 type veth peer name inside", "link set b9h1 master b9_br0 up"]
    lines += ["link add b9h2 type veth peer name loose"]
    lines += ["link add beside type veth peer name inside2", "link add br1 type bridge"]
    process.run(["ip", "-batch", "-"], input="\n".join(lines).encode())
    with Alarms(veth_prefix=NETWORK.veth_prefix) as made:
        made.bridge = bridge
        yield made


@pytest.mark.parametrize(
    ("command", "alarm"),
    [
        ("nft flush ruleset", Alarm.DAMAGED),
        ("nft delete table inet cellwall", Alarm.DAMAGED),
        ("nft flush chain inet cellwall forward", Alarm.DAMAGED),
        ("nft insert rule inet cellwall forward accept", Alarm.DAMAGED),
        ("nft flush set inet cellwall floor4", Alarm.DAMAGED),
        ("nft add set inet cellwall more { type mark; }", Alarm.DAMAGED),
        ("nft flush set inet cellwall live", Alarm.CHANGED),
        ("nft add element inet cellwall live { 8 }", Alarm.CHANGED),
        ("nft add rule inet other theirs drop", Alarm.CHANGED),
        ("nft add element inet other some { 8 }", Alarm.NOTHING),
        ("tc qdisc del dev b9_br0 clsact", Alarm.DAMAGED),
        ("tc filter del dev b9_br0 egress pref 2", Alarm.DAMAGED),
        ("tc qdisc add dev beside clsact", Alarm.NOTHING),
        ("ip link set b9_br0 mtu 1400", Alarm.CHANGED),
        ("ip link set b9h1 down", Alarm.CHANGED),
        ("ip link set b9h1 nomaster", Alarm.CHANGED),
        ("ip link set b9h2 address 02:00:00:00:00:08", Alarm.CHANGED),  # by its name alone
        ("ip link set loose address 02:00:00:00:00:08", Alarm.NOTHING),
        ("bridge link set dev b9h1 isolated on", Alarm.CHANGED),
        ("bridge fdb add 02:00:00:00:00:09 dev b9h1 master static", Alarm.CHANGED),
        ("ip link set beside master b9_br0", Alarm.CHANGED),
        ("ip neighbour add 192.168.0.9 lladdr 02:00:00:00:00:09 dev b9_br0", Alarm.CHANGED),
        ("ip neighbour add 10.9.9.9 lladdr 02:00:00:00:00:09 dev br1", Alarm.NOTHING),
        ("ip link set br1 alias theirs", Alarm.NOTHING),
        ("ip link set br1 mtu 1500", Alarm.NOTHING),
        ("ip link set br1 mtu 1400", Alarm.CHANGED),  # it may be the node interface
        ("ip address add 9.9.9.9/24 dev br1", Alarm.CHANGED),
        ("ip rule add to 9.9.9.9 lookup 100", Alarm.CHANGED),
        ("ip -6 rule add to 2a0a::1 lookup 100", Alarm.CHANGED),
        ("ip address del 192.168.0.1/20 dev b9_br0", Alarm.CHANGED),
        ("sysctl -q -w net.ipv4.conf.b9_br0.rp_filter=2", Alarm.CHANGED),
        ("sysctl -q -w net.ipv4.conf.b9_br0.forwarding=1", Alarm.CHANGED),
        ("nft list ruleset", Alarm.NOTHING),
    ],
)
def test_how_bad_a_change_is(alarms: Alarms, command: str, alarm: Alarm) -> None:
    process.run(command.split())
    assert alarms.read() is alarm
    assert alarms.read() is Alarm.NOTHING


def test_the_worst_of_many_counts(alarms: Alarms) -> None:
    for command in ("ip link set b9h1 down", "nft flush ruleset", "ip link set b9h1 up"):
        process.run(command.split())
    assert alarms.read() is Alarm.DAMAGED


def test_a_queue_that_overflowed_is_damage(alarms: Alarms) -> None:
    with Alarms(veth_prefix=NETWORK.veth_prefix, queue=4096) as small:
        lines = [f"link set br1 mtu {1400 + number}" for number in range(20)]
        process.run(["ip", "-batch", "-"], input="\n".join(lines).encode())
        assert small.read() is Alarm.DAMAGED
        assert small.read() is Alarm.NOTHING
    assert alarms.read() is Alarm.CHANGED
