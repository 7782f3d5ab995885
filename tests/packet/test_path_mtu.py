"""Transfers over a path that is narrower than the links at its ends, where every error that would say so is lost.

    node ──eth0── lan ──(1,400 bytes)── mid ──(1,500)── far

The routers `lan` and `mid` send no ICMP error. The node's route to `far` knows its width, as an operator's of a tunnel
does; nobody else does.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.lab import Host, connect
from cellwall.lab.addresses import LAN4, LAN6, NODE4, NODE6
from cellwall.lab.transfer import echoed_bytes
from cellwall.model.settings import Settings
from world import Sandbox, World, open_world, take_out

pytestmark = pytest.mark.root

NARROW = 1400
FAR = {4: "104.16.2.2", 6: "2606:4700:12::2"}
NODE = {4: NODE4, 6: NODE6}
HEADERS = {4: 40, 6: 60}
ECHO = 7
SIZE = 1 << 20
SILENT = """
table inet hole {
    chain out {
        type filter hook output priority 0
        icmp type destination-unreachable drop
        icmpv6 type packet-too-big drop
    }
}
"""
THE_RULE = "segments fit the path"


class Path(NamedTuple):
    world: World
    tenant: Sandbox
    far: Host


@pytest.fixture
def path() -> Iterator[Path]:
    yield from walled()


def walled(settings: Settings | None = None) -> Iterator[Path]:
    with open_world(settings=settings) as world:
        far = narrow_path(world)
        tenant = world.attach("tenant", expose=["8080:7"])
        with far.serve(tcp=[ECHO]), tenant.host.serve(tcp=[ECHO]):
            yield Path(world, tenant, far)


def narrow_path(world: World) -> Host:
    lan, mid, far = world.lab.lan, world.host("mid"), world.host("far")
    lan.ip(
        [
            f"link add narrow mtu {NARROW} type veth peer name eth0 mtu {NARROW} netns {mid.netns.name}",
            *on("narrow", "104.16.1.1/24", "2606:4700:11::1/64"),
        ]
    )
    mid.ip(
        [
            f"link add wide type veth peer name eth0 netns {far.netns.name}",
            *on("eth0", "104.16.1.2/24", "2606:4700:11::2/64"),
            *on("wide", "104.16.2.1/24", "2606:4700:12::1/64"),
            "route add default via 104.16.1.1",
            "route add default via 2606:4700:11::1",
        ]
    )
    far.ip(
        [
            *on("eth0", f"{FAR[4]}/24", f"{FAR[6]}/64"),
            "route add default via 104.16.2.1",
            "route add default via 2606:4700:12::1",
        ]
    )
    lan.ip(["route add 104.16.2.0/24 via 104.16.1.2", "route add 2606:4700:12::/64 via 2606:4700:11::2"])
    world.lab.node.ip(
        [
            f"route replace default via {LAN4}",  # what lies behind another router than the default one is denied
            f"route replace default via {LAN6}",
            f"route add 104.16.2.0/24 via {LAN4} mtu {NARROW}",
            f"route add 2606:4700:12::/64 via {LAN6} mtu {NARROW}",
        ]
    )
    for router in (lan, mid):
        router.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        router.run(["nft", "-f", "-"], input=SILENT.encode())
    return far


def on(link: str, address4: str, address6: str) -> list[str]:
    return [f"address add {address4} dev {link}", f"address add {address6} dev {link} nodad", f"link set {link} up"]


@pytest.mark.parametrize("family", [4, 6])
def test_a_large_transfer_passes_a_path_that_swallows_what_is_too_big(path: Path, family: int) -> None:
    assert echoed_bytes(path.tenant.host, FAR[family], ECHO, SIZE) >= SIZE
    take_out(path.world, THE_RULE)
    assert echoed_bytes(path.tenant.host, FAR[family], ECHO, SIZE, timeout=1.5) < SIZE


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_behind_a_narrow_path_transfers_from_a_published_port(path: Path, family: int) -> None:
    assert echoed_bytes(path.far, NODE[family], 8080, SIZE) >= SIZE
    take_out(path.world, THE_RULE)
    assert echoed_bytes(path.far, NODE[family], 8080, SIZE, timeout=1.5) < SIZE


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_fits_segments_too(variant: str) -> None:
    for path in walled(parsed(variant)):
        for family in (4, 6):
            assert echoed_bytes(path.tenant.host, FAR[family], ECHO, SIZE) >= SIZE
            assert echoed_bytes(path.far, NODE[family], 8080, SIZE) >= SIZE
        held = path.world.wall.settings  # `--backend` may have another wall
        if held.backend == "nftables":
            take_out(path.world, THE_RULE)
        else:
            for program in (f"iptables-{held.iptables}", f"ip6tables-{held.iptables}"):
                take_out_of_iptables(path.world, program)
        for family in (4, 6):
            assert echoed_bytes(path.tenant.host, FAR[family], ECHO, SIZE, timeout=1.5) < SIZE


def parsed(variant: str) -> Settings:
    return Settings(backend="iptables", iptables="legacy" if variant == "legacy" else "nft")


def take_out_of_iptables(world: World, program: str) -> None:
    """Every rule that fits segments."""
    table, lines = "", []
    for line in world.lab.node.run([f"{program}-save"]).text.splitlines():
        table = line if line.startswith("*") else table
        if "-j TCPMSS" in line:
            lines += [table, line.replace("-A", "-D", 1), "COMMIT"]
    assert lines
    world.lab.node.run([f"{program}-restore", "--noflush"], input="\n".join([*lines, ""]).encode())


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_sandbox_says_of_its_segments_is_lowered_to_the_path_and_never_raised(path: Path, family: int) -> None:
    """Options of every kind that a sandbox can put there; the broken ones arrive as they are or not at all, and the
    sandbox after them is served as before."""
    fits = NARROW - HEADERS[family]
    said = {
        "more": ([("MSS", 65535)], fits),
        "as the link": ([("MSS", 1460)], fits),
        "less": ([("MSS", 100)], 100),
        "nothing": ([("MSS", 0)], 0),
        "none": ([], None),
        "behind others": ([("NOP", None), ("NOP", None), ("MSS", 9000)], fits),
    }
    frames, sentinel = [], path.world.token("sentinel")
    for name, (options, _) in said.items():
        frames.append(syn(path, family, f"<{name}>".encode(), options))
    for number, raw in enumerate(BROKEN):
        frames.append(syn(path, family, f"<broken {number}>".encode(), [], raw=raw))
    frames.append(syn(path, family, sentinel, []))
    with path.far.capture("eth0", outgoing=False) as wire:
        path.tenant.host.inject("eth0", [bytes(frame) for frame in frames])
        seen = wire.read_until(sentinel)
    for name, (_, expected) in said.items():
        (arrived,) = [Ether(frame) for frame in seen if f"<{name}>".encode() in frame]
        assert dict(arrived[TCP].options).get("MSS") == expected, name
    for number, raw in enumerate(BROKEN):
        token = f"<broken {number}>".encode()
        assert all(raw + token in frame for frame in seen if token in frame), number
    assert connect(path.tenant.host, FAR[family], ECHO).kind == "answer"


BROKEN = (
    b"\x02\x00\x05\xb4",  # no length
    b"\x02\x03\xff\x00",  # too short for its value
    b"\x01\x01\x01\x02",  # cut off by the end of the header
    b"\x01\x02\x04\xff",  # its value is cut off
    b"\x02\xff\xff\xff",  # longer than the header
)


def syn(path: Path, family: int, token: bytes, options: list[object], *, raw: bytes = b"") -> Ether:
    """The wall's gateway gets a SYN that carries `token`."""
    endpoint = path.tenant.endpoint
    network = path.world.wall.settings.network
    header = IP(src=str(endpoint.address4), dst=FAR[4]) if family == 4 else IPv6(src=str(endpoint.address6), dst=FAR[6])
    ports = {"sport": 20000 + int.from_bytes(token[-6:-2], "big") % 10000, "dport": ECHO, "flags": "S", "seq": 1}
    tcp = TCP(**ports, options=options)
    tcp = TCP(**ports, dataofs=5 + len(raw) // 4) / Raw(raw + token) if raw else tcp / Raw(token)
    return Ether(src=endpoint.mac.to_bytes(6, "big"), dst=network.bridge_mac.to_bytes(6, "big")) / header / tcp
