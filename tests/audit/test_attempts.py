"""Each kind of denial of a sandbox's packets, and of packets to one, is on record once, with whose it was and why: real
packets, from the rule that denies them to the event."""

from collections.abc import Iterator
from ipaddress import IPv6Address

import msgspec
import pytest

from audit.recorded import Recorded
from cellwall.attack.frames import frame, packet, scapy
from cellwall.audit.events import Attempt, Event
from cellwall.daemon.audit.thread import audited
from cellwall.lab import addresses as at
from cellwall.model.addresses import LISTENER_REPORTS, mac_text
from cellwall.model.settings import Audit, Settings
from world import Sandbox, World, open_world, public

pytestmark = pytest.mark.root
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
FLOOR = {4: "10.0.0.5", 6: "fc00:9::9"}
FORGED = {4: "8.8.8.8", 6: "2a00:1450::8"}


HOLDING = {
    "nftables": Settings(backend="nftables"),
    "iptables-nft": Settings(backend="iptables", iptables="nft"),
    "iptables-legacy": Settings(backend="iptables", iptables="legacy"),
}


@pytest.fixture(scope="module", params=HOLDING)
def recorded(request: pytest.FixtureRequest) -> Iterator[tuple[World, Recorded]]:
    held = msgspec.structs.replace(HOLDING[request.param], audit=Audit(rate=1000, burst=1000))
    with open_world(settings=held) as world:
        kept = Recorded()
        with audited(world.wall, kept, world.wall.endpoints):
            yield world, kept


def about_nftables(world: World, what: str) -> None:
    """Skip what follows where this wall is in iptables."""
    if world.wall.settings.backend == "iptables":
        pytest.skip(f"nftables only: {what}")


@pytest.fixture(scope="module")
def world(recorded: tuple[World, Recorded]) -> World:
    return recorded[0]


@pytest.fixture(scope="module")
def kept(recorded: tuple[World, Recorded]) -> Recorded:
    return recorded[1]


@pytest.fixture(scope="module")
def web(world: World) -> Sandbox:
    return world.attach("web", tenant="acme")


@pytest.fixture(scope="module")
def other(world: World) -> Sandbox:
    return world.attach("other", tenant="rival", expose=[f"8443:8443/udp@{at.LAN4}/32,{at.LAN6}/128"])


_ports = iter(range(20000, 30000))


def sent(world: World, sandbox: Sandbox, source: str, target: str, protocol: str = "udp", dport: int = 9) -> int:
    """One packet of a sandbox; its source port, which no other packet has."""
    sport = next(_ports)
    macs = mac_text(sandbox.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    sandbox.host.inject("eth0", [frame(*macs, packet(source, target, protocol, b"x", sport=sport, dport=dport))])
    return sport


def told_once(kept: Recorded, sport: int) -> Attempt:
    (attempt,) = kept.found(lambda event: event.source_port == sport)
    return attempt


def is_of(attempt: Attempt, sandbox: Sandbox) -> bool:
    endpoint = sandbox.endpoint
    return (attempt.tenant, attempt.container, attempt.interface) == (
        endpoint.tenant,
        sandbox.name,
        endpoint.key.ifname,
    )


@FAMILIES
@pytest.mark.parametrize(
    ("targets", "layer", "reason"),
    [
        (FLOOR, "FWD", "the floor"),
        (at.NODE, "", "the node"),
        ({4: "169.254.169.254", 6: "fd00:ec2::254"}, "FWD", "the floor"),
    ],
    ids=["the floor", "the node", "metadata"],
)
def test_a_denied_destination(
    world: World, kept: Recorded, web: Sandbox, family: int, targets: dict[int, str], layer: str, reason: str
) -> None:
    attempt = told_once(kept, sent(world, web, web.address(family), targets[family], dport=53))
    # iptables refuses what is for the node on the input path, where the sender can be told.
    layer = layer or ("IN" if world.wall.settings.backend == "iptables" else "PRE")
    assert is_of(attempt, web)
    assert (attempt.judgement, attempt.direction, attempt.layer, attempt.reason) == ("deny", "out", layer, reason)
    assert (attempt.protocol, attempt.source, attempt.destination) == ("udp", web.address(family), targets[family])
    assert (attempt.destination_port, attempt.generation) == (53, web.endpoint.generation)


@FAMILIES
def test_another_tenant_s_sandbox(world: World, kept: Recorded, web: Sandbox, other: Sandbox, family: int) -> None:
    attempt = told_once(kept, sent(world, web, web.address(family), other.address(family)))
    assert is_of(attempt, web)
    assert attempt.destination == other.address(family)


@FAMILIES
def test_mail(world: World, kept: Recorded, web: Sandbox, family: int) -> None:
    attempt = told_once(kept, sent(world, web, web.address(family), public(family), "tcp", 25))
    assert is_of(attempt, web)
    assert (attempt.reason, attempt.destination_port) == ("mail to a server", 25)


@FAMILIES
def test_a_source_that_is_another_s_is_told_of_who_forged_it(
    world: World, kept: Recorded, web: Sandbox, other: Sandbox, family: int
) -> None:
    for forged in (FORGED[family], other.address(family)):
        attempt = told_once(kept, sent(world, web, forged, public(family)))
        assert is_of(attempt, web)
        assert (attempt.layer, attempt.source, attempt.mac) == ("PIN", forged, mac_text(web.endpoint.mac))


def test_a_forged_source_is_told_of_who_forged_it_where_no_port_is_known(
    world: World, kept: Recorded, web: Sandbox
) -> None:
    """The pins of iptables read packets: of a bridge that does not call them before it has judged the MAC."""
    names = [f"net.bridge.bridge-nf-call-{program}" for program in ("iptables", "ip6tables")]
    world.lab.node.run(["sysctl", "-qw", *(f"{name}=0" for name in names)])
    try:
        for family in (4, 6):
            attempt = told_once(kept, sent(world, web, FORGED[family], public(family)))
            assert is_of(attempt, web)
            assert (attempt.layer, attempt.source) == ("PIN", FORGED[family])
    finally:
        world.lab.node.run(["sysctl", "-qw", *(f"{name}=1" for name in names)])


@pytest.mark.parametrize("kind", [0x88CC, 0x88B5], ids=["LLDP", "another ethertype"])
def test_a_frame_that_is_no_ip(kept: Recorded, web: Sandbox, kind: int) -> None:
    web.host.inject("eth0", [frame(mac_text(web.endpoint.mac), "02:00:00:00:00:01", b"\0" * 50, kind=kind)])
    (attempt,) = kept.found(lambda event: event.protocol == f"{kind:#06x}")
    assert is_of(attempt, web)
    assert (attempt.layer, attempt.source) == ("PIN", "")


@pytest.mark.parametrize("kind", ["report", "MLDv1 report", "MLDv1 done"])
def test_what_a_sandbox_s_kernel_says_by_itself_as_its_interface_comes_up_is_not_told(
    world: World, kept: Recorded, web: Sandbox, kind: str
) -> None:
    """Which groups it listens to, two or three times a start: sent once more here, and what comes behind it is told."""
    s, own = scapy(), mac_text(web.endpoint.mac)
    groups = {"report": str(LISTENER_REPORTS), "MLDv1 report": "ff02::1:ff00:2", "MLDv1 done": "ff02::2"}
    if kind != "report":
        about_nftables(world, "of frames, whatever IPv6 goes to one group, and to no other")
    body = {
        "report": s.ICMPv6MLReport2(records_number=0),
        "MLDv1 report": s.ICMPv6MLReport(mladdr=groups["MLDv1 report"]),
        "MLDv1 done": s.ICMPv6MLDone(mladdr="ff02::fb"),
    }[kind]
    header = s.IPv6ExtHdrHopByHop(options=[s.RouterAlert()])
    report = s.IPv6(src="::", dst=groups[kind], hlim=1) / header / body
    mac = bytes((0x33, 0x33, *IPv6Address(groups[kind]).packed[12:])).hex(":")
    behind = frame(own, "02:00:00:00:00:01", b"\0" * 50, kind=0x88B6 + len(kind))
    web.host.inject("eth0", [frame(own, mac, report), behind])
    kept.found(lambda event: event.protocol == f"{0x88B6 + len(kind):#06x}")
    assert kept.found(lambda event: event.destination == groups[kind], least=0) == []


def test_a_claim_of_the_gateway_s_address(kept: Recorded, web: Sandbox) -> None:
    claim = b"\0\1\x08\0\6\4\0\2" + web.endpoint.mac.to_bytes(6, "big") + bytes([192, 168, 0, 1]) + bytes(6) + bytes(4)
    web.host.inject("eth0", [frame(mac_text(web.endpoint.mac), "ff:ff:ff:ff:ff:ff", claim, kind=0x0806)])
    (attempt,) = kept.found(lambda event: event.protocol == "arp" and event.source == "192.168.0.1")
    assert is_of(attempt, web)


@FAMILIES
def test_a_client_that_is_not_admitted_is_told_of_whom_it_was_for(
    world: World, kept: Recorded, other: Sandbox, family: int
) -> None:
    about_nftables(world, "who is no client is led nowhere")
    sport, internet = next(_ports), world.lab.internet
    body = packet(public(family), at.NODE[family], "udp", b"x", sport=sport, dport=8443)
    internet.inject("eth0", [frame(internet.mac("eth0"), world.lab.node.mac("eth0"), body)])
    attempt = told_once(kept, sport)
    assert is_of(attempt, other)
    assert (attempt.direction, attempt.reason, attempt.source) == ("in", "not exposed", public(family))


@FAMILIES
def test_what_policies_deny_and_what_they_only_watch(world: World, kept: Recorded, family: int) -> None:
    ruled = world.attach("ruled", tenant="ruled")
    for monitor, judgement in ((False, "deny"), (True, "watch")):
        number = world.wall.set_policy({"mode": "block", "monitor": monitor}, container=ruled.name).generation
        attempt = told_once(kept, sent(world, ruled, ruled.address(family), public(family), dport=443))
        assert is_of(attempt, ruled)
        assert (attempt.judgement, attempt.reason) == (judgement, "the policy of the endpoint")
        assert attempt.generation == number
    world.detach(ruled)


def test_a_packet_of_who_was_detached_is_not_the_next_holder_s(world: World, kept: Recorded) -> None:
    """Two addresses are handed on and on, at once and before anything is read."""
    sports: dict[int, str] = {}
    for number in range(12):
        box = world.attach("one", tenant="t", address4=world.wall.settings.network.subnet4[77 + number % 2])
        for family in (4, 6):
            sports[sent(world, box, box.address(family), FLOOR[family])] = box.name
            sports[sent(world, box, FORGED[family], public(family))] = box.name
        world.detach(box)
        world.wall.clear_up()
    assert {sport: told_once(kept, sport).container for sport in sports} == sports


def test_nothing_is_told_of_what_passes(world: World, kept: Recorded, web: Sandbox) -> None:
    passing = sent(world, web, web.address(4), public(4))
    denied = sent(world, web, web.address(4), FLOOR[4])
    events: list[Event] = list(kept.found(lambda event: event.source_port in (passing, denied)))
    assert [getattr(event, "source_port", None) for event in events] == [denied]
