"""What somebody changes by hand about links, the bridge and kernel settings is named, repaired, and then gone."""

import errno

import pytest

from cellwall.errors import KernelError
from cellwall.lab.addresses import NODE4
from cellwall.model.addresses import mac_text
from world import PUBLIC4, PUBLIC6, Sandbox, World, Wrapped, assert_connection, rewired, write_setting

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def sandbox(node: World) -> Sandbox:
    made = node.attach("watched", expose=["8300:80"])
    made.host.serve(tcp=[80])
    node.attach("other")
    return made


PORT = {
    "isolated": "bridge link set dev {link} isolated off",
    "learning": "bridge link set dev {link} learning on",
    "flood": "bridge link set dev {link} flood on",
    "mcast_flood": "bridge link set dev {link} mcast_flood on",
    "bcast_flood": "bridge link set dev {link} bcast_flood on",
    "guard": "bridge link set dev {link} guard off",
    "root_block": "bridge link set dev {link} root_block off",
    "locked": "bridge link set dev {link} locked off",
    "hairpin": "bridge link set dev {link} hairpin on",
    "neigh_suppress": "bridge link set dev {link} neigh_suppress on",
    "mcast_router": "bridge link set dev {link} mcast_router 2",
    "forwarding entry {mac} is missing": "bridge fdb del {mac} dev {link} master",
    "not static": "bridge fdb replace {mac} dev {link} master static",
    "unknown forwarding entry 02:00:00:00:00:99": "bridge fdb add 02:00:00:00:00:99 dev {link} master static",
    "neighbour {ip} is missing": "ip neigh del {ip} dev b9_br0",
    "neighbour {ip6} is missing": "ip neigh del {ip6} dev b9_br0",
    "neighbour {ip} is not {mac}": "ip neigh replace {ip} lladdr 02:00:00:00:00:99 dev b9_br0 nud permanent",
    "is down": "ip link set {link} down",
    "is not on the bridge": "ip link set {link} nomaster",
}
BRIDGE = {
    "stp_state 1": "ip link set b9_br0 type bridge stp_state 1",
    "mcast_snooping 1": "ip link set b9_br0 type bridge mcast_snooping 1",
    "group_fwd_mask 8": "ip link set b9_br0 type bridge group_fwd_mask 8",
    "MTU 1400": "ip link set b9_br0 mtu 1400",
    "has another MAC": "ip link set b9_br0 address 02:00:00:00:00:99",
    "lacks its address 192.168.0.1/20": "ip address del 192.168.0.1/20 dev b9_br0",
    "lacks its address fd00:abcd::1/64": "ip address del fd00:abcd::1/64 dev b9_br0",
    "unknown address 10.9.9.9/32": "ip address add 10.9.9.9/32 dev b9_br0",
    "b9_br0 is down": "ip link set b9_br0 down",
    "b9_br0 is gone": "ip link del b9_br0",
}
SETTINGS = {
    "net/ipv4/conf/b9_br0/forwarding": "0",
    "net/ipv4/conf/b9_br0/accept_redirects": "1",
    "net/ipv4/conf/b9_br0/send_redirects": "1",
    "net/ipv4/conf/b9_br0/accept_source_route": "1",
    "net/ipv4/conf/b9_br0/route_localnet": "1",
    "net/ipv4/conf/b9_br0/proxy_arp": "1",
    "net/ipv4/conf/b9_br0/rp_filter": "0",
    "net/ipv4/conf/b9_br0/arp_ignore": "0",
    "net/ipv4/conf/eth0/forwarding": "0",
    "net/ipv6/conf/b9_br0/accept_ra": "1",
    "net/ipv6/conf/b9_br0/autoconf": "1",
    "net/ipv6/conf/b9_br0/accept_redirects": "1",
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
}


def assert_found_and_repaired(node: World, sandbox: Sandbox, expected: str) -> None:
    drift = node.wall.status().drift
    assert [line for line in drift if expected in line], drift
    repaired = node.wall.reconcile().repaired
    assert [line for line in repaired if expected in line], repaired
    assert node.wall.status().drift == ()
    assert node.wall.reconcile().repaired == ()
    for address in (PUBLIC4, PUBLIC6):
        assert_connection(sandbox.host, address, 80)
    assert_connection(node.lab.lan, NODE4, 8300)


@pytest.mark.parametrize("named", PORT)
def test_a_bridge_port_changed_by_hand(node: World, sandbox: Sandbox, named: str) -> None:
    endpoint = sandbox.endpoint
    words = {
        "link": endpoint.host_link,
        "mac": mac_text(endpoint.mac),
        "ip": str(endpoint.address4),
        "ip6": str(endpoint.address6),
    }
    assert node.wall.status().drift == ()
    node.lab.node.run(PORT[named].format(**words).split())
    expected = named.format(**words)
    assert [line for line in node.wall.verify(sandbox.name) if expected in line and endpoint.host_link in line]
    assert_found_and_repaired(node, sandbox, expected)
    assert node.wall.verify(sandbox.name) == ()


@pytest.mark.parametrize("named", BRIDGE)
def test_a_bridge_changed_by_hand(node: World, sandbox: Sandbox, named: str) -> None:
    assert node.wall.status().drift == ()
    node.lab.node.run(BRIDGE[named].split())
    assert_found_and_repaired(node, sandbox, named)


RULES = {
    "delete": (
        "nft delete rule inet cellwall forward handle HANDLE",
        'missing in inet chain forward: iifname "b9h*"',
    ),
    "insert": ("nft insert rule inet cellwall B9-FORWARD accept", "unknown in inet chain B9-FORWARD: accept"),
    "a chain more": ("nft add chain inet cellwall more", "unknown: inet chain more"),
    "floor": ("nft delete element inet cellwall floor4 { 10.0.0.0/8 }", "missing in inet set floor4: 10.0.0.0/8"),
    "noclients": (
        "nft delete element inet cellwall noclients4 { 192.0.0.0/24 }",
        "missing in inet set noclients4: 192.0.0.0/24",
    ),
    "opened": (
        "nft add element inet cellwall opened4 { 169.254.169.254 . tcp . 80 }",
        "unknown in inet set opened4: 169.254.169.254 . tcp . 80",
    ),
    "frames": ("nft flush chain bridge cellwall frame-forward", "missing in bridge chain frame-forward: "),
}


def first_rule(node: World, chain: str, text: str = "") -> str:
    """The handle of the first rule of a chain that has this text."""
    listed = node.lab.node.run(["nft", "-a", "list", "chain", *chain.split()]).text.splitlines()
    return next(line.partition("# handle ")[2] for line in listed[3:] if text in line)


@pytest.mark.parametrize("name", RULES)
def test_rules_changed_by_hand_are_named_one_by_one(node: World, sandbox: Sandbox, name: str) -> None:
    command, line = RULES[name]
    assert node.wall.status().drift == ()
    node.lab.node.run(["sh", "-ec", command.replace("HANDLE", first_rule(node, "inet cellwall forward"))])
    drift = node.wall.status().drift
    assert drift[0] == "our rules were changed"
    assert [one for one in drift if one.startswith(line)]
    assert all(one.startswith(line.partition(":")[0]) for one in drift[1:])
    assert node.wall.reconcile().repaired
    assert node.wall.status().drift == ()


def test_rules_in_another_order_are_named(node: World, sandbox: Sandbox) -> None:
    chain = "inet cellwall translate-source"
    handle = first_rule(node, chain, "masquerade #")
    node.lab.node.run(["nft", "delete", "rule", *chain.split(), "handle", handle])
    node.lab.node.run(["nft", "insert", "rule", *chain.split(), "masquerade"])
    assert "in another order: inet chain translate-source" in node.wall.status().drift
    assert node.wall.reconcile().repaired


@pytest.mark.parametrize("named", SETTINGS)
def test_a_kernel_setting_changed_by_hand(node: World, sandbox: Sandbox, named: str) -> None:
    assert node.wall.status().drift == ()
    write_setting(node.lab.node, named, SETTINGS[named])
    assert [line for line in node.wall.verify(sandbox.name) if named in line]
    assert_found_and_repaired(node, sandbox, f"kernel setting {named} is {SETTINGS[named]}")


def test_forwarding_of_ipv6_changed_by_hand(node: World, sandbox: Sandbox) -> None:
    """By interface or for all, as the kernel has it."""
    names = ("net/ipv6/conf/eth0/force_forwarding", "net/ipv6/conf/all/forwarding")
    written = next(name for name in names if node.wall._site.sysctls.read(name) is not None)
    write_setting(node.lab.node, written, "0")
    assert_found_and_repaired(node, sandbox, f"kernel setting {written} is 0, not 1")


def test_ipv6_switched_off_on_the_bridge_by_hand(node: World, sandbox: Sandbox) -> None:
    """Its addresses and neighbours go with it."""
    setting = "net/ipv6/conf/b9_br0/disable_ipv6"
    write_setting(node.lab.node, setting, "1")
    assert_found_and_repaired(node, sandbox, f"kernel setting {setting} is 1, not 0")


def test_a_foreign_port_on_the_bridge_is_told_and_shut_and_stays(node: World, sandbox: Sandbox) -> None:
    assert node.wall.status().warnings == ()
    node.lab.node.run(["ip", "link", "add", "foreign0", "master", "b9_br0", "type", "veth", "peer", "name", "foreign1"])
    status = node.wall.status()
    assert [line for line in status.drift if "foreign0" in line] == list(status.drift) != []
    assert [line for line in status.warnings if "foreign0" in line] == list(status.warnings) != []
    assert node.wall.reconcile().repaired == status.drift
    assert node.wall.status().drift == node.wall.reconcile().repaired == ()
    assert "master b9_br0" in node.lab.node.run(["ip", "link", "show", "foreign0"]).text
    node.lab.node.run(["ip", "link", "del", "foreign0"])
    assert node.wall.status().warnings == ()


@pytest.mark.parametrize("unseen", [False, True])
def test_changed_rules_are_laid_without_being_told_apart(node: World, sandbox: Sandbox, unseen: bool) -> None:
    """To name each rule that differs runs two programs, and all that time the wall may be open."""

    def refuse(_: str) -> tuple[str, ...]:
        raise KernelError(errno.EIO, "told apart")

    hasty = rewired(node.wall, rules=Wrapped(node.wall._site.rules, differences=refuse))
    node.lab.node.run(["nft", "insert", "rule", "inet", "cellwall", "forward", "accept"])
    with pytest.raises(KernelError, match="told apart"):
        hasty.status()
    assert hasty.repair(unseen=unseen) == ("our rules were changed",)
    assert node.wall.status().drift == ()
