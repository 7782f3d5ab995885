"""CHECK, GC and STATUS of the installed executable: what somebody changed, what the runtime forgot, how the node is."""

from collections.abc import Callable
from typing import Any

import pytest
from cni_plugin import Plugin

from cellwall.api import Wall
from cellwall.lab import Host, Lab
from cellwall.model.addresses import mac_text

pytestmark = pytest.mark.root
NewSandbox = Callable[[], Host]


def test_check_finds_nothing_on_an_untouched_endpoint(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    for number, version in enumerate(("0.4.0", "1.0.0", "1.1.0")):
        box = sandbox()
        result = plugin.add(f"c{number}", box, conf=plugin.conf(cniVersion=version))
        reply = plugin.call("CHECK", f"c{number}", box, conf=plugin.conf(cniVersion=version, prevResult=result))
        assert (reply.status, reply.document) == (0, {}), reply


@pytest.mark.parametrize(("command", "told"), [
    ("link set eth0 address 02:00:00:00:00:66", "02:00:00:00:00:66"),
    ("address del {address4} dev eth0", "{ip4}"),
    ("route del default", "route"),
    ("link set eth0 down", "down"),
    ("link del eth0", "eth0"),
])  # fmt: skip
def test_check_finds_what_changed_inside(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, command: str, told: str
) -> None:
    box = sandbox()
    result = plugin.add("web", box)
    address4 = result["ips"][0]["address"]
    words = {"address4": address4, "ip4": address4.partition("/")[0]}
    box.run(["ip", *command.format(**words).split()])
    reply = plugin.call("CHECK", "web", box, conf=plugin.conf(prevResult=result))
    assert reply.document["code"] == 107, reply
    assert told.format(**words) in reply.document["details"]


@pytest.mark.parametrize(
    ("command", "told", "of_node"),
    [
        ("bridge link set dev {link} isolated off", "isolated is 0, not 1", False),
        ("bridge link set dev {link} learning on", "learning is 1, not 0", False),
        ("bridge fdb del {mac} dev {link} master", "its forwarding entry {mac} is missing", False),
        ("ip neigh del {address} dev b9_br0", "its neighbour {address} is missing", False),
        ("ip link set {link} down", "link {link} of web/eth0 is down", False),
        ("ip link set b9_br0 type bridge stp_state 1", "has stp_state 1, not 0", True),
        ("sysctl -qw net.ipv4.conf.b9_br0.rp_filter=0", "net/ipv4/conf/b9_br0/rp_filter is 0, not 1", True),
    ],
)
def test_check_and_both_statuses_find_what_changed_on_the_node(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, command: str, told: str, of_node: bool
) -> None:
    """The runtime's one tells what is wrong with the node, not with a single port."""
    box = sandbox()
    result = plugin.add("web", box)
    endpoint = wall.endpoint("web")
    words = {"link": endpoint.host_link, "mac": mac_text(endpoint.mac), "address": str(endpoint.address4)}
    plugin.lab.node.run(command.format(**words).split())
    check = plugin.call("CHECK", "web", box, conf=plugin.conf(prevResult=result))
    status = plugin.call("STATUS")
    assert check.document["code"] == 107
    assert told.format(**words) in check.document["details"]
    assert any(told.format(**words) in line for line in wall.status().drift)
    assert status.document.get("code", 0) == (51 if of_node else 0)
    assert told.format(**words) in status.document.get("details", "") or not of_node
    wall.reconcile()
    assert plugin.call("CHECK", "web", box, conf=plugin.conf(prevResult=result)).status == 0


def test_check_compares_the_result_that_the_runtime_kept(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    box, other = sandbox(), sandbox()
    result = plugin.add("web", box)
    changed: dict[str, Any] = {**result, "ips": [{"address": "192.168.9.9/20"}]}
    reply = plugin.call("CHECK", "web", box, conf=plugin.conf(prevResult=changed))
    assert reply.document["code"] == 107
    assert "prevResult.ips" in reply.message
    reply = plugin.call("CHECK", "web", other, conf=plugin.conf(prevResult=result))
    assert reply.document["code"] == 107
    assert "not the namespace that was attached" in reply.message
    missing = plugin.call("CHECK", "web", box)
    assert (missing.document["code"], "prevResult" in missing.message) == (7, True)


def test_check_of_an_unknown_container_has_its_own_code(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    reply = plugin.call("CHECK", "ghost", sandbox(), conf=plugin.conf(prevResult={}))
    assert reply.document["code"] == 3
    assert "ghost" in reply.message


def test_gc_removes_what_this_network_made_and_the_runtime_forgot(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    for name in ("keep", "stale"):
        plugin.add(name, sandbox())
    plugin.add("foreign", sandbox(), conf=plugin.conf(name="other"))
    wall.attach("by-hand", netns=sandbox().netns)
    valid = [{"containerID": "keep", "ifname": "eth0"}, {"containerID": "unknown", "ifname": "eth0"}]
    reply = plugin.call("GC", conf={**plugin.conf(), "cni.dev/valid-attachments": valid})
    assert (reply.status, reply.document) == (0, {})
    assert [endpoint.key.container_id for endpoint in wall.endpoints()] == ["by-hand", "foreign", "keep"]
    reply = plugin.call("GC", conf={**plugin.conf(), "cni.dev/valid-attachments": []})
    assert [endpoint.key.container_id for endpoint in wall.endpoints()] == ["by-hand", "foreign"]


def test_gc_without_a_list_removes_nothing(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    plugin.add("web", sandbox())
    reply = plugin.call("GC")
    assert reply.document["code"] == 7
    assert "cni.dev/valid-attachments" in reply.message
    assert len(wall.endpoints()) == 1


def test_status_is_silent_on_a_healthy_node_and_on_one_that_is_not_up(
    plugin: Plugin, wall: Wall, lab: Lab, sandbox: NewSandbox
) -> None:
    plugin.add("web", sandbox())
    for root in (lab.root, lab.root / "never-up"):
        reply = plugin.call("STATUS", conf=plugin.conf(root=str(root)))
        assert (reply.status, reply.document) == (0, {}), reply


@pytest.mark.parametrize("command", ["ip link del eth0", "ip link set eth0 down", "ip link set eth0 name gone0"])
def test_what_a_tenant_does_to_its_own_interface_is_no_fault_of_the_node(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, command: str
) -> None:
    """Otherwise any tenant could keep a runtime from starting containers on this node."""
    box = sandbox()
    result = plugin.add("web", box)
    box.run(command.split())
    reply = plugin.call("STATUS")
    assert (reply.status, reply.document) == (0, {}), reply
    assert plugin.call("CHECK", "web", box, conf=plugin.conf(prevResult=result)).document["code"] == 107


def test_status_tells_a_damaged_wall_and_the_next_reconcile_silences_it(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    plugin.add("web", sandbox())
    plugin.lab.node.run(["nft", "flush", "chain", "inet", "cellwall", "B9-FORWARD"])
    reply = plugin.call("STATUS")
    assert reply.document["code"] == 51
    assert "our rules were changed" in reply.document["details"]
    wall.reconcile()
    assert plugin.call("STATUS").status == 0
