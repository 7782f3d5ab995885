"""ADD, DEL and VERSION of the installed executable, in a lab node, judged by packets."""

import os
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cni_plugin import Plugin

from cellwall.adapters import process
from cellwall.api import Wall
from cellwall.lab import Host, Lab, connect
from cellwall.lab.addresses import NODE4, NODE6, PUBLIC4, PUBLIC6
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings

pytestmark = pytest.mark.root
NewSandbox = Callable[[], Host]


@pytest.fixture(scope="module", autouse=True)
def internet(lab: Lab) -> None:
    lab.internet.serve(tcp=[80], udp=[80])
    lab.node.serve(tcp=[22])


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_add_gives_a_working_endpoint_and_its_description(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, version: str
) -> None:
    box = sandbox()
    result = plugin.add("web", box, conf=plugin.conf(cniVersion=version))
    assert result["cniVersion"] == version
    bridge, host, inside = result["interfaces"]
    assert bridge["name"] == "b9_br0"
    assert host["mac"] == plugin.lab.node.mac(host["name"])
    assert inside["mac"] == box.mac("eth0")
    assert inside["sandbox"] == str(box.netns)
    assert [row["address"].partition("/")[0] for row in result["ips"]] == [
        address for address in box.addresses("eth0") if not address.startswith("fe80")
    ]
    assert {row["interface"] for row in result["ips"]} == {2}
    assert [row.get("version") for row in result["ips"]] == (["4", "6"] if version == "0.4.0" else [None, None])
    assert ("mtu" in inside) is (version == "1.1.0")
    assert result["dns"]["nameservers"] == [str(address) for address in wall.dns()]
    for address in (PUBLIC4[2], PUBLIC6[2]):
        assert connect(box, address, 80).data == b"internet hello"
    assert not connect(box, NODE4, 22, timeout=0.2)


def test_del_closes_the_endpoint_and_can_be_repeated(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    box = sandbox()
    plugin.add("web", box)
    assert connect(box, PUBLIC4[2], 80)
    plugin.delete("web", box=box)
    assert wall.endpoints() == ()
    assert "eth0" not in box.run(["ip", "-o", "link"]).text
    assert not connect(box, PUBLIC4[2], 80, timeout=0.2)
    plugin.delete("web", box=box)
    plugin.delete("web")


def test_del_works_without_namespace_without_state_and_with_a_conflist_that_add_refuses(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    plugin.delete("never-seen")
    plugin.delete("never-seen", box="/run/netns/gone", args="FOO=1")
    box = sandbox()
    plugin.add("web", box)
    plugin.lab.delete_sandbox(box)
    plugin.delete("web", box="", conf=plugin.conf(unknown=1, runtimeConfig={"mac": 5}))
    assert wall.endpoints() == ()


@pytest.mark.parametrize("changes", [
    {"subnets": ["10.99.0.0/24"]}, {"subnets": "x"}, {"gateways": ["10.99.0.1"]}, {"runtimeConfig": 5}, {"dns": []},
], ids=str)  # fmt: skip
def test_a_conflist_that_was_changed_for_the_worse_keeps_nobody_from_del(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox, changes: dict[str, Any]
) -> None:
    plugin.add("web", sandbox())
    plugin.delete("web", conf=plugin.conf(**changes))
    assert wall.endpoints() == ()
    plugin.add("web", sandbox())
    reply = plugin.call("GC", conf={**plugin.conf(**changes), "cni.dev/valid-attachments": []})
    assert (reply.status, reply.document) == (0, {})
    assert wall.endpoints() == ()


@pytest.mark.parametrize("text", ["[network", "unknown = 1", '[network]\nsubnet4 = "10.99.0.0/33"\n'])
def test_a_configuration_that_was_changed_for_the_worse_keeps_nobody_from_del(
    plugin: Plugin, wall: Wall, lab: Lab, sandbox: NewSandbox, text: str
) -> None:
    plugin.add("web", sandbox())
    file = lab.root / "etc/cellwall/cellwall.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    try:
        assert plugin.call("ADD", "other", sandbox()).document["code"] == 7
        plugin.delete("web")
    finally:
        file.unlink()
    assert wall.endpoints() == ()
    assert wall.status().drift == ()


def test_del_on_a_node_that_was_never_up_makes_nothing(plugin: Plugin, lab: Lab) -> None:
    elsewhere = lab.root / "elsewhere"
    plugin.delete("web", conf=plugin.conf(root=str(elsewhere)))
    assert not (elsewhere / "run/cellwall/cni").exists()


def test_a_second_add_is_an_error_and_leaves_the_first_alone(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    box = sandbox()
    plugin.add("web", box)
    before = wall.endpoints()
    reply = plugin.call("ADD", "web", box)
    assert reply.document["code"] == 101
    assert "CNI_CONTAINERID" in reply.message
    assert "web/eth0" in reply.message
    assert wall.endpoints() == before
    assert connect(box, PUBLIC4[2], 80)


def test_interfaces_of_one_container_are_attachments_of_their_own(
    plugin: Plugin, wall: Wall, sandbox: NewSandbox
) -> None:
    box = sandbox()
    plugin.add("web", box)
    plugin.add("web", box, ifname="eth1", conf=plugin.conf(name="other"))
    assert connect(box, PUBLIC4[2], 80)
    plugin.delete("web", ifname="eth1")
    assert [str(endpoint.key) for endpoint in wall.endpoints()] == ["web/eth0"]


def test_capabilities_and_arguments_are_obeyed(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    lan = plugin.lab.lan
    box = sandbox()
    runtime = {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "0.0.0.0"},
        ],
        "ips": ["192.168.3.7/20"],
        "mac": "02:ab:00:00:00:07",
    }
    result = plugin.add("web", box, conf=plugin.conf(runtimeConfig=runtime, dns={"search": ["a.test"]}))
    assert result["ips"][0]["address"] == "192.168.3.7/20"
    assert result["ips"][1]["address"] == "fd00:abcd::307/64"
    assert box.mac("eth0") == "02:ab:00:00:00:07"
    assert result["dns"]["search"] == ["a.test"]
    served = box.serve(tcp=[80], udp=[53])
    for address in (NODE4, NODE6):
        assert connect(lan, address, 8080).data == f"{box.name} hello".encode()
    assert connect(lan, NODE4, 8053, udp=True).data == f"{box.name} hello".encode()
    assert not connect(lan, NODE6, 8053, udp=True, timeout=0.2), "0.0.0.0 opens IPv4 only"
    served.close()
    plugin.delete("web")
    assert not connect(lan, NODE4, 8080, timeout=0.2)


def test_arguments_name_address_mac_and_tenant(plugin: Plugin, wall: Wall, sandbox: NewSandbox) -> None:
    args = "IgnoreUnknown=1;FOO=x;K8S_POD_NAMESPACE=acme;IP=192.168.3.8;MAC=02:ab:00:00:00:08"
    plugin.add("plain", sandbox(), args=args)
    plugin.add("named", sandbox(), conf=plugin.conf(tenant="fixed"))
    by_namespace = plugin.conf(tenantFrom="K8S_POD_NAMESPACE")
    plugin.add("pod", sandbox(), args="IgnoreUnknown=1;K8S_POD_NAMESPACE=acme", conf=by_namespace)
    assert {endpoint.key.container_id: endpoint.tenant for endpoint in wall.endpoints()} == {
        "plain": "",
        "named": "fixed",
        "pod": "acme",
    }
    assert str(wall.endpoint("plain").address4) == "192.168.3.8"
    assert mac_text(wall.endpoint("plain").mac) == "02:ab:00:00:00:08"


def test_the_subnets_of_a_conflist_are_used_on_a_node_that_has_none_configured(
    plugin: Plugin, lab: Lab, sandbox: NewSandbox
) -> None:
    elsewhere = lab.root / "subnets"
    conf = plugin.conf(root=str(elsewhere), subnets=["10.77.0.0/24", "fd77::/64"], gateways=["10.77.0.254"])
    conf["root"] = str(elsewhere)
    config = elsewhere / "etc/cellwall/cellwall.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[network]\nsubnet4 = "10.78.0.0/24"\n')
    reply = plugin.call("ADD", "web", sandbox(), conf=conf)
    assert reply.document["code"] == 7
    assert "subnets[0]: 10.77.0.0/24: differs" in reply.message
    assert "10.78.0.0/24" in reply.message
    for keys, told in (
        ({"subnets": ["10.77.0.5/24"]}, "subnets[0]"),
        ({"subnets": ["fd77::/64", "fd78::/64"]}, "subnets[1]"),
        ({"gateways": ["10.99.0.1"]}, "gateways"),
        ({"gateways": ["x"]}, "gateways[0]"),
    ):
        refused = plugin.call("ADD", "web", sandbox(), conf={**plugin.conf(), **keys})
        assert refused.document["code"] == 7, refused
        assert told in refused.message


def test_what_a_conflist_chose_holds_for_every_other_front_end(lab: Lab, plugin: Plugin) -> None:
    """Otherwise the CLI took the node for one of other subnets than its sandboxes have, and refused to work on it."""
    with Lab() as other:
        chosen = Plugin(other, plugin.executable)
        box = other.sandbox("chosen")
        protected = Settings(protect=(ip_network("45.33.0.0/16"),))
        refused = chosen.call("ADD", "web", box, conf=chosen.conf(subnets=["10.77.0.0/24"]), args="IP=10.78.0.1")
        assert refused.status == 1
        with other.node.enter(), Wall.open(root=other.root) as wall:
            assert str(wall.settings.network.subnet4) == "192.168.0.0/20", "a refused ADD chose for everyone"
        with other.node.enter(), Wall.open(root=other.root, settings=protected) as wall:
            wall.up()  # as the boot unit does, before any conflist was read, and with what only its environment says
        conf = chosen.conf(subnets=["10.77.0.0/24", "fd77::/64"], gateways=["10.77.0.254"])
        added = chosen.add("web", box, conf=conf)
        assert [row["address"] for row in added["ips"]] == ["10.77.0.2/24", "fd77::2/64"]
        assert other.node.addresses("b9_br0")[0] == "10.77.0.254"
        assert "192.168.0.1" not in other.node.addresses("b9_br0")
        with other.node.enter(), Wall.open(root=other.root) as wall:
            network = wall.settings.network
            assert (str(network.subnet4), str(network.gateway4)) == ("10.77.0.0/24", "10.77.0.254")
            assert wall.settings.protect == protected.protect, "more than the subnets was chosen"
            refused = chosen.call("ADD", "next", other.sandbox("next"), conf=chosen.conf(subnets=["10.79.0.0/24"]))
            assert refused.document["code"] == 102, refused
            wall.up()
            assert wall.status().drift == wall.status().warnings == ()
            wall.expose("web", "8080:80")
            assert wall.reconcile().repaired == ()
            wall.detach("web")
            wall.uninstall()
        with other.node.enter(), Wall.open(root=other.root) as wall:
            assert str(wall.settings.network.subnet4) == "192.168.0.0/20"


def test_version_needs_no_input_and_echoes_what_was_asked(plugin: Plugin) -> None:
    supported = ["0.4.0", "1.0.0", "1.1.0"]
    assert plugin.call("VERSION", raw=b"").document == {"cniVersion": "1.1.0", "supportedVersions": supported}
    asked = plugin.call("VERSION", raw=b'{"cniVersion": "0.3.0"}').document
    assert asked == {"cniVersion": "0.3.0", "supportedVersions": supported}
    refused = plugin.call("VERSION", raw=b'{"cniVersion": 5}').document
    assert (refused["code"], refused["msg"]) == (6, "cniVersion: 5: must be a string")


SPY = """\
#!{python} -ISs
import os, sys
with open({log!r}, "a") as log:
    for name in sorted(os.listdir("/proc/self/fd")):
        if os.path.exists("/proc/self/fd/" + name) and int(name) != log.fileno():
            log.write(name + " " + os.readlink("/proc/self/fd/" + name) + "\\n")
os.execv({program!r}, sys.argv)
"""


def test_no_descriptor_of_the_caller_or_of_the_plugin_reaches_a_child(plugin: Plugin, tmp_path: Path) -> None:
    """Of the node's first ADD, which has rules loaded: the child tells what it holds, and then does its work."""
    nft, log, kept = process.find_program("nft"), tmp_path / "held", tmp_path / "of the caller"
    spy = tmp_path / "nft"
    spy.write_text(SPY.format(python=sys.executable, log=str(log), program=nft))
    spy.chmod(0o755)
    with Lab() as lab, kept.open("w") as file:
        box = lab.sandbox("held")
        environ = os.environ | {
            "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0",
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        }  # fmt: skip
        conf = msgspec.json.encode(plugin.conf(root=str(lab.root)))
        with lab.node.enter():
            done = subprocess.run([str(plugin.executable)], input=conf, env=environ, pass_fds=[file.fileno()],
                                  stdout=subprocess.PIPE, check=True)  # fmt: skip
        assert b"192.168.0." in done.stdout
    held = dict(line.split(" ", 1) for line in log.read_text().splitlines())
    assert set(held) == {"0", "1", "2"}
    assert str(kept) not in held.values()
