"""The settings that the last `up` enforced stay in force, whatever a process that opened the wall earlier believes, and
whatever is configured where another process runs.

A process that opened the wall earlier is a child of the test: it opens it, waits until the operator is done, and works
on.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.config import paths_for
from cellwall.errors import CellwallError, Conflict, InvalidSpec
from cellwall.lab import connect
from cellwall.model.settings import Settings, parse_openings
from world import World, open_world

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
DATABASE = "10.0.0.5"
OPENED = Settings(exceptions=parse_openings(f"db {DATABASE} tcp/80", "x"))
OPENED_TEXT = f'[network]\nexceptions = ["db {DATABASE} tcp/80"]\n'
Work = Callable[[Wall], object]


@contextmanager
def opened_earlier(world: World, settings: Settings | None, *works: Work) -> Iterator[Callable[[], list[str]]]:
    """A process that opened the wall; what is given does the works in it and returns what became of each."""
    ready, go, said = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException), Wall.open(root=world.lab.root, settings=settings) as wall:
            os.write(ready[1], b".")
            os.read(go[0], 1)
            os.write(said[1], msgspec.json.encode([_outcome(work, wall) for work in works]))
        os._exit(0)
    for end in (ready[1], go[0], said[1]):
        os.close(end)
    try:
        assert os.read(ready[0], 1) == b".", "the wall did not open"
        yield lambda: _told(go[1], said[0])
    finally:
        for end in (ready[0], go[1], said[0]):
            os.close(end)
        os.waitpid(child, 0)


def _outcome(work: Work, wall: Wall) -> str:
    try:
        work(wall)
    except CellwallError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def _told(go: int, said: int) -> list[str]:
    os.write(go, b".")
    text = b""
    while part := os.read(said, 1 << 16):
        text += part
    return msgspec.json.decode(text, type=list[str])


@pytest.fixture
def node() -> Iterator[World]:
    with open_world(settings=OPENED) as world:
        world.lab.internet.serve(tcp=[80])
        yield world


def configure(world: World, text: str) -> None:
    file = Path(paths_for(world.lab.root).config_text)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def reached(world: World, sandbox: object) -> str:
    return connect(sandbox, DATABASE, 80, timeout=10.0).kind  # type: ignore[attr-defined]


def test_a_process_with_former_settings_of_its_own_is_refused_until_it_calls_up(node: World) -> None:
    tenant = node.attach("tenant", expose=["8080:80"])
    other = node.host("other")
    works: tuple[Work, ...] = (
        lambda wall: wall.attach(other.name, netns=other.netns),
        lambda wall: wall.expose(tenant.name, "8081:80"),
        lambda wall: wall.reconcile(),
        lambda wall: wall.enable_bridge_netfilter(),
    )
    closing: tuple[Work, ...] = (
        lambda wall: wall.unexpose(tenant.name, "8080:80"),
        lambda wall: wall.detach(tenant.name),
        lambda wall: wall.up(),
    )
    with opened_earlier(node, OPENED, *works) as work, opened_earlier(node, OPENED, *closing) as close:
        assert reached(node, tenant.host) == "answer"
        with Wall.open(root=node.lab.root, settings=Settings()) as operator:
            operator.up()
            assert reached(node, tenant.host) == "refused"
            outcomes = work()
            assert [line.partition(":")[0] for line in outcomes] == ["Conflict"] * len(works)
            assert all("settings" in line and "`up`" in line for line in outcomes)
            assert reached(node, tenant.host) == "refused"
            assert operator.status().drift == ()
            assert operator.status().warnings == ()
            assert [e.key.container_id for e in operator.endpoints()] == [tenant.name]
        # what closes needs no settings, and `up` is how settings come into force
        assert close() == ["done"] * len(closing)
    after = node.attach("after")
    assert reached(node, after.host) == "answer"


def test_a_process_that_reads_its_configuration_goes_by_what_another_brought_into_force(fresh_node: World) -> None:
    fresh_node.lab.internet.serve(tcp=[80])
    configure(fresh_node, OPENED_TEXT)
    other = fresh_node.host("other")
    with Wall.open(root=fresh_node.lab.root) as operator:
        operator.up()
        tenant = fresh_node.host("tenant")
        operator.attach(tenant.name, netns=tenant.netns)
        works: tuple[Work, ...] = (lambda wall: wall.attach(other.name, netns=other.netns), lambda wall: wall.up())
        with opened_earlier(fresh_node, None, *works) as work:
            assert reached(fresh_node, tenant) == "answer"
            configure(fresh_node, "")
            with Wall.open(root=fresh_node.lab.root) as later:
                later.up()
            assert reached(fresh_node, tenant) == "refused"
            assert work() == ["done"] * len(works)
        assert [reached(fresh_node, host) for host in (tenant, other)] == ["refused"] * 2
        assert operator.attach(other.name, netns=other.netns).key.container_id == other.name
        assert operator.settings.exceptions == ()
        assert operator.status().warnings == ()


def test_only_up_and_reconcile_bring_what_is_configured_into_force(fresh_node: World) -> None:
    fresh_node.lab.internet.serve(tcp=[80])
    configured = [OPENED]
    with Wall.open(root=fresh_node.lab.root, settings=lambda: configured[0]) as wall:
        tenant = fresh_node.host("tenant")
        wall.attach(tenant.name, netns=tenant.netns)
        for closed, bring in ((Settings(), wall.up), (Settings(connections=512), wall.reconcile)):
            configured[0] = closed
            for act in _OPERATIONS:
                act(wall, fresh_node)
                assert wall.settings == OPENED
                assert reached(fresh_node, tenant) == "answer"
                assert any("`up`" in line for line in wall.status().warnings)
            bring()
            assert wall.settings == closed
            assert reached(fresh_node, tenant) == "refused"
            assert wall.status().warnings == wall.status().drift == ()
            configured[0] = OPENED
            wall.up()


_OPERATIONS: tuple[Callable[[Wall, World], object], ...] = (
    lambda wall, _: wall.attach("other", expose=["9000-9010:9000"]),  # a form of exposure that needs new rules
    lambda wall, _: wall.expose("other", "8080:80"),
    lambda wall, _: wall.unexpose("other", "8080:80"),
    lambda wall, world: (world.lab.node.ip(["addr add 198.51.100.77/32 dev eth0"]), wall.enable_bridge_netfilter()),
    lambda wall, world: (world.lab.node.ip(["addr del 198.51.100.77/32 dev eth0"]), wall.verify("other")),
    lambda wall, _: wall.detach("other"),
)


def test_two_that_attach_with_different_configurations_do_not_take_turns_in_the_rules(fresh_node: World) -> None:
    protected = Settings(protect=(ip_network("151.101.0.0/16"),))
    with (
        Wall.open(root=fresh_node.lab.root, settings=lambda: protected) as operator,
        Wall.open(root=fresh_node.lab.root, settings=Settings) as other,
    ):
        operator.up()
        laid = ruleset_text(fresh_node)
        assert "151.101.0.0/16" in laid
        for number, wall in enumerate((other, operator, other)):
            wall.attach(f"tenant{number}")
            assert "151.101.0.0/16" in ruleset_text(fresh_node)
        with Wall.open(root=fresh_node.lab.root, settings=Settings) as third:
            assert third.settings == protected


def ruleset_text(world: World) -> str:
    return world.lab.node.run(["nft", "list", "set", "inet", "cellwall", "floor4"]).text


def test_what_is_in_force_by_another_program_is_replaced_by_what_is_configured(fresh_node: World) -> None:
    """A record that this program cannot read is of another version, and the first attach after a change of programs
    lays the rules anew anyway."""
    configured = [Settings()]
    with Wall.open(root=fresh_node.lab.root, settings=lambda: configured[-1]) as wall:
        wall.up()
        configured.append(OPENED)
        found = wall._site.foundation()
        assert found is not None
        with wall._site.journal.transaction():
            unread = msgspec.structs.replace(found, settings='{"network.novel": 1}')
            wall._site.journal.put("foundation", msgspec.json.encode(unread))
        wall.attach("tenant")
        assert wall.settings == OPENED
        assert wall.status().drift == wall.status().warnings == ()


def test_up_takes_what_is_configured_now_and_a_configuration_gone_wrong_keeps_nothing_from_closing(
    fresh_node: World,
) -> None:
    with Wall.open(root=fresh_node.lab.root) as wall:
        wall.up()
        wall.attach("tenant", expose=["8080:80"])
        configure(fresh_node, '[node]\nprotect = ["45.33.0.0/16"]\n')
        assert wall.up().changed
        assert wall.settings.protect == (ip_network("45.33.0.0/16"),)
        configure(fresh_node, "[node]\nprotekt = []\n")
        with pytest.raises(InvalidSpec, match="protekt"):
            wall.up()
    with Wall.open(root=fresh_node.lab.root) as wall:
        assert wall.settings.protect == (ip_network("45.33.0.0/16"),)
        assert any("protekt" in line for line in wall.status().warnings)
        assert wall.status().drift == ()
        assert wall.unexpose("tenant", "8080:80").bindings == ()
        assert wall.detach("tenant")
        wall.down()
    with pytest.raises(InvalidSpec, match="protekt"):
        Wall.open(root=fresh_node.lab.root)
    with Wall.open(root=fresh_node.lab.root, closing=True) as wall:
        assert not wall.detach("tenant")
        with pytest.raises(InvalidSpec, match="protekt"):
            wall.attach("tenant")
        wall.uninstall()


def test_settings_of_a_node_that_is_not_up_are_nobodys(fresh_node: World) -> None:
    """The first attach does what `up` does, with the settings of whoever attaches."""
    with Wall.open(root=fresh_node.lab.root, settings=OPENED) as first:
        first.up()
        first.down()
        fresh_node.wall.attach("tenant")
        with pytest.raises(Conflict, match="settings"):
            first.attach("other")
        fresh_node.wall.detach("tenant")


def test_settings_that_a_program_hands_over_are_refused_where_they_cannot_work(fresh_node: World) -> None:
    with pytest.raises(InvalidSpec, match="must be a single bit"):
        Wall.open(root=fresh_node.lab.root, settings=lambda: Settings(mark=3))


def test_up_brings_given_settings_into_force_in_place_of_what_is_configured(fresh_node: World) -> None:
    """For who was told of others by a caller, with a wall that is not its own to open anew."""
    with Wall.open(root=fresh_node.lab.root, settings=Settings) as wall:
        wall.up()
        assert wall.up(settings=OPENED).changed
        assert wall.settings_to_open_by() == OPENED
        wall.attach("web", netns=fresh_node.host().netns)
        assert wall.settings == OPENED
        with pytest.raises(InvalidSpec, match="must be a single bit"):
            wall.up(settings=Settings(mark=3))
        assert wall.status().drift == ()
        assert wall.settings_to_open_by() == OPENED
        wall.detach("web")
        assert "b9h" in fresh_node.lab.node.run(["ip", "-br", "link"]).text
        wall.clear_up()
        assert "b9h" not in fresh_node.lab.node.run(["ip", "-br", "link"]).text
