"""The next holder of an address hears nothing that was meant for the former one."""

import pytest

from cellwall.lab.addresses import NODE
from world import Stream, World

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])


@BOTH
def test_what_a_peer_still_sends_of_a_former_connection_ends_at_the_wall(node_lab: World, family: int) -> None:
    """Once the old flow is purged, conntrack takes up its next segment as the beginning of a new one."""
    lab = node_lab.lab
    former = node_lab.attach("former", expose=["8097:80"])
    with (
        former.host.serve(tcp=[80]),
        Stream(lab.node, former.address(family), 80) as of_node,
        Stream(lab.lan, NODE[family], 8097) as of_client,
    ):
        assert of_node.ask(node_lab.token())
        assert of_client.ask(node_lab.token())
        node_lab.detach(former)
        node_lab.wall.reconcile()  # the old flows are purged
        successor = node_lab.attach("successor", address4=former.endpoint.address4, expose=["8097:80"])
        assert successor.address(family) == former.address(family)
        rule = "table inet mute { chain in { type filter hook input priority 0; policy drop; }; }"
        successor.host.run(["nft", "-f", "-"], input=rule.encode())
        late, sentinel = node_lab.token("late"), node_lab.token("sentinel")
        with successor.host.capture("eth0", outgoing=False) as heard:
            of_node.say(late)
            of_client.say(late)
            with (
                Stream(lab.node, successor.address(family), 80, udp=True) as last,
            ):
                last.say(sentinel)
            frames = heard.read_until(sentinel)
    assert not [frame for frame in frames if late in frame]
    node_lab.detach(successor)


@BOTH
def test_a_published_port_is_reached_by_whoever_begins_properly(node_lab: World, family: int) -> None:
    """What ends stray segments ends no connection, also none whose SYN has the bits of ECN (RFC 3168 6.1.1)."""
    sandbox = node_lab.attach("served", expose=["8098:80"])
    write = node_lab.lab.lan.run
    write(["sysctl", "-qw", "net.ipv4.tcp_ecn=1"])
    with sandbox.host.serve(tcp=[80]), Stream(node_lab.lab.lan, NODE[family], 8098) as stream:
        assert stream.ask(node_lab.token())
    write(["sysctl", "-qw", "net.ipv4.tcp_ecn=2"])
    node_lab.detach(sandbox)
