"""A port of the node that a rule of somebody else's leads elsewhere, though nothing listens: nobody publishes it."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from cellwall.adapters.other_programs.neighbours import OtherRules
from cellwall.adapters.other_programs.translations import OthersTranslations
from cellwall.api import Wall
from cellwall.errors import Conflict
from cellwall.lab.addresses import INFRA4, INFRA6, NODE4, NODE6
from world import World, assert_connection, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        world.lab.node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        world.wall.reconcile()
        yield world


def nft(
    rule: str, *more: str, family: str = "ip", base: str = "nat hook prerouting priority -100", name: str = "other"
) -> tuple[str, str]:
    """A table of somebody's with a rule in a base chain."""
    lines = [f"table {family} {name} {{", *more, "chain base {", f"type {base};", rule, "}", "}", ""]
    return "nft", "\n".join(lines)


def chain(name: str, rule: str) -> str:
    return f"chain {name} {{\n{rule}\n}}"


def iptables(program: str, *lines: str) -> tuple[str, str]:
    return f"{program}-restore", "\n".join(["*nat", *lines, "COMMIT", ""])


TO = f"dnat to {INFRA4}:80"
TO6 = f"dnat to [{INFRA6}]:80"
JUMPED = f"-j DNAT --to-destination {INFRA4}:80"
PORTS = "type inet_proto . inet_service : verdict\nelements = { tcp . 30080 : goto web, udp . 9 : drop }"
WAYS = {
    "nft": nft(f"tcp dport 30080 {TO}"),
    "nft, some ports": nft(f"tcp dport {{ 80, 30000-30100 }} {TO}"),
    "nft, of an address": nft(f"ip daddr {NODE4} tcp dport 30080 {TO}"),
    "nft, of a range of addresses": nft(f"ip daddr 93.184.216.2-93.184.216.99 tcp dport 30080 {TO}"),
    "nft, of ranges in a map": nft(
        "ip daddr . tcp dport vmap { 93.184.216.2-93.184.216.99 . 30000-30100 : goto web }",
        chain("web", f"meta l4proto tcp {TO}"),
    ),
    "iptables, by a mask with holes": iptables(
        "iptables-nft", f"-A PREROUTING -d 93.0.216.0/255.0.255.0 -p tcp --dport 30080 {JUMPED}"
    ),
    "nft, by a chain": nft(
        "fib daddr type local jump ports",
        chain("web", f"meta l4proto tcp {TO}"),
        chain("ports", "tcp dport 30080 goto web"),
    ),
    "nft, by a verdict map": nft(
        "meta l4proto . th dport vmap @ports", chain("web", f"meta l4proto tcp {TO}"), f"map ports {{\n{PORTS}\n}}"
    ),
    "nft, by a named set": nft(f"tcp dport @ports {TO}", "set ports {\ntype inet_service\nelements = { 80, 30080 }\n}"),
    "nft, by a set of two fields": nft(f"ip daddr . tcp dport {{ 10.1.1.1 . 80, {NODE4} . 30080 }} {TO}"),
    "nft, by a named set of two fields": nft(
        f"ip daddr . tcp dport @ports {TO}",
        "set ports {\ntype ipv4_addr . inet_service\nflags interval\n"
        'elements = { 10.0.0.0/8 . 80-90 comment "a, b } c", 93.184.216.2-93.184.216.99 . 30080 }\n}',
    ),
    "nft, by a set of addresses": nft(f"ip daddr {{ 10.1.1.1, {NODE4} }} tcp dport 30080 {TO}"),
    "nft, by a set of protocols": nft(f"meta l4proto {{ tcp, sctp }} th dport 30080 {TO}"),
    "nft, by a map of interfaces": nft(
        "dnat to iifname . tcp dport map @ports",
        "map ports {\ntype ifname . inet_service : ipv4_addr\n"
        'elements = { "eth0.1" . 9 : 10.1.1.1, "eth0" . 30080 : 10.1.1.1 }\n}',
    ),
    "nft, by a vmap of interfaces": nft(
        'iifname vmap { "lo" : drop, "et*" : goto ports }', chain("ports", f"tcp dport 30080 {TO}")
    ),
    "nft, by chance": nft(
        "tcp dport 30080 goto web",
        chain("first", f"meta l4proto tcp {TO}"),
        chain("second", f"meta l4proto tcp {TO}"),
        chain("web", "numgen random mod 2 vmap { 0 : goto first, 1 : goto second }"),
    ),
    "nft, by a map of addresses and ports": nft(
        "dnat to ip daddr . tcp dport map @ports",
        "map ports {\ntype ipv4_addr . inet_service : ipv4_addr . inet_service\nflags interval\n"
        f"elements = {{ 10.96.0.1-10.96.0.9 . 30080 : 10.1.1.1 . 80, {NODE4} . 30080 : 10.1.1.2 . 80 }}\n}}",
    ),
    "nft, by a map of addresses": nft("dnat to tcp dport map { 30080 : 10.1.1.1, 30081 : 10.1.1.2 }"),
    "nft, of IPv6": nft(f"tcp dport 30080 {TO6}", family="ip6"),
    "nft, of an address of IPv6": nft(f"ip6 daddr {NODE6} tcp dport 30080 {TO6}", family="ip6"),
    "nft, of both families": nft("tcp dport 30080 redirect to :9", family="inet"),
    "iptables": iptables("iptables-nft", f"-A PREROUTING -p tcp --dport 30080 {JUMPED}"),
    "iptables, by a chain": iptables(
        "iptables-nft",
        ":KUBE-NODEPORTS -",
        ":KUBE-EXT -",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        "-A KUBE-NODEPORTS -p tcp -m comment --comment web -m tcp --dport 30080 -j KUBE-EXT",
        f"-A KUBE-EXT -p tcp {JUMPED}",
    ),
    "iptables-legacy": iptables("iptables-legacy", f"-A PREROUTING ! -i docker0 -p tcp --dport 30080 {JUMPED}"),
}
GONE = {
    "nft": ["nft delete table ip other", "nft delete table inet other", "nft delete table ip6 other"],
    "iptables-nft-restore": ["nft delete table ip nat"],
    "iptables-legacy-restore": ["iptables-legacy -t nat -F", "iptables-legacy -t nat -X"],
}


def unread(world: World) -> Wall:
    """The wall, to which nothing of others was told yet: what a row before left is no answer to the next."""
    return rewired(world.wall, neighbours=OtherRules())


def place(world: World, program: str, rules: str) -> None:
    world.lab.node.run([program, *(["-f", "-"] if program == "nft" else [])], input=rules.encode())


def clear(world: World, program: str) -> None:
    for command in GONE[program]:
        world.lab.node.run(command.split(), check=False)


@pytest.mark.parametrize("way", WAYS)
def test_a_port_that_others_lead_elsewhere_is_not_published(world: World, way: str) -> None:
    tenant, (program, rules), wall = world.attach("tenant"), WAYS[way], unread(world)
    place(world, program, rules)
    try:
        with pytest.raises(Conflict, match=r"^expose\.host_port: 30080:80/tcp: others lead that port elsewhere, in "):
            wall.expose(tenant.name, "30080:80")
        with pytest.raises(Conflict, match=r"others lead that port elsewhere"):
            wall.attach("late", netns=world.host("late").netns, expose=["30080:80"])
        for free in ("30180:80", "30080:80/udp"):
            wall.expose(tenant.name, free)
    finally:
        clear(world, program)
    with tenant.host.serve(tcp=[80]):
        world.wall.expose(tenant.name, "30080:80")
        assert_connection(world.lab.lan, NODE4, 30080)
    world.detach(tenant)


SERVICES = "type ipv4_addr . inet_proto . inet_service : verdict\nelements = { 10.96.0.10 . tcp . 30080 : goto web }"
ELSEWHERE = {
    "another address": nft(f"ip daddr 10.96.0.10 tcp dport 30080 {TO}"),
    "another address, by a map": nft(
        "ip daddr . meta l4proto . th dport vmap @services",
        chain("web", f"meta l4proto tcp {TO}"),
        f"map services {{\n{SERVICES}\n}}",
    ),
    "a range of other addresses": nft(f"ip daddr 10.96.0.1-10.96.0.9 tcp dport 30080 {TO}"),
    "other addresses, by a set": nft(f"ip daddr {{ 10.96.0.1, 10.97.0.0/16 }} tcp dport 30080 {TO}"),
    "other addresses, by a map with ranges": nft(
        "dnat to ip daddr . tcp dport map @ports",
        "map ports {\ntype ipv4_addr . inet_service : ipv4_addr\nflags interval\n"
        "elements = { 10.96.0.1-10.96.0.9 . 30080 : 10.1.1.1 }\n}",
    ),
    "another interface, by a map": nft(
        "dnat to iifname . tcp dport map @ports",
        'map ports {\ntype ifname . inet_service : ipv4_addr\nelements = { "eth0.1" . 30080 : 10.1.1.1 }\n}',
    ),
    "no port, by an empty set": nft(f"tcp dport @ports {TO}", "set ports {\ntype inet_service\n}"),
    "other ports, by a set": nft(f"tcp dport @ports {TO}", "set ports {\ntype inet_service\nelements = { 30081 }\n}"),
    "another protocol": nft(f"meta l4proto {{ udp, sctp }} th dport 30080 {TO}"),
    "another address, in iptables": iptables(
        "iptables-nft", f"-A PREROUTING -d 10.96.0.10/32 -p tcp --dport 30080 {JUMPED}"
    ),
    "another address of IPv6": nft(f"ip6 daddr 2001:db8:a::10 tcp dport 30080 {TO6}", family="ip6"),
    "another interface": nft(f"iifname eth1 tcp dport 30080 {TO}"),
    "another port": nft(f"tcp dport 30081 {TO}"),
    "a chain of no hook": nft("accept", chain("idle", f"tcp dport 30080 {TO}")),
    "what the node sends": nft(f"tcp dport 30080 {TO}", base="nat hook output priority -100"),
    "a source": nft("tcp dport 30080 masquerade", base="nat hook postrouting priority 100"),
    "an accept": nft("tcp dport 30080 accept"),
}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_what_is_led_elsewhere_from_elsewhere_is_nobodys_port(world: World, way: str) -> None:
    tenant, (program, rules), wall = world.attach("tenant"), ELSEWHERE[way], unread(world)
    place(world, program, rules)
    try:
        wall.expose(tenant.name, "30080:80")
    finally:
        clear(world, program)
    world.detach(tenant)


def test_who_leads_a_published_port_elsewhere_is_told(world: World) -> None:
    tenant = world.attach("tenant", expose=["30080:80"])
    place(world, *WAYS["nft"])
    try:
        (line,) = (line for line in world.wall.status().warnings if "30080" in line)
        assert line.endswith("others want what comes to one port: table ip other, chain base")
    finally:
        clear(world, "nft")
    assert not any("30080" in line for line in world.wall.status().warnings)
    world.detach(tenant)


def test_clients_of_a_service_behind_the_node_stay_its_own(world: World) -> None:
    """As those of a NodePort do: no socket listens on the node."""
    tenant, lan = world.attach("tenant"), world.lab.lan
    place(world, *WAYS["nft"])
    try:
        with world.lab.infra.serve(tcp=[80]):
            assert_connection(lan, NODE4, 30080)
            with pytest.raises(Conflict):
                world.wall.expose(tenant.name, "30080:80")
            assert_connection(lan, NODE4, 30080)
    finally:
        clear(world, "nft")
    world.detach(tenant)


AFTER = {
    "the same name": (nft("tcp dport 30081 redirect to :9"), False),
    "another name": (nft("tcp dport 30081 redirect to :9", name="successor"), False),
    "another family": (nft("tcp dport 30081 redirect to :9", family="ip6"), False),
    "the same rule": (WAYS["nft"], True),
}


@pytest.mark.parametrize("after", AFTER)
def test_a_table_like_one_that_was_read_is_read_itself(world: World, after: str) -> None:
    """Its chain has the handle and the number of rules of the other one's."""
    tenant, ((program, rules), leads) = world.attach("tenant"), AFTER[after]
    place(world, *WAYS["nft"])
    try:
        with pytest.raises(Conflict):
            world.wall.expose(tenant.name, "30080:80")
        clear(world, "nft")
        place(world, program, rules)
        with pytest.raises(Conflict) if leads else nullcontext():
            world.wall.expose(tenant.name, "30080:80")
    finally:
        clear(world, "nft")
        world.lab.node.run(["nft", "delete", "table", "ip", "successor"], check=False)
    world.detach(tenant)


def test_a_port_of_the_other_family_is_nobodys(world: World) -> None:
    tenant, wall = world.attach("tenant"), unread(world)
    place(world, *WAYS["nft, of IPv6"])
    try:
        wall.expose(tenant.name, f"{NODE4}:30080:80")
    finally:
        clear(world, "nft")
    world.detach(tenant)


def test_a_rule_that_others_add_counts_at_once(world: World) -> None:
    tenant, wall = world.attach("tenant"), unread(world)
    place(world, *nft(f"tcp dport 30081 {TO}"))
    try:
        wall.expose(tenant.name, "30180:80")
        world.lab.node.run(f"nft add rule ip other base tcp dport 30080 {TO}".split())
        with pytest.raises(Conflict):
            wall.expose(tenant.name, "30080:80")
    finally:
        clear(world, "nft")
    world.detach(tenant)


def test_a_rule_that_others_exchange_for_another_counts_a_minute_later(world: World) -> None:
    """Nothing that is looked at before shows it."""
    now = 0.0
    translations = OthersTranslations(lambda: now)
    place(world, *nft(f"tcp dport 30081 {TO}"))
    try:
        assert [one.first for one in translations.read()] == [30081]
        exchange = f"flush chain ip other base; add rule ip other base tcp dport 30080 {TO}"
        world.lab.node.run(["nft", exchange])
        now = 59.0
        assert [one.first for one in translations.read()] == [30081]
        now = 61.0
        assert [one.first for one in translations.read()] == [30080]
    finally:
        clear(world, "nft")
