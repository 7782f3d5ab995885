"""What every operation promises whatever it is: the same again changes nothing, many are one transaction, and whatever
stood before the first `up` the first attach makes stand."""

import os
import runpy
import sqlite3
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from bench.transactions import generation

from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.throwaway import in_new_namespace
from cellwall.api import AttachRequest, EndpointKey, Wall
from cellwall.errors import AlreadyExists, CellwallError, Conflict, InvalidSpec, KernelError, NotFound
from cellwall.lab import connect
from cellwall.lab.addresses import NODE4
from cellwall.model.endpoint import Phase, PortBinding
from cellwall.model.network import Network
from cellwall.model.settings import Settings
from engine.snapshots import node_snapshot, wall_state
from world import PUBLIC4, PUBLIC6, World, assert_connection, open_world, rewired

pytestmark = pytest.mark.root


@pytest.fixture
def node(node: World) -> Iterator[World]:
    """The shared node, and whatever a test attached is detached."""
    yield node
    node.wall.detach_many([endpoint.key for endpoint in node.wall.endpoints()])


def transactions() -> int:
    """How many nftables transactions this network namespace has seen."""
    with open_netfilter_socket() as netfilter:
        return generation(netfilter)


def test_the_same_again_changes_nothing(node: World) -> None:
    wall, host = node.wall, node.host("same")
    attach: Callable[[], object] = lambda: wall.attach(  # noqa: E731 - each operation is a row
        host.name, netns=host.netns, tenant="acme", expose=["8600:80"], mac=0x02_00_5E_00_00_07
    )
    operations: list[Callable[[], object]] = [
        wall.up,
        attach,
        lambda: wall.expose(host.name, "8601:80"),
        lambda: wall.expose(host.name, "8601:80"),
        lambda: wall.unexpose(host.name, "8601:80"),
        wall.endpoints,
        wall.reconcile,
        wall.status,
        lambda: wall.detach(host.name),
    ]
    for operation in operations:
        operation()
        wall.reconcile()  # what a detach leaves for later is no part of the question
        before, seen = wall_state(node), transactions()
        first = operation()
        assert operation() == first
        assert transactions() == seen
        assert wall_state(node) == before
    assert wall.detach(host.name) is False
    assert wall.unexpose(node.attach("other").name, "8601:80").bindings == ()


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "another"},
        {"mac": 0x02_00_5E_00_00_08},
        {"expose": ["8611:80"]},
        {"expose": ["8610:80", "8611:80"]},
        {"netns": None},
        {"address4": ip_address("192.168.15.77")},
        {"address6": ip_address("fd00:abcd::f4d")},
    ],
    ids="+".join,
)
def test_an_attach_with_other_parameters_is_refused_and_changes_nothing(node: World, other: dict[str, object]) -> None:
    host = node.host("settled")
    given = {"netns": host.netns, "tenant": "acme", "expose": ["8610:80"], "mac": 0x02_00_5E_00_00_07}
    endpoint = node.wall.attach(host.name, **given)
    before = wall_state(node)
    with pytest.raises(AlreadyExists, match=host.name):
        node.wall.attach(host.name, **{**given, **other})
    assert wall_state(node) == before
    assert node.wall.endpoints() == (endpoint,)


@pytest.mark.parametrize("up", [False, True], ids=["bare", "up"])
def test_an_ipv6_address_is_refused_where_sandboxes_have_none(up: bool) -> None:
    with open_world(settings=Settings(ipv6="off"), up=up) as world:
        before = node_snapshot(world)
        for address4 in (None, ip_address("192.168.0.5")):
            with pytest.raises(InvalidSpec, match=r"^ip: fd00:abcd::5: .*IPv6"):
                world.wall.attach("web", address4=address4, address6=ip_address("fd00:abcd::5"))
        assert node_snapshot(world) == before
        assert world.wall.attach("web").address6 is None


def test_an_address_is_refused_as_it_was_asked_for(node: World) -> None:
    """Also where the other family's, which follows from it, is what it is refused for."""
    other = node.attach("other").endpoint
    for address, why in ((other.address6, "is leased"), (node.wall.settings.network.gateway6, "gateway")):
        with pytest.raises((InvalidSpec, Conflict), match=rf"^ip: {address}: .*{why}"):
            node.wall.attach("web", address6=address)
    assert node.wall.detach(other.key.container_id)


def test_where_no_thread_can_be_had_no_namespace_is_made_and_nothing_is_left(
    node: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python tells of it by a RuntimeError, which is a defect wherever nobody expects it."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    node.wall.reconcile()
    before = wall_state(node)
    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refused)
        with pytest.raises(KernelError, match=r"^make a network namespace at .*\(EAGAIN\): "):
            node.wall.attach("web")
        with pytest.raises(KernelError, match=r"^make a network namespace: .*\(EAGAIN\): "):
            in_new_namespace(lambda: None)
    assert wall_state(node) == before and node.wall.endpoints() == ()
    assert not [path for path in node.wall._site.namespaces.kept(node.wall._site.netns_directory) if "web" in path]


def test_one_wrong_request_of_many_leaves_none_attached(node: World) -> None:
    hosts = [node.host("many") for _ in range(3)]
    good = [AttachRequest(host.name, netns=str(host.netns)) for host in hosts]
    node.wall.reconcile()
    before = wall_state(node)
    for wrong in (
        AttachRequest("wrong", netns="/nonexistent"),
        AttachRequest("wrong", netns="/proc/self/ns/net"),
        AttachRequest("wrong", netns=good[0].netns),
        AttachRequest("wrong", mac=0x01_00_5E_00_00_01),
        AttachRequest(good[0].container_id),
    ):
        with pytest.raises(CellwallError):
            node.wall.attach_many([*good, wrong])
        assert node.wall.endpoints() == ()
        assert wall_state(node) == before


def test_a_wall_that_is_used_after_its_end_is_refused_and_changes_nothing(node: World) -> None:
    before = wall_state(node)
    with Wall.open(root=node.lab.root, settings=node.wall.settings) as wall:
        pass
    verbs: tuple[Callable[[], object], ...] = (
        wall.up, wall.status, wall.reconcile, wall.endpoints, wall.dns, lambda: wall.attach("late"),
        lambda: wall.detach("late"), lambda: wall.endpoint("late"), lambda: wall.holder, wall.down, wall.policies,
    )  # fmt: skip
    for verb in verbs:
        with pytest.raises(Conflict, match="open the wall again"):
            verb()
    assert wall_state(node) == before


def test_the_first_attach_does_what_up_does(fresh_node: World) -> None:
    wall = fresh_node.wall
    bare = node_snapshot(fresh_node)
    wall.up()
    laid = wall_state(fresh_node)
    wall.down()
    assert node_snapshot(fresh_node) == bare
    for first in (
        lambda: wall.attach("first"),
        lambda: wall.attach_many([AttachRequest("first")]),
        wall.setup_security_chain,
        wall.enable_bridge_netfilter,
        wall.reconcile,
    ):
        first()
        wall.detach("first")
        wall.reconcile()
        assert wall_state(fresh_node) == laid
        wall.down()
        assert node_snapshot(fresh_node) == bare


@pytest.mark.parametrize(
    "refused",
    [
        lambda wall: wall.attach("web", netns="/nonexistent"),
        lambda wall: wall.attach("web", netns="/proc/self/ns/net"),
        lambda wall: wall.attach("web", address4=ip_address("192.168.0.1")),
        lambda wall: wall.attach_many([AttachRequest("web"), AttachRequest("web")]),
        lambda wall: wall.expose("nobody", "8080:80"),
        lambda wall: wall.unexpose("nobody", "8080:80"),
        lambda wall: wall.verify("nobody"),
    ],
    ids=["no netns", "own netns", "gateway", "twins", "expose", "unexpose", "verify"],
)
def test_a_refused_request_does_not_bring_the_wall_up(fresh_node: World, refused: Callable[[Wall], object]) -> None:
    bare = node_snapshot(fresh_node)
    with pytest.raises(CellwallError):
        refused(fresh_node.wall)
    assert node_snapshot(fresh_node) == bare
    assert fresh_node.wall.status().up is False
    fresh_node.wall.up()
    laid = wall_state(fresh_node)
    with pytest.raises(CellwallError):
        refused(fresh_node.wall)
    assert wall_state(fresh_node) == laid, "a wall that was up before is no part of the request"


@pytest.mark.parametrize("phase", ["attaching", "detaching"])
def test_what_another_process_is_at_or_died_at_is_not_attached(node: World, phase: Phase) -> None:
    sandbox = node.attach("half")
    journal = node.wall._site.journal
    with journal.transaction():
        journal.set_phase([sandbox.endpoint.key], phase)
    with pytest.raises(NotFound, match=sandbox.name):
        node.wall.endpoint(sandbox.name)
    assert node.wall.endpoints() == ()
    with pytest.raises(NotFound, match=sandbox.name):
        node.wall.expose(sandbox.name, "8620:80")
    assert node.wall.status().drift == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"network": Network(subnet4=ip_network("172.17.0.0/20"), gateway4=ip_address("172.17.0.9"))},
        {"network": Network(bridge="br-other")},
        {"network": Network(bridge="b9_new", subnet4=ip_network("172.20.0.0/20"), gateway4=ip_address("172.20.0.1"))},
        {"network": Network(bridge="b9_new"), "interface": "nothing0"},
    ],
    ids=["overlap", "foreign bridge", "overlap under another name", "no such interface"],
)
def test_a_refused_configuration_leaves_the_wall_of_the_former_one(
    fresh_node: World, changed: dict[str, object]
) -> None:
    fresh_node.wall.up()
    laid = wall_state(fresh_node)
    with (
        Wall.open(root=fresh_node.lab.root, settings=Settings(**changed)) as other,
        pytest.raises(CellwallError),
    ):
        other.up()
    assert wall_state(fresh_node) == laid
    with Wall.open(
        root=fresh_node.lab.root,
        settings=Settings(network=Network(subnet4=ip_network("192.168.0.0/24"), gateway4=ip_address("192.168.0.1"))),
    ) as narrower:
        narrower.up()  # it overlaps nothing but its own predecessor
        assert narrower.status().drift == ()


def test_a_relative_path_of_a_namespace_holds_from_everywhere(node: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host = node.host("relative")
    monkeypatch.chdir(host.netns.parent)
    assert node.wall.attach(host.name, netns=host.netns.name).netns == str(host.netns)
    monkeypatch.chdir("/")
    assert node.wall.verify(host.name) == ()


EVERY_FORM = (
    "8630:80",
    "8631:80/udp",
    "93.184.216.10:8632:80",
    "8633:80@203.0.113.0/24,2001:db8::/32",
    "93.184.216.10:8634:80@203.0.113.0/24",
    "[2606:2800:220:1::10]:8634:80@2001:db8::/32",
    "9100-9110:9100",
    "9120-9130:9130",
    "9140-9150:9140@203.0.113.0/24,2001:db8::/32",
    "93.184.216.10:9160-9170:9160/udp",
    "93.184.216.10:9180-9190:9180@203.0.113.0/24",
)


def test_rules_are_replaced_under_every_form_of_exposure(fresh_node: World) -> None:
    """Sets are loaded full before the rules that look into them, so nft reads their types back from the kernel."""
    wall = fresh_node.wall
    sandbox = fresh_node.attach("web", expose=EVERY_FORM)
    upgraded = rewired(wall, program="another")
    assert upgraded.up().changed
    assert wall.status().drift == ()
    for command in (["nft", "flush", "ruleset"], ["nft", "delete", "table", "inet", "cellwall"]):
        fresh_node.lab.node.run(command)
        assert wall.reconcile().repaired
        assert wall.status().drift == ()
    with sandbox.host.serve(tcp=[80]):
        assert_connection(fresh_node.lab.lan, NODE4, 8632)


@pytest.mark.parametrize("operation", ["attach", "expose"])
def test_an_operation_that_finds_the_tables_flushed_brings_them_back(node: World, operation: str) -> None:
    """Somebody's `flush ruleset`, as nftables.service begins with. No container could be started, and those that run
    stayed without their wall, until somebody came to look."""
    wall, staying = node.wall, node.attach("staying", expose=["8640:80"])
    host = node.host("newcomer")
    node.lab.node.run(["nft", "flush", "ruleset"])
    assert connect(staying.host, PUBLIC4, 80, timeout=0.2).kind != "answer"
    if operation == "attach":
        wall.attach(host.name, netns=host.netns)
        assert_connection(host, PUBLIC6, 80)
    else:
        wall.expose(staying.name, "8641:80")
    assert wall.status().drift == ()
    assert_connection(staying.host, PUBLIC4, 80)
    with staying.host.serve(tcp=[80]):
        assert_connection(node.lab.lan, NODE4, 8640)
    assert wall.reconcile().repaired == ()


@pytest.mark.slow
def test_a_thousand_are_one_transaction(node: World) -> None:
    wall = node.wall
    hosts = node.lab.sandboxes([f"k{number}" for number in range(1000)])
    requests = [
        AttachRequest(host.name, netns=str(host.netns), bindings=(PortBinding("tcp", 31000 + number, 80),))
        for number, host in enumerate(hosts)
    ]
    terse = ["nft", "-s", "-t", "list", "ruleset"]
    rules = node.lab.node.run(terse).text
    seen = transactions()
    wall.attach_many(requests)
    assert transactions() == seen + 1
    assert_connection(hosts[0], PUBLIC4, 80)
    assert_connection(hosts[-1], PUBLIC6, 80)
    with hosts[-1].serve(tcp=[80]):
        assert_connection(node.lab.lan, NODE4, 31999)
    wall.expose(hosts[0].name, PortBinding("udp", 31000, 1000, host_port_last=31999))
    assert transactions() == seen + 2
    assert wall.status().drift == ()
    assert node.lab.node.run(terse).text == rules, "a rule or a chain was added for a container"
    assert wall.detach_many([EndpointKey(request.container_id) for request in requests]) == 1000
    assert transactions() == seen + 3
    assert wall.reconcile().repaired == ()
    assert wall.endpoints() == ()


DOCUMENTED = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["docs/api.md", "README.md"])
def test_what_the_documentation_shows_works(
    node: World, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = (DOCUMENTED / page).read_text().split("```python\n")[1]
    program = shown.partition("```")[0]
    for general, here in (
        ("Wall.open()", f"Wall.open(root={str(node.lab.root)!r})"),
        ("/run/netns/db", str(node.host("db").netns)),
    ):
        program = program.replace(general, here)
    (tmp_path / "program.py").write_text(program)
    runpy.run_path(str(tmp_path / "program.py"))
    assert capsys.readouterr().out
    assert "web" not in {endpoint.key.container_id for endpoint in node.wall.endpoints()}
    assert node.wall.status().drift == ()


def test_the_documentation_knows_every_method_and_property() -> None:
    text = (DOCUMENTED / "docs/api.md").read_text()
    public = {name for name in dir(Wall) if not name.startswith("_")}
    assert {name for name in public if f"{name}(" not in text and f"`wall.{name}`" not in text} == set()


def test_a_wall_that_cannot_be_opened_leaves_no_descriptor(fresh_node: World) -> None:
    run = fresh_node.wall.paths.run
    fresh_node.wall.close()
    with sqlite3.connect(run / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Conflict, match="newer") as refused:
        Wall.open(root=fresh_node.lab.root)
    assert set(os.listdir("/proc/self/fd")) == before  # while what was raised keeps everything alive
    del refused
