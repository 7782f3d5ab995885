"""`Links` on the real kernel: what a pair, a bridge port and a sandbox are after each step."""

import errno
import os
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.engine.contracts import LinkPlan, PortPlan, SandboxPlan
from cellwall.errors import AlreadyExists, KernelError, NoPrivilege, NotFound
from cellwall.model.addresses import mac_text

from .conftest import Namespace
from .endpoints import NETWORK, Attached

pytestmark = pytest.mark.root

MakeNamespace = Callable[[], Namespace]


# ---------------------------------------------------------------- the pair


def test_pair_is_born_enslaved_and_closed(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    host = links.find(made.name)
    assert host is not None
    assert (host.index, host.kind, host.master, host.up, host.mtu) == (
        made.index,
        "veth",
        made.port.bridge_index,
        False,
        1500,
    )
    (peer,) = made.sandbox.json("ip -j link show dev eth0")
    assert (peer["address"], peer["mtu"], "UP" in peer["flags"]) == (mac_text(made.mac), 1500, False)


def test_taken_host_name_is_refused_and_left_alone(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    with pytest.raises(AlreadyExists):
        links.create_pair(LinkPlan(made.name, "eth1", 0x020000000099, 1500, made.port.bridge_index), made.sandbox.fd)
    assert links.find(made.name) is not None
    assert [link["ifname"] for link in made.sandbox.json("ip -j link show")] == ["lo", "eth0"]


def test_taken_name_inside_is_refused_and_leaves_no_host_end(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    with pytest.raises(AlreadyExists):
        links.create_pair(
            LinkPlan("b9hffffffffffff", "eth0", 0x020000000099, 1500, made.port.bridge_index), made.sandbox.fd
        )
    assert links.find("b9hffffffffffff") is None


def test_pair_without_its_bridge_is_not_made(links: LinkLayer, make_namespace: MakeNamespace) -> None:
    sandbox = make_namespace()
    with pytest.raises(KernelError):
        links.create_pair(LinkPlan("b9h000000000001", "eth0", 0x0A5800000001, 1500, 4711), sandbox.fd)
    assert links.find("b9h000000000001") is None
    assert [link["ifname"] for link in sandbox.json("ip -j link show")] == ["lo"]


def test_a_namespace_has_a_lower_id_than_any_before_it_and_keeps_the_one_that_it_has(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    def netnsid(name: str) -> int:
        (link,) = node.json(f"ip -j link show dev {name}")
        return int(link["link_netnsid"])

    first = attach(7)
    time.sleep(0.002)  # an id is of a millisecond
    later = attach(8)
    assert netnsid(later.name) < netnsid(first.name)
    bridge = first.port.bridge_index
    links.create_pair(LinkPlan("b9hffffffffffff", "eth1", 0x020000000099, 1500, bridge), first.sandbox.fd)
    assert netnsid("b9hffffffffffff") == netnsid(first.name)


def test_neither_end_generates_an_address(links: LinkLayer, node: Namespace, attach: Callable[..., Attached]) -> None:
    made = attach(7).open(links)
    assert node.addresses(made.name) == set()
    assert not any(address.startswith("fe80") for address in made.sandbox.addresses("eth0"))


def test_without_the_capability_it_says_so(links: LinkLayer, node: Namespace) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(NoPrivilege):
            links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    finally:
        os.seteuid(0)
    assert links.find(NETWORK.bridge) is None


# ---------------------------------------------------------------- the bridge port


def test_port_has_every_flag(links: LinkLayer, node: Namespace, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    links.lock_port(made.port)
    links.lock_port(made.port)
    (flags,) = node.json(f"bridge -d -j link show dev {made.name}")
    wanted = {
        "isolated": True,
        "locked": True,
        "learning": False,
        "flood": False,
        "mcast_flood": False,
        "bcast_flood": False,
        "guard": True,
        "root_block": True,
        "hairpin": False,
        "neigh_suppress": False,
        "mcast_router": 0,
    }
    assert {name: flags[name] for name in wanted} == wanted


def test_port_has_its_static_forwarding_entry(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    made = attach(7)
    links.lock_port(made.port)
    entries = [
        entry
        for entry in node.json(f"bridge -j fdb show dev {made.name}")
        if entry["mac"] == mac_text(made.mac) and entry.get("master") == NETWORK.bridge
    ]
    assert [(entry["state"], "sticky" in entry["flags"]) for entry in entries] == [("static", True)]


def test_node_knows_the_endpoint_for_good(links: LinkLayer, node: Namespace, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    links.lock_port(made.port)
    permanent = (mac_text(made.mac), "PERMANENT")
    known = node.neighbours()
    assert known[str(made.address4)] == permanent
    assert known[str(made.address6)] == permanent


def test_ensuring_the_bridge_again_forgets_no_endpoint(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    attach(7).open(links)

    def known() -> dict[str, tuple[str, str]]:
        """For good: entries of groups come by themselves, with the first report to one."""
        return {address: entry for address, entry in node.neighbours().items() if entry[1] == "PERMANENT"}

    before = known()
    links.ensure_bridge(NETWORK, ipv6=True, mtu=1500)
    assert known() == before
    assert len(before) == 2


def test_locking_an_absent_port_says_no_such_device(links: LinkLayer, node: Namespace) -> None:
    with pytest.raises(KernelError) as caught:
        links.lock_port(PortPlan(4711, 4712, 0x0A5800000001, IPv4Address("192.168.0.7")))
    assert caught.value.errno == errno.ENODEV


# ---------------------------------------------------------------- the sandbox


def test_sandbox_gets_addresses_routes_and_its_gateway(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7).open(links)
    links.configure_sandbox(made.plan(), made.sandbox.fd)  # again: nothing to complain about
    assert made.sandbox.addresses("eth0") == {"192.168.0.7/20", "fd00:abcd::7/64"}
    assert "127.0.0.1/8" in made.sandbox.addresses("lo")
    permanent = (mac_text(NETWORK.bridge_mac), "PERMANENT")
    known = made.sandbox.neighbours()
    assert (known["192.168.0.1"], known["fd00:abcd::1"]) == (permanent, permanent)
    for command in ("ip -j route show", "ip -j -6 route show"):
        routes = {route["dst"]: route.get("gateway") for route in made.sandbox.json(command)}
        gateway = routes.pop("default")
        assert routes == {gateway: None}


@pytest.mark.parametrize("neighbour", ["192.168.0.9", "fd00:abcd::9"])
def test_a_neighbour_is_behind_the_gateway(links: LinkLayer, attach: Callable[..., Attached], neighbour: str) -> None:
    made = attach(7).open(links)
    (route,) = made.sandbox.json(f"ip -j route get {neighbour}")
    assert route["gateway"] in ("192.168.0.1", "fd00:abcd::1")


def test_sandbox_without_ipv6_has_it_off(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7, ipv6=False).open(links)
    assert made.sandbox.addresses("eth0") == {"192.168.0.7/20"}
    with made.sandbox.entered(), open("/proc/sys/net/ipv6/conf/eth0/disable_ipv6") as stream:
        assert stream.read().strip() == "1"


def test_sandbox_whose_runtime_turned_ipv6_off_gets_it_on_its_endpoint(
    links: LinkLayer, attach: Callable[..., Attached], make_namespace: MakeNamespace
) -> None:
    sandbox = make_namespace()
    with sandbox.entered():
        for scope in ("all", "default"):
            with open(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6", "w") as stream:
                stream.write("1")
    made = Attached(links, sandbox, 7).open(links)
    assert made.sandbox.addresses("eth0") == {"192.168.0.7/20", "fd00:abcd::7/64"}


def test_sandbox_without_the_interface_is_not_found(links: LinkLayer, make_namespace: MakeNamespace) -> None:
    plan = SandboxPlan("eth0", IPv4Address("192.168.0.7"), 20, NETWORK.gateway4, NETWORK.bridge_mac)
    with pytest.raises(NotFound):
        links.configure_sandbox(plan, make_namespace().fd)


# ---------------------------------------------------------------- packets


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_packets_pass_both_ways_from_the_first_on(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached], family: int
) -> None:
    made = attach(7).open(links)
    gateway = str(NETWORK.gateway4 if family == socket.AF_INET else NETWORK.gateway6)
    with (
        node.socket(family, socket.SOCK_DGRAM) as server,
        made.sandbox.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((gateway, 0))
        server.settimeout(10)
        client.settimeout(10)
        client.sendto(b"to the node", server.getsockname()[:2])
        data, source = server.recvfrom(100)
        server.sendto(data[::-1], source)
        assert client.recv(100) == b"to the node"[::-1]


def test_an_ipv6_address_is_answered_for_as_soon_as_it_was_given(make_namespace: MakeNamespace) -> None:
    """Often, because the kernel's worker, which puts its local route in, is late only now and then."""
    for _ in range(30):
        node, sandbox = make_namespace(), make_namespace()
        with node.entered(), LinkLayer() as links:
            made = Attached(links, sandbox, 7)
            assert answered_for(node, NETWORK.gateway6)
            assert answered_for(node, NETWORK.gateway_link_local)
            links.configure_sandbox(made.plan(), sandbox.fd)
            assert answered_for(sandbox, made.address6)


def test_an_ipv6_address_is_answered_for_before_the_kernels_own_route_is_there(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    made = attach(7).open(links)
    links.configure_sandbox(made.plan(), made.sandbox.fd)  # again: nothing to complain about
    for namespace, address, link in (
        (node, NETWORK.gateway6, NETWORK.bridge),
        (node, NETWORK.gateway_link_local, NETWORK.bridge),
        (made.sandbox, made.address6, "eth0"),
    ):
        deadline = time.monotonic() + 10
        while (routes := local_routes(namespace, address))[0].get("metric", 0):
            assert time.monotonic() < deadline, routes
            time.sleep(0.001)
        assert ["expires" in route for route in routes] == [False, True], "ours ends by itself"
        namespace.run(f"ip -6 route del local {address} dev {link} table local")
        assert len(local_routes(namespace, address)) == 1
    with (
        made.sandbox.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        node.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("::", 0))
        server.settimeout(5)
        client.settimeout(5)
        client.sendto(b"to the sandbox", (str(made.address6), server.getsockname()[1]))
        data, source = server.recvfrom(100)
        assert source[0] == str(NETWORK.gateway6)
        server.sendto(data[::-1], source)
        assert client.recv(100) == b"to the sandbox"[::-1]


def local_routes(namespace: Namespace, address: object) -> list[dict[str, Any]]:
    """Whatever answers for the address, the kernel's own first."""
    return [one for one in namespace.json("ip -6 -j route show table local") if one["dst"] == str(address)]


def answered_for(namespace: Namespace, address: IPv6Address | None) -> bool:
    """The kernel has a local route of 128 bits for the address."""
    assert address is not None
    with namespace.entered():
        routes = Path("/proc/thread-self/net/ipv6_route").read_text().splitlines()
    return any(line.startswith(f"{address.packed.hex()} 80 ") for line in routes)


def test_frames_do_not_pass_between_sandboxes(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    attacker, victim = attach(7).open(links), attach(8).open(links)
    with victim.sandbox.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as capture:
        capture.bind(("eth0", 0x88B5))
        capture.settimeout(10)
        for destination in (victim.mac, 0xFFFFFFFFFFFF, 0x333300000001):
            attacker.inject(attacker.frame(destination, payload=b"attack"))
        with node.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((NETWORK.bridge, 0))
            raw.send(attacker.frame(victim.mac, source=NETWORK.bridge_mac, payload=b"sentinel"))
        assert b"sentinel" in capture.recv(200)


def test_a_stolen_mac_does_not_move_the_victims_entry(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    attacker, victim = attach(7).open(links), attach(8).open(links)
    attacker.inject(attacker.frame(NETWORK.bridge_mac, source=victim.mac))
    with (
        victim.sandbox.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        node.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind((str(victim.address4), 0))
        server.settimeout(10)
        client.sendto(b"for the victim", server.getsockname())
        assert server.recv(100) == b"for the victim"
