"""Somebody who is root inside a sandbox while it is attached, and does what they like with its interface."""

from collections.abc import Callable
from typing import Any

import pytest

from cellwall.adapters.sandbox import sandboxes
from cellwall.errors import Conflict, KernelError
from cellwall.lab.addresses import LAN
from cellwall.lab.host import Host
from engine.steps import assert_converged
from world import World, Wrapped, assert_connection, assert_no_connection, public, rewired

pytestmark = pytest.mark.root

DEEDS = {
    "deletes it": ["ip link delete eth0"],
    "renames it": ["ip link set eth0 name mine"],
    "has it too small for IPv6": ["ip link set eth0 mtu 1000"],
    "turns IPv6 off": ["sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"],
    "has it elsewhere": ["ip link add mine type dummy", "ip link delete eth0", "ip link set mine name eth0"],
}
VERBS = ("lock_port", "configure_sandbox", "open_port")


def do(host: Host, deed: str) -> None:
    for command in DEEDS[deed]:
        host.run(command.split(), check=False)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("verb", VERBS)
def test_what_they_do_at_any_moment_is_a_conflict_and_leaves_nothing(node: World, verb: str, deed: str) -> None:
    host = node.host("meddled")
    links = node.wall._site.links

    def disturbed(*arguments: Any) -> Any:
        do(host, deed)
        return getattr(links, verb)(*arguments)

    wall = rewired(node.wall, links=Wrapped(links, **{verb: disturbed}))
    try:
        wall.attach(host.name, netns=host.netns)
    except Conflict as error:
        assert f"netns: {host.netns}: eth0" in str(error)
        assert host.name not in {one.key.container_id for one in node.wall.endpoints()}
        assert_converged(node.wall)
    else:
        assert verb == "open_port" or deed not in ("deletes it", "renames it")
        assert_converged(node.wall)
        own = verb == "open_port" and "IPv6" in deed  # theirs to undo: nobody looks into their namespace again
        with node.lab.lan.serve(tcp=[80]):
            for family in (4,) if own else (4, 6):
                assert_connection(host, public(family), 80)
                assert_no_connection(host, LAN[family], 80)
        node.wall.detach(host.name)


def test_what_goes_between_two_questions_is_a_conflict(node: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node.host("meddled")
    index_of: Callable[..., int] = sandboxes.index_of

    def disturbed(*arguments: Any) -> int:
        found = index_of(*arguments)
        do(host, "deletes it")
        return found

    monkeypatch.setattr(sandboxes, "index_of", disturbed)
    with pytest.raises(Conflict, match="eth0 was changed while it was attached"):
        node.wall.attach(host.name, netns=host.netns)
    assert_converged(node.wall)


def test_a_kernel_without_room_is_no_conflict(node: World) -> None:
    host = node.host("unmeddled")

    def full(*_: Any) -> None:
        raise KernelError(12, "configure eth0 in the sandbox")

    wall = rewired(node.wall, links=Wrapped(node.wall._site.links, configure_sandbox=full))
    with pytest.raises(KernelError):
        wall.attach(host.name, netns=host.netns)
    assert_converged(node.wall)
