"""Packets meet what the pure decision says, whatever the policies: random ones, on a real kernel."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from random import Random

import pytest

from cellwall.errors import InvalidSpec
from cellwall.lab import connect
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.addresses import Prefix
from cellwall.model.policy import Action, Mode, Policy, Rule, RuleProtocol, Tiers, decide
from world import World, in_iptables, is_answered, open_world

pytestmark = pytest.mark.root
PORTS = (80, 81, 83)
DESTINATIONS = (*PUBLIC4[:3], *PUBLIC6[:2])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.internet.serve(tcp=PORTS, udp=PORTS)
        yield world


def random_rule(random: Random, actions: tuple[Action, ...]) -> Rule:
    """About our destinations, or near them."""
    ported: tuple[RuleProtocol, ...] = ("tcp", "udp")
    anything: tuple[RuleProtocol, ...] = ("any", "icmp", *ported)
    protocol = random.choice(ported if in_iptables() else anything)
    ports = None
    if protocol in ported and (in_iptables() or random.random() < 0.7):
        first = random.choice((1, 64, 79, 80, 81, 82, 83))
        ports = first, first + random.choice((0, 0, 1, 2, 20, 900))
    return Rule(random.choice(actions), near(random, random.choice(DESTINATIONS)), protocol, ports)


def near(random: Random, address: str) -> Prefix:
    value, version = int(ip_address(address)), ip_address(address).version
    bits = 32 if version == 4 else 128
    length = random.choice((0, 3, 8, 16, bits - 1, bits, bits, bits))
    return ip_network((value >> (bits - length) << (bits - length), length)) if length else _everything(version)


def _everything(version: int) -> Prefix:
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")


def random_policy(random: Random) -> Policy:
    mode: Mode = random.choice(("open", "open", "allow", "allow", "block"))
    actions: dict[Mode, tuple[Action, ...]] = {"open": ("deny",), "allow": ("allow", "allow", "deny"), "block": ()}
    rules = tuple(random_rule(random, actions[mode]) for _ in range(random.randrange(6))) if actions[mode] else ()
    return Policy(mode, rules, monitor=random.random() < 0.2)


def set_random(world: World, random: Random, **of: str) -> Policy:
    """A policy that is accepted: what is contradictory is drawn again."""
    while True:
        policy = random_policy(random)
        try:
            return world.wall.set_policy(policy, **of).policy
        except InvalidSpec:
            continue


@pytest.mark.parametrize("seed", range(12))
def test_what_passes_is_what_the_policies_allow(world: World, seed: int) -> None:
    random = Random(seed)
    tenant = world.attach("tenant", tenant="acme")
    tiers = Tiers(set_random(world, random, tenant="acme"), set_random(world, random, container=tenant.name))
    asked = [(to, port, udp) for to in DESTINATIONS for port in PORTS for udp in (False, True)]
    for to, port, udp in random.sample(asked, 12):
        expected = decide(tiers, ip_address(to), "udp" if udp else "tcp", port).verdict == "allow"
        passes = is_answered(tenant.host, to, port, expected=expected, udp=udp)
        assert passes is expected, (to, port, udp, tiers)
    assert world.wall.status().drift == ()
    world.detach(tenant)


@pytest.mark.parametrize(("ports", "spoken_of"), [
    (None, True), ("1-65535", False), ("0-1", True), (0, True), ("0-65535", True),
])  # fmt: skip
def test_port_0_is_a_port_like_any_other(world: World, ports: object, spoken_of: bool) -> None:
    """No service has it, and its host says so; a range that leaves it out does not speak of it."""
    if in_iptables() and ports not in (0, "0-1"):
        pytest.skip("iptables has no words for so many ports")
    tenant = world.attach("tenant", tenant="acme")
    rule = {"action": "deny", "prefix": PUBLIC4[0], "protocol": "tcp", "ports": ports}
    with world.lab.internet.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as arriving:
        arriving.setblocking(False)
        for policy, passes in (({}, True), ({"rules": [rule]}, not spoken_of)):
            known = world.wall.set_policy(policy, tenant="acme").policy
            assert (decide(Tiers(known), ip_address(PUBLIC4[0]), "tcp", 0).verdict == "allow") is passes
            assert connect(tenant.host, PUBLIC4[0], 0).kind == "refused"
            arrived = False
            with suppress(BlockingIOError):
                while len(segment := arriving.recv(100)) > 23:
                    arrived |= segment[22:24] == b"\0\0"  # behind 20 octets of IPv4 and the source port
            assert arrived is passes
    assert world.wall.status().drift == ()
    world.detach(tenant)
