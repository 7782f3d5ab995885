"""A host from outside: entering it, running programs, opening sockets, reading its links."""

import os
import socket
from contextlib import closing

import pytest

from cellwall.adapters.process import ProgramFailed
from cellwall.errors import NotFound, Unavailable
from cellwall.lab import Lab, ping
from cellwall.lab import addresses as at

pytestmark = pytest.mark.root


def own_netns() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_enter_brings_the_thread_back(lab: Lab) -> None:
    home = own_netns()
    with lab.node.enter():
        assert own_netns() == lab.node.netns.stat().st_ino
        with lab.lan.enter():
            assert own_netns() == lab.lan.netns.stat().st_ino
        assert own_netns() == lab.node.netns.stat().st_ino
    assert own_netns() == home
    with pytest.raises(ZeroDivisionError), lab.node.enter():
        raise ZeroDivisionError
    assert own_netns() == home


def test_programs_run_inside(lab: Lab) -> None:
    assert int(lab.node.run(["stat", "-Lc%i", "/proc/self/ns/net"]).text) == lab.node.netns.stat().st_ino
    assert lab.node.run(["cat"], input=b"in").stdout == b"in"
    assert lab.node.run(["sh", "-c", "echo $MARK"], env={"MARK": "set"}).text == "set\n"
    assert lab.node.run(["false"], check=False).returncode == 1
    with pytest.raises(ProgramFailed):
        lab.node.run(["false"])
    with pytest.raises(Unavailable):
        lab.node.run(["sleep", "10"], timeout=0.05)


def test_socket_belongs_to_the_host_everywhere(lab: Lab) -> None:
    with closing(lab.node.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.connect((at.LAN4, 9))
        assert sock.getsockname()[0] == at.NODE4


def test_links_addresses_and_neighbours(lab: Lab) -> None:
    assert lab.node.mac("eth0") == "02:5d:00:00:00:0a"
    assert lab.node.addresses("eth0")[:2] == [at.NODE4, at.NODE6]
    assert lab.node.addresses("eth0")[2].startswith("fe80:")
    assert ping(lab.node, at.LAN4)
    assert ping(lab.node, at.LAN6)
    neighbours = lab.node.neighbours()
    assert neighbours[at.LAN4] == neighbours[at.LAN6] == lab.lan.mac("eth0")
    with pytest.raises(NotFound, match="nolink"):
        lab.node.mac("nolink")
    assert lab.sandbox("quiet").neighbours() == {}
