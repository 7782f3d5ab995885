"""What bad input gets: one line with the specification's code, field and value, and nothing changed."""

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from cni_plugin import Plugin, Reply

from cellwall.adapters.process import find_program
from cellwall.api import Wall
from cellwall.lab import Host, Lab

pytestmark = pytest.mark.root

TAKEN4, TAKEN6, TAKEN_MAC, TAKEN_PORT = "192.168.5.5", "fd00:abcd::505", "02:ab:00:00:00:55", 8055


@pytest.fixture(scope="module")
def box(lab: Lab) -> Host:
    return lab.sandbox("bad")


@pytest.fixture(scope="module")
def taken(plugin: Plugin, lab: Lab) -> Host:
    """A neighbour that has one of everything."""
    box = lab.sandbox("taken")
    runtime = {
        "ips": [TAKEN4],
        "mac": TAKEN_MAC,
        "portMappings": [{"hostPort": TAKEN_PORT, "containerPort": 80}],
    }
    plugin.add("taken", box, conf=plugin.conf(runtimeConfig=runtime))
    return box


@pytest.fixture
def unchanged(plugin: Plugin, box: Host, taken: Host) -> Iterator[None]:
    def seen() -> list[Any]:
        links = [host.run(["ip", "-br", "address"]).text for host in (plugin.lab.node, box)]
        tables = _without_dynamic_sets(plugin.lab.node.run(["nft", "-s", "list", "ruleset"]).text)
        records = sorted((plugin.lab.root / "run/cellwall/cni").rglob("*"))
        with plugin.lab.node.enter(), Wall.open(root=plugin.lab.root) as wall:
            return [wall.endpoints(), links, tables, records]

    before = seen()
    yield
    assert seen() == before


def _without_dynamic_sets(ruleset: str) -> str:
    """The neighbour's own ARP and ND fill and empty these."""
    return re.sub(r"\tset \w+ \{\n(?:(?!\t\}).*\n)*?\t\tflags [a-z,]*dynamic(?:.*\n)*?\t\}\n", "", ruleset)


def expect(reply: Reply, code: int, field: str, value: str) -> None:
    assert reply.document.get("code") == code, reply
    assert reply.document["cniVersion"] in ("0.4.0", "1.0.0", "1.1.0")
    assert field in reply.message
    assert value in reply.message
    assert "\n" not in reply.message
    assert reply.stderr == ""


@pytest.mark.usefixtures("unchanged")
class TestNothingChanged:
    @pytest.mark.parametrize(("verb", "raw", "value"), [
        ("ADD", b"{", "{"), ("ADD", b"", '""'), ("DEL", b"[1]", "[1]"), ("CHECK", b"\xff", "network"),
        ("GC", b'{"name": "a"} trailing', "trailing"), ("STATUS", b"null", "null"), ("VERSION", b"{", "{"),
    ])  # fmt: skip
    def test_malformed_json(self, plugin: Plugin, box: Host, verb: str, raw: bytes, value: str) -> None:
        expect(plugin.call(verb, "web", box, raw=raw), 6, "network configuration", value)

    @pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "STATUS", "GC"])
    def test_unsupported_version(self, plugin: Plugin, box: Host, verb: str) -> None:
        reply = plugin.call(verb, "web", box, conf=plugin.conf(cniVersion="0.3.1"))
        expect(reply, 1, "cniVersion", '"0.3.1"')
        assert reply.document["cniVersion"] == "1.1.0"

    @pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
    @pytest.mark.parametrize(("ifname", "value"), [
        ("e" * 16, "e" * 16), ("eth/0", "eth/0"), ("..", ".."), ("eth0\n", "eth0\\n"), ("", '""'), ("a b", "a b"),
    ])  # fmt: skip
    def test_interface_name(self, plugin: Plugin, box: Host, verb: str, ifname: str, value: str) -> None:
        expect(plugin.call(verb, "web", box, ifname=ifname), 4, "CNI_IFNAME", value)

    def test_the_loopback_interface(self, plugin: Plugin, box: Host) -> None:
        expect(plugin.call("ADD", "web", box, ifname="lo"), 4, "CNI_IFNAME", '"lo"')

    @pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK"])
    @pytest.mark.parametrize(("container_id", "value"), [
        ("a b", "a b"), ("web\nadd rule", "web\\nadd rule"), ("../web", "../web"), ("-web", "-web"), ("x" * 254, "xxx"),
        ('a"; flush ruleset', "flush"), ("$(id)", "$(id)"),
    ])  # fmt: skip
    def test_container_id(self, plugin: Plugin, box: Host, verb: str, container_id: str, value: str) -> None:
        expect(plugin.call(verb, container_id, box), 4, "CNI_CONTAINERID", value)

    @pytest.mark.parametrize(("args", "field", "value"), [
        ("FOO=bar", "CNI_ARGS.FOO", '"bar"'), ("IgnoreUnknown=0;FOO=bar", "CNI_ARGS.FOO", '"bar"'),
        ("IgnoreUnknown=2", "CNI_ARGS.IgnoreUnknown", '"2"'), ("FOO", "CNI_ARGS", '"FOO"'),
    ])  # fmt: skip
    def test_unknown_arguments(self, plugin: Plugin, box: Host, args: str, field: str, value: str) -> None:
        expect(plugin.call("ADD", "web", box, args=args), 4, field, value)

    @pytest.mark.parametrize("asked", [
        ("192.168.0.1", "gateway"), ("192.168.0.0", "network"), ("192.168.15.255", "broadcast"),
        ("10.9.0.5", "192.168.0.0/20"), ("192.168.16.1", "192.168.0.0/20"), ("fd00:ffff::5", "fd00:abcd::/64"),
        ("192.168.0.9/24", "192.168.0.0/20"), ("127.0.0.1", "192.168.0.0/20"),
    ])  # fmt: skip
    def test_an_address_that_can_never_be_leased(self, plugin: Plugin, box: Host, asked: tuple[str, str]) -> None:
        address, reason = asked
        runtime = {"ips": [address]}
        reply = plugin.call("ADD", "web", box, conf=plugin.conf(runtimeConfig=runtime))
        expect(reply, 7, "runtimeConfig.ips[0]", address)
        assert reason in reply.message
        expect(plugin.call("ADD", "web", box, args=f"IP={address}"), 4, "CNI_ARGS.IP", address)

    @pytest.mark.parametrize("address", [TAKEN4, TAKEN6])
    def test_a_leased_address(self, plugin: Plugin, box: Host, address: str) -> None:
        expect(plugin.call("ADD", "web", box, args=f"IP={address}"), 102, "CNI_ARGS.IP", address)

    @pytest.mark.parametrize("mac", [
        "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:00:00:00:00:01", "02:00:00", "x",
    ])  # fmt: skip
    def test_a_mac_that_no_sandbox_may_have(self, plugin: Plugin, box: Host, mac: str) -> None:
        expect(plugin.call("ADD", "web", box, args=f"MAC={mac}"), 4, "CNI_ARGS.MAC", mac)
        reply = plugin.call("ADD", "web", box, conf=plugin.conf(runtimeConfig={"mac": mac}))
        expect(reply, 7, "runtimeConfig.mac", mac)

    def test_a_taken_mac(self, plugin: Plugin, box: Host) -> None:
        expect(plugin.call("ADD", "web", box, args=f"MAC={TAKEN_MAC}"), 102, "CNI_ARGS.MAC", TAKEN_MAC)

    @pytest.mark.parametrize(("mapping", "code", "field", "value"), [
        ({"hostPort": 0, "containerPort": 80}, 7, "runtimeConfig.portMappings[0].hostPort", "0"),
        ({"hostPort": 8080, "containerPort": 0}, 7, "runtimeConfig.portMappings[0].containerPort", "0"),
        ({"hostPort": TAKEN_PORT, "containerPort": 80}, 102, "runtimeConfig.portMappings[0].hostPort", str(TAKEN_PORT)),
        ({"hostPort": 10240, "containerPort": 80}, 7, "runtimeConfig.portMappings[0].hostPort", "10240"),
        ({"hostPort": 29999, "containerPort": 80}, 7, "runtimeConfig.portMappings[0].hostPort", "29999"),
        ({"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}, 7, "protocol", "sctp"),
        ({"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"}, 7, "hostIP", "127.0.0.1"),
    ])  # fmt: skip
    def test_a_host_port(
        self, plugin: Plugin, box: Host, mapping: dict[str, Any], code: int, field: str, value: str
    ) -> None:
        conf = plugin.conf(runtimeConfig={"portMappings": [mapping]})
        expect(plugin.call("ADD", "web", box, conf=conf), code, field, value)

    def test_a_namespace_that_does_not_exist(self, plugin: Plugin, box: Host) -> None:
        for path in ("/run/netns/none", "/proc/4194304/ns/net", "/run/netns/a\nb", "relative"):
            expect(plugin.call("ADD", "web", path), 4, "CNI_NETNS", path[:6])

    def test_a_file_that_is_no_network_namespace(self, plugin: Plugin, box: Host) -> None:
        for path in ("/etc/hostname", "/", "/proc/self/ns/mnt"):
            expect(plugin.call("ADD", "web", path), 4, "CNI_NETNS", path)

    def test_the_nodes_own_namespace(self, plugin: Plugin, box: Host) -> None:
        for path in (str(plugin.lab.node.netns), "/proc/self/ns/net"):
            expect(plugin.call("ADD", "web", path), 4, "CNI_NETNS", path)

    def test_a_sandbox_that_has_the_interface(self, plugin: Plugin, box: Host, taken: Host) -> None:
        reply = plugin.call("ADD", "web", taken)
        expect(reply, 102, "CNI_NETNS", "eth0 belongs to container taken")

    def test_a_sandbox_that_has_an_interface_of_that_name(self, plugin: Plugin, box: Host) -> None:
        box.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "foreign"])
        try:
            expect(plugin.call("ADD", "web", box), 101, "CNI_IFNAME", "eth0")
        finally:
            box.run(["ip", "link", "del", "eth0"])

    def test_two_port_mappings_of_one_host_port(self, plugin: Plugin, box: Host) -> None:
        mappings = [{"hostPort": 8080, "containerPort": port} for port in (80, 81)]
        reply = plugin.call("ADD", "web", box, conf=plugin.conf(runtimeConfig={"portMappings": mappings}))
        expect(reply, 7, "runtimeConfig.portMappings[1].hostPort", "8080:81/tcp")

    @pytest.mark.parametrize("server", ["ns.example", "10.0.0.2", "192.168.0.1", "fd00:ec2::23"])
    def test_a_name_server_that_sandboxes_cannot_reach(self, plugin: Plugin, box: Host, server: str) -> None:
        conf = plugin.conf(dns={"nameservers": ["1.1.1.1", server]})
        expect(plugin.call("ADD", "web", box, conf=conf), 7, "dns.nameservers[1]", server)

    def test_unknown_keys(self, plugin: Plugin, box: Host) -> None:
        expect(plugin.call("ADD", "web", box, conf=plugin.conf(isGateway=True)), 2, "isGateway", "true")
        expect(plugin.call("ADD", "web", box, conf=plugin.conf(ipam={"type": "x"})), 2, "ipam", "x")

    def test_missing_variables(self, plugin: Plugin, box: Host) -> None:
        expect(plugin.call("ADD", "web"), 4, "CNI_NETNS", '""')
        expect(plugin.call("ADD", "", box), 4, "CNI_CONTAINERID", '""')
        expect(plugin.call("DEL"), 4, "CNI_CONTAINERID", '""')
        expect(plugin.call("NOPE", "web", box), 4, "CNI_COMMAND", '"NOPE"')
        expect(plugin.call("", "web", box), 4, "CNI_COMMAND", '""')


def test_subnets_that_overlap_the_nodes_own(plugin: Plugin, lab: Lab, box: Host) -> None:
    before = lab.node.run(["ip", "-br", "link"]).text
    conf = plugin.conf(root=str(lab.root / "overlap"), subnets=["172.17.0.0/20"])
    reply = plugin.call("ADD", "web", box, conf=conf)
    assert reply.document["code"] in (7, 102), reply
    assert "172.17.0.0/20" in reply.message
    assert lab.node.run(["ip", "-br", "link"]).text == before


def test_an_ipv6_address_on_a_node_without(plugin: Plugin) -> None:
    with Lab(ipv6=False) as bare:
        other, box = Plugin(bare, plugin.executable), bare.sandbox("web")
        with bare.node.enter(), Wall.open(root=bare.root) as wall:
            wall.up()
        reply = other.call("ADD", "web", box, conf=other.conf(runtimeConfig={"ips": ["fd00:abcd::5"]}))
        expect(reply, 7, "runtimeConfig.ips[0]", "fd00:abcd::5")
        assert "eth0" not in box.run(["ip", "-br", "link"]).text


def test_a_full_pool(plugin: Plugin) -> None:
    with Lab() as small:
        other = Plugin(small, plugin.executable)
        conf = other.conf(subnets=["10.77.0.0/29"])
        for number, box in enumerate(small.sandboxes([f"p{number}" for number in range(6)])):
            reply = other.call("ADD", f"p{number}", box, conf=conf)
            if number < 5:
                assert reply.status == 0, reply
        expect(reply, 103, "subnet4", "10.77.0.0/29")


def test_without_privileges(plugin: Plugin, lab: Lab, box: Host) -> None:
    environ = {"CNI_CONTAINERID": "web", "CNI_NETNS": str(box.netns), "CNI_IFNAME": "eth0"}
    # nobody may not even enter pytest's directories, so the launcher's text is run instead of the file
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-IS", "-c"]
    program = plugin.executable.read_text()
    for verb, code in (("ADD", 105), ("STATUS", 50)):
        conf = b'{"cniVersion": "1.1.0", "name": "net"}'
        done = lab.node.run([*argv, program], env={**environ, "CNI_COMMAND": verb}, check=False, input=conf)
        assert done.returncode == 1, done
        assert f'"code":{code}' in done.text, done


def test_neither_nft_nor_iptables_on_the_node(plugin: Plugin) -> None:
    with Lab() as bare:
        box = bare.sandbox("web")
        # a mount namespace of its own in which these are not programs
        names = ("nft", "iptables-nft-restore", "iptables-legacy-restore")
        programs = [os.path.realpath(found) for name in names if (found := find_program(name))]
        script = "".join(f"mount --bind /dev/null {program} && " for program in programs) + f"exec {plugin.executable}"
        environ = {"CNI_CONTAINERID": "web", "CNI_IFNAME": "eth0", "CNI_NETNS": str(box.netns)}
        conf = msgspec.json.encode(Plugin(bare, plugin.executable).conf())
        argv = ["unshare", "-m", "sh", "-c", script]
        done = bare.node.run(argv, env={**environ, "CNI_COMMAND": "ADD"}, check=False, input=conf)
        assert done.returncode == 1, done
        assert b'"code":104' in done.stdout, done
        assert b"nft" in done.stdout
        assert " b9" not in bare.node.run(["ip", "-br", "link"]).text
