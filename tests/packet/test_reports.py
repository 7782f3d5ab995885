"""What the kernel's packet log is told of denials, on the wire: whose they were, why, and in what words."""

import select
from collections.abc import Iterator
from time import monotonic

import pytest

from cellwall.adapters.events.nflog import Logged, PacketLog
from cellwall.attack.frames import frame, packet
from cellwall.lab import addresses as at
from cellwall.model.addresses import mac_text
from cellwall.model.policy import Policy
from cellwall.model.settings import Audit, Settings
from world import Sandbox, World, about_nftables, open_world, public

pytestmark = pytest.mark.root
PORT = 8443
CLOSED_TO_ALL = Policy(mode="block", monitor=True)
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
BRIDGE, PROTOCOL = 7, {4: 2, 6: 10}
FORGED = {4: "8.8.8.8", 6: "2a00:1450::8"}


@pytest.fixture(scope="module", autouse=True)
def only_where_rules_tell() -> None:
    about_nftables("marks and layers of what is told; tests/audit is about all")


@pytest.fixture(scope="module")
def told() -> Iterator[World]:
    with open_world(settings=Settings(audit=Audit(rate=1000, burst=1000))) as world:
        yield world


@pytest.fixture(scope="module")
def tenant(told: World) -> Sandbox:
    return told.attach("tenant", expose=[f"{PORT}:{PORT}/udp@{at.LAN4}/32,{at.LAN6}/128"])


@pytest.fixture
def log(told: World) -> Iterator[PacketLog]:
    with PacketLog(told.wall.settings.audit.group) as log:
        yield log


def heard(log: PacketLog, token: bytes, *others: bytes) -> list[Logged]:
    """What was told until one with the token was: of the tokens, and not of what a sandbox's kernel announces."""
    found: list[Logged] = []
    deadline = monotonic() + 10
    while not any(token in one.payload for one in found):
        assert select.select([log], [], [], deadline - monotonic())[0], [one.prefix for one in found]
        found += log.read().packets
    return [one for one in found if any(wanted in one.payload for wanted in (token, *others))]


def send(world: World, sandbox: Sandbox, source: str, target: str, token: bytes, *, dport: int = 9) -> None:
    macs = mac_text(sandbox.endpoint.mac), mac_text(world.wall.settings.network.bridge_mac)
    sandbox.host.inject("eth0", [frame(*macs, packet(source, target, "udp", token, dport=dport))])


@FAMILIES
def test_a_forged_source_is_told_of_the_port_that_it_came_by(
    told: World, tenant: Sandbox, log: PacketLog, family: int
) -> None:
    token = told.token()
    send(told, tenant, FORGED[family], public(family), token)
    (one,) = heard(log, token)
    assert one.prefix.startswith("PIN deny out: spoofed")
    assert (one.family, one.physindev) == (BRIDGE, tenant.endpoint.host_index)
    assert one.hardware[6:12] == tenant.endpoint.mac.to_bytes(6)


@FAMILIES
@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("FWD deny out: the floor", {4: "10.0.0.5", 6: "fc00:9::9"}),
        ("PRE deny out: the node", at.NODE),
    ],
    ids=["the floor", "the node"],
)
def test_a_denied_destination_is_told_with_the_policy_version(
    told: World, tenant: Sandbox, log: PacketLog, family: int, prefix: str, target: dict[int, str]
) -> None:
    token = told.token()
    send(told, tenant, tenant.address(family), target[family], token)
    (one,) = heard(log, token)
    assert (one.prefix, one.family, one.mark) == (prefix, PROTOCOL[family], tenant.endpoint.generation)


@FAMILIES
def test_a_client_that_may_not_is_told_of_whom_it_was_for(
    told: World, tenant: Sandbox, log: PacketLog, family: int
) -> None:
    token, internet = told.token(), told.lab.internet
    body = packet(public(family), at.NODE[family], "udp", token, dport=PORT)
    internet.inject("eth0", [frame(internet.mac("eth0"), told.lab.node.mac("eth0"), body)])
    (one,) = heard(log, token)
    assert (one.prefix, one.mark) == ("FWD deny in: not exposed", tenant.endpoint.generation)


@FAMILIES
def test_what_a_policy_that_only_watches_would_deny_is_told_and_arrives(
    told: World, log: PacketLog, family: int
) -> None:
    watched = told.attach("watched")
    told.wall.set_policy(CLOSED_TO_ALL, container=watched.name)
    token, internet = told.token(), told.lab.internet
    with internet.capture("eth0", outgoing=False) as wire:
        send(told, watched, watched.address(family), public(family), token)
        (one,) = heard(log, token)
        assert wire.read_until(token)
    assert one.prefix == "FWD watch out: the policy of the endpoint"
    told.detach(watched)


@FAMILIES
def test_what_passes_is_not_told(told: World, tenant: Sandbox, log: PacketLog, family: int) -> None:
    passing, denied = told.token("passing"), told.token("denied")
    with told.lab.internet.capture("eth0", outgoing=False) as wire:
        send(told, tenant, tenant.address(family), public(family), passing)
        assert wire.read_until(passing)
    send(told, tenant, FORGED[family], public(family), denied)
    assert [denied in one.payload for one in heard(log, denied, passing)] == [True]


def test_who_has_listened_changes_no_rule_and_no_status(told: World, tenant: Sandbox, log: PacketLog) -> None:
    for family, target in ((4, "10.0.0.5"), (6, "fc00:9::9")):
        token = told.token()
        send(told, tenant, tenant.address(family), target, token)
        heard(log, token)
    assert told.wall.status().drift == ()
    assert not told.wall.up().changed
