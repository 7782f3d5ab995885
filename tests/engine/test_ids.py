"""Container ids and other names as hostile callers choose them: each is its own endpoint, none reaches a command."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from cellwall.errors import InvalidSpec
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Opening, Settings
from world import World, open_world

pytestmark = pytest.mark.root

LONG = "c" * 252
TWINS = (
    (LONG + "a", "eth0"),
    (LONG + "b", "eth0"),
    (LONG + "a", "eth1"),
    ("a" + LONG, "eth0"),
    ("web", "eth1"),
    ("web.eth1", "eth0"),
    ("web.eth1", "eth1"),
    ("WEB", "eth1"),
    ("w", "eth0"),
    ("we", "eth0"),
)


def test_ids_that_look_alike_are_endpoints_of_their_own(node_lab: World) -> None:
    """Long ids that share all characters but one, and pairs of id and interface that read alike when joined."""
    wall = node_lab.wall
    made = [wall.attach(container, ifname=ifname) for container, ifname in TWINS]
    for values in (
        {endpoint.host_link for endpoint in made},
        {endpoint.netns for endpoint in made},
        {endpoint.address4 for endpoint in made},
        {endpoint.mac for endpoint in made},
        {(endpoint.netns_device, endpoint.netns_inode) for endpoint in made},
    ):
        assert len(values) == len(TWINS)
    assert wall.status().drift == ()
    for gone in made[::2]:
        assert wall.detach(gone.key.container_id, ifname=gone.key.ifname)
    assert set(wall.endpoints()) == set(made[1::2])
    for endpoint in made[1::2]:
        assert interface_of(node_lab, endpoint)
    assert wall.reconcile().repaired == ()
    wall.detach_many([endpoint.key for endpoint in made])


def interface_of(world: World, endpoint: Endpoint) -> bool:
    inside = ["nsenter", f"--net={endpoint.netns}", "ip", "-o", "address", "show", endpoint.key.ifname]
    return str(endpoint.address4) in world.lab.node.run(inside).text


HOSTILE = ("a\nb", "a;reboot", "$(id)", "../x", "-rf", "a b", 'a"', "a'", "a\0", "ä", "", "a" * 254, ".", "..")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_need_quoting_is_refused_by_every_operation(node_lab: World, text: str) -> None:
    wall = node_lab.wall
    for operation in (
        lambda: wall.attach(text),
        lambda: wall.detach(text),
        lambda: wall.expose(text, "8080:80"),
        lambda: wall.unexpose(text, "8080:80"),
        lambda: wall.endpoint(text),
        lambda: wall.verify(text),
        lambda: wall.attach("ok", ifname=text or "\n"),
        lambda: wall.attach("ok", tenant=text or "\n"),
    ):
        with pytest.raises(InvalidSpec) as refused:
            operation()
        assert "\n" not in str(refused.value)
        assert "\0" not in str(refused.value)
    assert wall.endpoints() == ()


def test_no_name_reaches_a_command_line() -> None:
    """Not even one that would be harmless there. Rules are written to nft's standard input, and know no names of
    containers or tenants either."""
    name, tenant, label = "Telltale-id.1", "telltale/tenant", "telltale-label"
    settings = Settings(exceptions=(Opening(label, ip_address("10.0.0.2"), "udp", 53),))
    with open_world(settings=settings, up=False) as world, commands() as seen:
        wall = world.wall
        wall.up()
        wall.attach(name, tenant=tenant, expose=["8080:80"])
        wall.expose(name, "9000-9010:9000@198.51.100.0/24")
        rules = world.lab.node.run(["nft", "list", "ruleset"]).text
        assert "telltale" not in rules.lower()
        world.lab.node.run(["nft", "flush", "ruleset"])
        assert wall.reconcile().repaired
        wall.unexpose(name, "8080:80")
        wall.verify(name)
        wall.detach(name)
        wall.down()
    assert [command for command in seen if "'nft'" in command or "/nft'" in command]
    assert not [command for command in seen if "telltale" in command.lower()]


_HEARD: list[list[str]] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        for heard in _HEARD:
            heard.append(f"{event} {arguments[:2]}")


sys.addaudithook(_hear)  # there is no taking it back: it does nothing while nobody listens


@contextmanager
def commands() -> Iterator[list[str]]:
    """Whatever this process starts, as text."""
    heard: list[str] = []
    _HEARD.append(heard)
    try:
        yield heard
    finally:
        _HEARD.remove(heard)
