"""kill -9 at every step of every operation, and what is found afterwards.

A child process does the operation through adapters that kill it before the n-th call, for every n until it gets
through (see `steps`). Between the crash and its repair nothing half made passes a packet; after it, desired is live,
and the operation happened as a whole or not at all.
"""

import msgspec
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from cellwall.api import Wall
from cellwall.engine.nftables.desired import desired_elements
from cellwall.engine.readiness import take_backend
from cellwall.engine.repair.drift import port_drift
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4, NODE6
from cellwall.lab.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from engine.steps import assert_converged, every_step, reopened
from world import PUBLIC4, PUBLIC6, Sandbox, World, assert_connection, is_answered

pytestmark = [
    pytest.mark.root,
    # The lab's loop is a thread of this process. The child takes none of its locks: it opens a wall of its own.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def node_links(world: World) -> list[str]:
    """Links, and what the bridge knows for good: a former endpoint must leave none of it."""
    commands = ("ip -br link", "ip neighbour show nud permanent", "bridge fdb show br b9_br0")
    lines = [line.strip() for command in commands for line in world.lab.node.run(command.split()).text.splitlines()]
    return sorted(line for line in lines if not line.startswith("33:33:"))  # groups that the bridge itself joins


@pytest.fixture(scope="module")
def node(node: World) -> World:
    node.bystander = node.attach("bystander", expose=["8100:80", "8101:80/udp"])  # type: ignore[attr-defined]
    bystander_of(node).host.serve(tcp=[80], udp=[80])
    return node


def bystander_of(world: World) -> Sandbox:
    found: Sandbox = world.bystander  # type: ignore[attr-defined]
    return found


def assert_bystander_is_served(world: World) -> None:
    bystander = bystander_of(world)
    for address, node in ((PUBLIC4, NODE4), (PUBLIC6, NODE6)):
        assert_connection(bystander.host, address, 80)
        assert_connection(world.lab.lan, node, 8100)


def assert_half_made_passes_nothing(world: World, host: Host, former: Endpoint | None = None) -> None:
    """What a tenant with root in the sandbox can send now, from every address it might come to have. `former`: who was
    attached there, and may be on record no more."""
    journal = world.wall._site.journal
    rows = [*journal.endpoints("attaching"), *journal.endpoints("detaching")]
    if former is not None and journal.endpoint(former.key) is None:
        rows = [former]
    if not rows or not _has_interface(host):
        return
    (endpoint,) = rows
    host.run(["ip", "link", "set", "eth0", "up"])
    token, never = world.token("half-made"), world.token("never")
    bystander = bystander_of(world)
    frames = _frames(endpoint, bystander, token, never)
    with (
        world.lab.internet.capture("eth0") as wire,
        bystander.host.capture("eth0", outgoing=False) as struck,
    ):
        host.inject("eth0", frames)
        sentinel = world.token("sentinel")
        assert connect(bystander.host, PUBLIC4, 80, udp=True, payload=sentinel).kind == "answer"
        seen = wire.read_until(sentinel)
        assert not [frame for frame in (*seen, *struck.drain()) if never in frame]
    if any(
        token in frame for frame in seen
    ):  # only what is not half made: everything of it stands, and only the journal does not say so yet
        assert journal.endpoint(endpoint.key) is not None
        assert _complete(world, endpoint)


def _has_interface(host: Host) -> bool:
    return "eth0" in host.run(["ip", "-o", "link"]).text


def _frames(endpoint: Endpoint, bystander: Sandbox, token: bytes, never: bytes) -> list[bytes]:
    ether = Ether(src=mac_text(endpoint.mac), dst="02:00:00:00:00:01")
    own4, own6 = str(endpoint.address4), str(endpoint.address6)
    own = UDP(sport=7, dport=80) / Raw(token)
    upper = UDP(sport=7, dport=80) / Raw(never)
    return [
        bytes(ether / IP(src=own4, dst=PUBLIC4) / own),
        bytes(ether / IPv6(src=own6, dst=PUBLIC6) / own),
        bytes(ether / IP(src=own4, dst=bystander.address(4)) / upper),
        bytes(ether / IPv6(src=own6, dst=bystander.address(6)) / upper),
        bytes(ether / IP(src=bystander.address(4), dst=PUBLIC4) / upper),
        bytes(
            Ether(src=ether.src, dst=mac_text(bystander.endpoint.mac)) / IP(src=own4, dst=bystander.address(4)) / upper
        ),
    ]


def _complete(world: World, endpoint: Endpoint) -> bool:
    with world.lab.node.enter(), reopened(world) as wall:
        site = wall._site
        found = site.foundation()
        link = site.links.find(endpoint.host_link)
        if found is None or link is None:
            return False
        whole = msgspec.structs.replace(endpoint, host_index=link.index)
        take_backend(site, found)
        live = {
            (family, name, key)
            for family, name in {(row[0], row[1]) for row in desired_elements([whole])}
            for key, _ in site.rules.elements(family, "cellwall", name)
        }
        return not port_drift(found, whole, link) and all(
            (row[0], row[1], row[2].key) in live for row in desired_elements([whole])
        )


def test_attach_killed_at_every_step_is_whole_or_nothing(node: World) -> None:
    host = node.host("half")
    before = node_links(node)
    steps = 0
    for step in every_step(node, lambda wall: wall.attach("half", netns=host.netns, expose=["8200:80"])):
        steps += bool(step)
        if step:
            assert_half_made_passes_nothing(node, host)
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
            attached = [endpoint for endpoint in wall.endpoints() if endpoint.key.container_id == "half"]
            if attached:
                assert_connection(host, PUBLIC4, 80)
                assert_connection(host, PUBLIC6, 80)
                wall.detach("half")
                wall.reconcile()
            assert node_links(node) == before
            assert "eth0" not in host.run(["ip", "-o", "link"]).text
            assert wall.status().pending == 0
        assert_bystander_is_served(node)
    assert steps >= 8


def test_attach_with_a_namespace_of_its_own_killed_at_every_step(node: World) -> None:
    directory = node.wall.paths.run / "netns"
    for _ in every_step(node, lambda wall: wall.attach("own")):
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
            names = {endpoint.key.container_id for endpoint in wall.endpoints()}
            left = {path.name for path in directory.glob("*")} if directory.exists() else set()
            assert left <= names
            wall.attach("own")  # what a caller does who was not told: it succeeds, whatever is there
            assert_converged(wall)
            wall.detach("own")
            wall.reconcile()
            assert list(directory.glob("*")) == []


def test_the_next_operation_repairs_without_reconcile(node: World) -> None:
    """Any operation does, not only reconcile: the attach of somebody else, and the same attach again."""
    host = node.host("again")
    for step in every_step(node, lambda wall: wall.attach("again", netns=host.netns)):
        with reopened(node) as wall:
            if step % 2:
                wall.attach("somebody-else")
                wall.detach("somebody-else")
            endpoint = wall.attach("again", netns=host.netns)
            assert wall.status().drift == ()
            assert_connection(host, PUBLIC4, 80)
            assert wall.endpoint("again") == endpoint
            wall.detach("again")
            wall.reconcile()


def test_detach_of_a_half_made_attachment_leaves_nothing(node: World) -> None:
    host = node.host("unwanted")
    before = node_links(node)
    for _ in every_step(node, lambda wall: wall.attach("unwanted", netns=host.netns)):
        with reopened(node) as wall:
            wall.detach("unwanted")
            wall.reconcile()
            assert wall.status().drift == ()
            assert wall.status().pending == 0
        assert node_links(node) == before
        assert "eth0" not in host.run(["ip", "-o", "link"]).text


def leave(wall: Wall) -> None:
    """As a front end does that ends with it."""
    wall.detach("leaving")
    wall.close()


def test_detach_killed_at_every_step_ends_detached(node: World) -> None:
    before = node_links(node)
    host = node.host("leaving")
    with reopened(node) as wall:
        endpoint = wall.attach("leaving", netns=host.netns, expose=["8201:80"])
    steps = 0
    for step in every_step(node, leave):
        steps += bool(step)
        if step:
            assert_half_made_passes_nothing(node, host, endpoint)
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
            names = {endpoint.key.container_id for endpoint in wall.endpoints()}
            if "leaving" in names:  # killed before the journal said so: not at all
                assert_connection(host, PUBLIC4, 80)
                continue
            assert node_links(node) == before
            assert wall.status().pending == 0
            endpoint = wall.attach("leaving", netns=host.netns, expose=["8201:80"])
        assert_bystander_is_served(node)
    with reopened(node) as wall:
        wall.detach("leaving")
        wall.reconcile()
    assert steps >= 4


@pytest.mark.slow
def test_reconcile_killed_at_every_step_is_finished_by_the_next(node: World) -> None:
    before = node_links(node)
    hosts = [node.host("drains") for _ in range(2)]
    damage(node, hosts)
    steps = 0
    for step in every_step(node, lambda wall: wall.reconcile()):
        steps += bool(step)
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
            assert wall.status().pending == 0
        assert node_links(node) == before
        assert_bystander_is_served(node)
        damage(node, hosts)
    node.wall.reconcile()
    assert steps >= 12


def damage(world: World, hosts: list[Host]) -> None:
    """Something of everything that reconcile repairs: a set, a port, the bridge, a setting, an abandoned sandbox, links
    that wait."""
    vanishing = world.wall.attach("vanishing")
    for host in hosts:
        world.wall.attach(host.name, netns=host.netns)
        world.wall.detach(host.name)
    world.lab.node.run(["ip", "link", "delete", vanishing.host_link])
    port = bystander_of(world).endpoint
    for command in (
        f"ip link set {port.host_link} nomaster",
        f"ip neigh del {port.address4} dev b9_br0",
        "ip address del 192.168.0.1/20 dev b9_br0",
        "sysctl -qw net.ipv4.conf.b9_br0.rp_filter=0",
    ):
        world.lab.node.run(command.split())
    world.lab.node.run(["nft", "flush", "set", "inet", "cellwall", "live"])


@pytest.mark.parametrize("binding", ["8202:80", "8202:80@93.184.216.0/24", "9000-9010:9000"])
def test_expose_and_unexpose_killed_at_every_step(node: World, binding: str) -> None:
    sandbox = node.attach("publisher")
    port = 9005 if "-" in binding else 8202
    with sandbox.host.serve(tcp=[80, 9005]):
        for operation in ("expose", "unexpose"):
            for step in every_step(node, lambda wall, verb=operation: getattr(wall, verb)(sandbox.name, binding)):
                with reopened(node) as wall:
                    if step:
                        wall.reconcile()
                    assert_converged(wall)
                    published = bool(wall.endpoint(sandbox.name).bindings)
                    assert is_answered(node.lab.lan, NODE4, port, expected=published) == published
                    assert step or published == (operation == "expose")
                    if operation == "expose" and step and published:
                        wall.unexpose(sandbox.name, binding)
                    if operation == "unexpose" and step and not published:
                        wall.expose(sandbox.name, binding)
                assert_connection(sandbox.host, PUBLIC4, 80)
    node.detach(sandbox)
    node.wall.reconcile()


@pytest.mark.slow
def test_up_again_killed_at_every_step_under_endpoints(node: World) -> None:
    """As an upgrade does it: the rules are replaced with endpoints attached. They are served throughout."""
    for _ in every_step(node, lambda wall: wall.up(), program="newer"):
        assert_bystander_is_served(node)
        with reopened(node) as wall:
            wall.reconcile()
            assert_converged(wall)
        assert_bystander_is_served(node)
