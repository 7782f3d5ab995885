"""`Links` on the real kernel: how a link ends, and what is done about one that somebody changed."""

from collections.abc import Callable

import msgspec
import pytest

from cellwall.adapters.interfaces.links import LinkLayer
from cellwall.engine.contracts import PortPlan
from cellwall.names import REAPER_GROUP

from .conftest import Namespace
from .endpoints import NETWORK, Attached

pytestmark = pytest.mark.root


def test_retired_port_is_down_in_the_group_and_forgotten(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    made = attach(7).open(links)
    links.retire(made.port, made.name)
    host = links.find(made.name)
    assert host is not None
    assert (host.up, host.group) == (False, REAPER_GROUP)
    assert not {str(made.address4), str(made.address6)} & node.neighbours().keys()


def test_retiring_tolerates_absence(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7).open(links)
    links.retire(made.port, made.name)
    assert links.reap() == 1
    links.retire(made.port, made.name)
    links.delete_bridge(NETWORK)
    links.retire(made.port, made.name)


def test_a_reused_index_is_not_retired(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    old, other = attach(7).open(links), attach(8).open(links)
    stale = PortPlan(other.index, old.port.bridge_index, old.mac, old.address4)
    links.retire(stale, old.name)
    for name in (old.name, other.name):
        link = links.find(name)
        assert link is not None
        assert link.up


def test_reap_deletes_the_retired_only(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    assert links.reap() == 0
    gone, stays = attach(7).open(links), attach(8).open(links)
    links.retire(gone.port, gone.name)
    assert links.reap() == 1
    assert links.find(gone.name) is None
    assert links.find(stays.name) is not None
    assert links.reap() == 0


def test_reap_spares_a_link_that_is_not_ours(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    made = attach(7).open(links)
    links.retire(made.port, made.name)
    node.run(f"ip link add foreign group {REAPER_GROUP} type bridge")
    assert links.reap() == 1
    assert links.find("foreign") is not None
    assert links.find(made.name) is None


def test_observe_names_every_link(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7)
    assert {link.name: link.kind for link in links.observe()} == {"lo": "", NETWORK.bridge: "bridge", made.name: "veth"}
    assert links.find("nothing") is None


# ---------------------------------------------------------------- repair


def test_delete_checks_name_and_index(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made, other = attach(7), attach(8)
    present = links.find(made.name)
    assert present is not None
    links.delete(msgspec.structs.replace(present, index=other.index))
    assert {link.name for link in links.observe()} >= {made.name, other.name}
    links.delete(present)
    links.delete(present)
    assert links.find(made.name) is None
    assert links.find(other.name) is not None


def test_a_port_that_was_taken_off_the_bridge_is_put_back(
    links: LinkLayer, node: Namespace, attach: Callable[..., Attached]
) -> None:
    made = attach(7)
    node.run(f"ip link set {made.name} nomaster")
    links.enslave(made.index, made.port.bridge_index)
    links.enslave(made.index, made.port.bridge_index)
    found = links.find(made.name)
    assert found is not None
    assert found.master == made.port.bridge_index


def test_inspection_sees_what_root_inside_changed(links: LinkLayer, attach: Callable[..., Attached]) -> None:
    made = attach(7).open(links)
    whole = links.inspect_sandbox("eth0", made.sandbox.fd)
    assert whole is not None
    assert (whole.mac, whole.up, whole.mtu, set(whole.addresses), set(whole.default_routes)) == (
        made.mac,
        True,
        1500,
        {made.address4, made.address6},
        {4, 6},
    )
    made.sandbox.run("ip link set eth0 down")
    made.sandbox.run("ip link set eth0 address 02:00:00:00:00:66")
    changed = links.inspect_sandbox("eth0", made.sandbox.fd)
    assert changed is not None
    assert (changed.mac, changed.up, changed.default_routes) == (0x020000000066, False, ())
    assert links.inspect_sandbox("eth1", made.sandbox.fd) is None


def test_a_default_route_by_a_next_hop_object_is_seen(attach: Callable[..., Attached], links: LinkLayer) -> None:
    made = attach(7).open(links)
    for line in (
        "sysctl -qw net.ipv4.nexthop_compat_mode=0",
        "ip nexthop add id 7 via 192.168.0.1 dev eth0",
        "ip nexthop add id 8 via fd00:abcd::1 dev eth0",
        "ip nexthop add id 9 group 8",
        "ip route replace default nhid 7",
        "ip -6 route del default",
        "ip -6 route add default nhid 9",
    ):
        made.sandbox.run(line)
    seen = links.inspect_sandbox("eth0", made.sandbox.fd)
    assert seen is not None
    assert seen.default_routes == (4, 6)
