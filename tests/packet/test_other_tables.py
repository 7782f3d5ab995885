"""Tables of others on the node: what they translate or mark opens nothing to a tenant."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cellwall.lab import connect
from cellwall.lab.addresses import LAN, METADATA4, METADATA6, NODE
from world import Sandbox, World, assert_connection, assert_no_connection, in_iptables, public

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
ELSEWHERE = {4: "8.8.8.8", 6: "2001:4860:4860::8888"}
"""A public address that another table translates."""

FORBIDDEN = {
    "LAN neighbour": LAN,
    "metadata": {4: METADATA4["all clouds"], 6: METADATA6["AWS"]},
    "node": NODE,
}


@pytest.fixture(scope="module")
def tenant(node_lab: World) -> Iterator[Sandbox]:
    lab = node_lab.lab
    with lab.internet.serve(tcp=[80], udp=[80]), lab.lan.serve(tcp=[80], udp=[80]), lab.node.serve(tcp=[80], udp=[80]):
        yield node_lab.attach("tenant")


@contextmanager
def other_table(world: World, hook: str, rule: str, *, family: str = "inet") -> Iterator[None]:
    text = f"table {family} other {{ chain c {{ type {hook}; policy accept; {rule}; }}; }}"
    world.lab.node.run(["nft", "-f", "-"], input=text.encode())
    try:
        yield
    finally:
        world.lab.node.run(["nft", "delete", "table", family, "other"])


def translation(family: int, target: str) -> str:
    ip = "ip" if family == 4 else "ip6"
    return f"{ip} daddr {ELSEWHERE[family]} dnat {ip} to {target}"


@BOTH
@pytest.mark.parametrize("udp", [False, True], ids=["TCP", "UDP"])
@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_translation_by_others_leads_nowhere_that_the_floor_denies(
    node_lab: World, tenant: Sandbox, family: int, udp: bool, name: str
) -> None:
    """As a service of a cluster does it, whose address is public and whose servers are not."""
    rule = translation(family, FORBIDDEN[name][family])
    with other_table(node_lab, "nat hook prerouting priority dstnat", rule):
        assert_no_connection(tenant.host, ELSEWHERE[family], 80, udp=udp)
        assert_connection(tenant.host, public(family), 80, udp=udp)


@BOTH
def test_a_translation_by_others_to_where_a_tenant_may_go_is_theirs(
    node_lab: World, tenant: Sandbox, family: int
) -> None:
    """A transparent proxy of the operator's keeps working."""
    with other_table(node_lab, "nat hook prerouting priority dstnat", translation(family, public(family))):
        assert_connection(tenant.host, ELSEWHERE[family], 80)


@BOTH
@pytest.mark.parametrize("mark", [1, 2, 0x4000])
def test_a_mark_that_others_put_on_flows_is_no_policy_version(
    node_lab: World, tenant: Sandbox, family: int, mark: int
) -> None:
    """Numbers that multi-homing and service meshes use. A flow with a live policy version passes without the floor."""
    with other_table(node_lab, "filter hook prerouting priority -190", f"ct mark set {mark:#x}"):
        for addresses in FORBIDDEN.values():
            assert_no_connection(tenant.host, addresses[family], 80)
            assert connect(tenant.host, addresses[family], 80, udp=True, payload=b"?", timeout=0.2).kind != "answer"


@BOTH
@pytest.mark.parametrize(
    ("table", "hook", "rule"),
    [
        ("inet", "filter hook prerouting priority -301", "notrack"),
        ("bridge", "filter hook prerouting priority -400", "meta mark set 0x4"),
        ("inet", "filter hook prerouting priority -190", "ct mark set 0x4"),
    ],
    ids=["NOTRACK", "packet mark", "conntrack mark"],
)
def test_what_others_take_away_from_a_packet_closes(
    node_lab: World, tenant: Sandbox, family: int, table: str, hook: str, rule: str
) -> None:
    assert_connection(tenant.host, public(family), 80)
    # In iptables nothing that ebtables does comes before that table, and it marks what it judged anew.
    kept = () if table == "bridge" and in_iptables() else (public(family),)
    with other_table(node_lab, hook, rule, family=table):
        for address in (*kept, *(addresses[family] for addresses in FORBIDDEN.values())):
            assert_no_connection(tenant.host, address, 80)
    assert_connection(tenant.host, public(family), 80)


@BOTH
def test_what_others_accept_is_not_accepted(node_lab: World, tenant: Sandbox, family: int) -> None:
    with (
        other_table(node_lab, "filter hook forward priority -500", "accept"),
        other_table(node_lab, "filter hook prerouting priority -600", "accept", family="bridge"),
    ):
        for addresses in FORBIDDEN.values():
            assert_no_connection(tenant.host, addresses[family], 80)


@BOTH
def test_a_sandbox_address_from_outside_is_no_client(node_lab: World, tenant: Sandbox, family: int) -> None:
    """A LAN neighbour that speaks for a sandbox would be let in by every rule that trusts the sandboxes' network."""
    lab = node_lab.lab
    own, node = tenant.address(family), NODE[family]
    length = 32 if family == 4 else 128
    lab.lan.run(["ip", "address", "add", f"{own}/{length}", "dev", "lo", *(["nodad"] if family == 6 else [])])
    try:
        with lab.node.serve(udp=[81]) as services:
            forged, sentinel = node_lab.token("forged"), node_lab.token("sentinel")
            assert_connection(lab.lan, node, 81, udp=True)  # the neighbours know each other
            connect(lab.lan, node, 81, udp=True, payload=forged, source=own, timeout=0.05)
            connect(lab.lan, node, 81, udp=True, payload=sentinel)
            assert services.wait_for(sentinel)
            assert not services.saw(forged)
    finally:
        lab.lan.run(["ip", "address", "del", f"{own}/{length}", "dev", "lo"])
