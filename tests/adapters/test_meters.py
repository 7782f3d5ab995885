"""The kernel's figures are what was sent, exactly, and whose they are."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.adapters.node.meters import Meters
from cellwall.lab import Lab, connect
from cellwall.model.addresses import mac_text
from cellwall.model.figures import Traffic
from cellwall.model.versions import stems
from world import PUBLIC4, PUBLIC6, Sandbox, World, about_nftables, open_world, write_setting

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world, world.lab.internet.serve(udp=[53], tcp=[80]):
        yield world


@pytest.fixture
def meters(world: World) -> Iterator[Meters]:
    with Meters() as meters:
        yield meters


def passed(meters: Meters, box: Sandbox) -> Traffic:
    return meters.traffic()[box.endpoint.host_index]


def quiet(world: World) -> Sandbox:
    """A sandbox that sends nothing of itself: IPv6 reports the groups that it listens to."""
    box = world.attach()
    write_setting(box.host, "net/ipv6/conf/all/disable_ipv6", "1")
    return box


def frame(world: World, box: Sandbox, source: str, target: str) -> bytes:
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    header = Ether(src=mac_text(box.endpoint.mac), dst=gateway) / IP(src=source, dst=target)
    return bytes(header / UDP(sport=1, dport=9) / Raw(b"x" * 58))


def test_what_a_sandbox_sends_is_counted_to_the_byte_also_what_is_denied(world: World, meters: Meters) -> None:
    box, other = quiet(world), quiet(world)
    before, of_other = passed(meters, box), passed(meters, other)
    sent = [frame(world, box, box.address(4), PUBLIC4)] * 20 + [frame(world, box, "1.2.3.4", PUBLIC4)] * 30
    box.host.inject("eth0", sent)
    after = passed(meters, box)
    assert (after.sent_packets - before.sent_packets, after.sent_bytes - before.sent_bytes) == (50, 50 * 100)
    assert passed(meters, other) == of_other


def test_what_it_receives_is_what_came_to_it(world: World, meters: Meters) -> None:
    box = world.attach()
    before = passed(meters, box)
    four, six = (connect(box.host, address, 53, udp=True) for address in (PUBLIC4, PUBLIC6))
    after = passed(meters, box)
    assert after.received_packets - before.received_packets == 2
    assert after.received_bytes - before.received_bytes == 14 + 28 + len(four.data) + 14 + 48 + len(six.data)


def test_single_links_are_asked_for_and_one_that_is_gone_is_left_out(world: World, meters: Meters) -> None:
    box = world.attach()
    index = box.endpoint.host_index
    assert meters.traffic_of([index, 1 << 20]) == {index: meters.traffic()[index]}
    assert meters.traffic_of([]) == {}


def test_a_rule_tells_what_it_denied_and_why(world: World, meters: Meters) -> None:
    about_nftables("what rules counted")
    box = quiet(world)

    def counted() -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for rule in meters.rules():
            key = rule.reason, rule.outcome
            found[key] = found.get(key, 0) + rule.packets
        return found

    before = counted()
    box.host.inject("eth0", [frame(world, box, "1.2.3.4", PUBLIC4)] * 30)
    after = counted()
    denied = ("spoofed IPv4 source or options", "dropped")
    assert after[denied] - before[denied] == 30
    assert all(after[key] == before[key] for key in after if key != denied and "spoofed" in key[0])
    assert len({rule.rule for rule in meters.rules()}) == len(meters.rules())


def test_what_is_rejected_is_told_from_what_is_dropped(world: World, meters: Meters) -> None:
    about_nftables("what rules counted")
    box = quiet(world)
    floor = "the floor"

    def counted() -> int:
        return sum(rule.packets for rule in meters.rules() if floor in rule.reason and rule.outcome == "rejected")

    before = counted()
    assert connect(box.host, "10.0.0.9", 80, udp=True).kind == "unreachable"
    assert counted() == before + 1


def test_denials_are_counted_by_endpoint_and_direction(world: World, meters: Meters) -> None:
    about_nftables("what rules counted")
    box, other = quiet(world), quiet(world)
    (stem,) = stems((box.endpoint.generation,))
    index, denied = box.endpoint.host_index, meters.denied()
    assert denied is not None
    before = denied.of(index, (stem,))
    box.host.inject("eth0", [frame(world, box, "1.2.3.4", PUBLIC4)] * 6)
    assert connect(box.host, "10.0.0.9", 80, udp=True).kind == "unreachable"
    denied = meters.denied()
    assert denied is not None
    assert (denied.ports[index], denied.sent[stem]) == (6 + before, 1)
    assert denied.of(index, (stem,)) == 7 + before
    assert meters.denied_of([index], [stem]).of(index, (stem,)) == 7 + before
    (stem_of_other,) = stems((other.endpoint.generation,))
    assert meters.denied_of([other.endpoint.host_index], [stem_of_other]).sent == {}
    assert meters.denied_of([], []).ports == {}
    (told,) = [one for one in world.wall.traffic().endpoints if one.key == box.endpoint.key]
    assert told.denied == 7 + before


def test_many_elements_are_read_as_nft_reads_them(world: World, meters: Meters) -> None:
    about_nftables("elements of a set")
    given = {(1 << 30) + number * 256: number * 977 for number in range(3000)}
    elements = ", ".join(f"{key:#x} counter packets {packets} bytes {packets}" for key, packets in given.items())
    odd = (1 << 30) + 3000 * 256
    node = world.lab.node
    node.run(["nft", "-f", "-"], input=f"add element inet cellwall deniedin {{ {elements} }}".encode())
    node.run(
        [
            "nft",
            "add",
            "element",
            "inet",
            "cellwall",
            "deniedin",
            f"{{ {odd:#x} timeout 5h counter packets 7 bytes 9 }}",
        ]
    )
    denied = meters.denied()
    assert denied is not None
    assert {key: denied.received[key] for key in (*given, odd)} == {**given, odd: 7}
    assert meters.denied_of([], [odd, *list(given)[:200]]).received == {odd: 7, **dict(list(given.items())[:200])}
    node.run(["nft", "flush", "set", "inet", "cellwall", "deniedin"])


def test_a_wall_that_counts_nothing_by_endpoint_tells_nothing(world: World) -> None:
    with Lab() as lab, lab.node.enter(), Meters() as elsewhere:
        assert elsewhere.denied() is None
        assert elsewhere.rules() == ()
        assert elsewhere.denied_of([7], [1 << 30]).ports == {}


def test_flows_are_counted_by_the_addresses_that_they_are_between(world: World, meters: Meters) -> None:
    box = world.attach(expose=["8080:80"])
    with box.host.serve(tcp=[80]):
        assert connect(world.lab.internet, world.lab.node.addresses("eth0")[0], 8080)
        for address in (PUBLIC4, PUBLIC6):
            assert connect(box.host, address, 53, udp=True)
    flows = meters.flows(1000)
    assert flows is not None
    four, six = box.endpoint.address4, box.endpoint.address6
    assert six is not None and (flows[four.packed], flows[six.packed]) == (2, 1)
    assert meters.flows(1) is None
    tracked = meters.tracked()
    assert tracked is not None and 3 <= tracked.entries < tracked.limit


def test_the_report_is_of_all_endpoints(world: World) -> None:
    box = world.attach(tenant="acme")
    assert connect(box.host, PUBLIC4, 53, udp=True, payload=b"z" * 10)
    first, second = world.wall.traffic(), world.wall.traffic()
    (found,) = [one for one in second.endpoints if one.key == box.endpoint.key]
    assert (found.tenant, found.traffic.received_packets, found.connections) == ("acme", 1, 1)
    assert first.at < second.at
    assert len(second.endpoints) == len(world.wall.endpoints()) == len(world.wall.counted().metered)
    assert world.wall.counted().capacity == 4093
