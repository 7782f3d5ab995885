"""libvirt with its default network on the node, and a guest: a namespace whose link is on that network's bridge."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellwall.lab import ping
from cellwall.lab.addresses import PUBLIC4
from neighbours.annex import Annex, need
from neighbours.beside import BACKENDS, assert_holds, assert_nothing_to_do, held_by, marks, rules_of_others, tenants
from world import World, assert_connection, assert_no_connection, open_world

pytestmark = marks
_GATEWAY, _GUEST = "192.168.122.1", "192.168.122.50"
_NETWORK = f"""<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip address='{_GATEWAY}' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.40'/></dhcp>
  </ip>
</network>
"""
_STATE = "for d in /var/lib/libvirt /var/cache; do mount -t tmpfs none $d; done; mkdir -p /var/lib/libvirt/dnsmasq"


class Libvirt:
    """libvirtd in a lab's node."""

    def __init__(self, world: World, base: Path) -> None:
        need("libvirtd", "virsh", "dnsmasq", "dbus-daemon")
        self.annex = Annex(world.lab, base)
        self.annex.run("sh", "-ec", _STATE)
        self.daemon = self.start()
        (base / "network.xml").write_text(_NETWORK)
        self.ask("net-define", f"{base}/network.xml")
        self.ask("net-start", "default")
        self.guest = world.host("guest")
        world.lab.node.ip([f"link add vnet0 type veth peer name eth0 netns {self.guest.netns.name}",
                           "link set vnet0 master virbr0 up"])  # fmt: skip
        self.guest.ip(["link set lo up", f"address add {_GUEST}/24 dev eth0", "link set eth0 up",
                       f"route add default via {_GATEWAY}"])  # fmt: skip

        self.await_guest()

    def await_guest(self) -> None:
        """Its bridge speaks the spanning tree protocol: a new port is silent for seconds."""
        self.annex.come_up(self.daemon, lambda: bool(ping(self.annex.lab.node, _GUEST, timeout=0.2)))

    def start(self) -> "subprocess.Popen[bytes]":
        daemon = self.annex.start("libvirtd")
        self.annex.come_up(daemon, lambda: self._run("net-list", check=False) == 0)
        return daemon

    def restart(self) -> None:
        self.annex.end(self.daemon)
        self.daemon = self.start()

    def ask(self, *arguments: str) -> None:
        self._run(*arguments)

    def _run(self, *arguments: str, check: bool = True) -> int:
        return self.annex.run("virsh", "--connect", "network:///system", *arguments, check=check).returncode

    def close(self) -> None:
        self.ask("net-destroy", "default")
        self.annex.close()

    def assert_works(self) -> None:
        assert_connection(self.guest, PUBLIC4[2], 80)


@pytest.fixture(scope="module", params=BACKENDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Libvirt]]:
    """libvirt was there first."""
    with held_by(request.param) as world:
        libvirt = Libvirt(world, tmp_path_factory.mktemp("libvirt"))
        world.wall.up()
        yield world, libvirt
        libvirt.close()


def test_both_work_and_the_wall_holds(shared: tuple[World, Libvirt]) -> None:
    world, libvirt = shared
    with tenants(world) as ours:
        ours.assert_work()
        libvirt.assert_works()
        assert_holds(world)
        assert_nothing_to_do(world)


def test_neither_reaches_the_others_guests(shared: tuple[World, Libvirt]) -> None:
    world, libvirt = shared
    with tenants(world) as ours, libvirt.guest.serve(tcp=[80]):
        assert_connection(world.lab.node, _GUEST, 80)
        assert_no_connection(ours.rogue.host, _GUEST, 80)
        assert_no_connection(libvirt.guest, ours.web.address(4), 80)
        assert_no_connection(libvirt.guest, ours.web.address(4), 80, udp=True)
        assert_connection(libvirt.guest, PUBLIC4[2], 80)


def test_restarts_of_its_network_and_daemon_open_nothing_and_break_nothing(shared: tuple[World, Libvirt]) -> None:
    world, libvirt = shared
    with tenants(world) as ours:
        with ours.besieged():
            libvirt.ask("net-destroy", "default")
            libvirt.ask("net-start", "default")
            world.lab.node.ip(["link set vnet0 master virbr0 up"])
            libvirt.restart()
            libvirt.await_guest()
        ours.assert_work()
        libvirt.assert_works()
        assert_nothing_to_do(world)


def test_our_coming_and_going_leaves_its_rules_as_they_were(tmp_path: Path) -> None:
    with open_world(up=False) as world:
        libvirt = Libvirt(world, tmp_path)
        before = rules_of_others(world)
        world.attach("web", expose=["8080:80"])
        assert rules_of_others(world) == before
        world.wall.down(force=True)
        assert rules_of_others(world) == before
        with world.lab.internet.serve(tcp=[80]):
            libvirt.assert_works()
        libvirt.close()
