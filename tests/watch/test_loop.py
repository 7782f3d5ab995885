"""The loop itself, in a thread: by walls of which something goes wrong, or is taken away, at just one moment."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any, Literal

import msgspec
import pytest

from cellwall.api import Wall
from cellwall.engine.repair.drift import CHANGED, FLUSHED
from cellwall.errors import CellwallError, Dismissed, KernelError, Unavailable
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4
from cellwall.model.settings import Settings
from cellwall.watch.loop import watch
from cellwall.watch.pace import AGAIN
from world import World, Wrapped, assert_connection, open_world, public, rewired

pytestmark = pytest.mark.root
PATIENCE = 30
TABLES = ("filter", "nat", "mangle", "raw", "security")
VARIANTS: tuple[Literal["nft", "legacy"], ...] = ("nft", "legacy")


class Eventful:
    """A wall whose first repairs end with these events in place of, or after, what they do."""

    def __init__(self, wall: Wall, *events: Callable[[], None]) -> None:
        self._wall = wall
        self._events = list(events)
        self.asked: list[str] = []
        self.was_closed, self.repaired = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wall, name)

    def holds(self) -> bool:
        self.asked.append("holds")
        return self._wall.holds()

    def repair(self, **how: Any) -> tuple[str, ...]:
        self.asked.append("repair")
        done = self._wall.repair(**how)
        if self._events:
            self._events.pop(0)()
        else:
            self.repaired.set()
        return done

    def looked(self, repaired: int, *, failed: bool) -> None:
        pass

    def closed(self) -> None:
        """Told by who closes beside it."""
        self.asked.append("closed")
        self.was_closed.set()


@contextmanager
def watching(wall: Eventful) -> Iterator[list[Exception]]:
    """What ended it."""
    ended: list[Exception] = []
    reading, writing = os.pipe2(os.O_CLOEXEC)

    def run() -> None:
        try:
            with Wall.open(root=wall.paths.base, settings=lambda: wall.settings, reading=True) as closer:
                watch(wall, reading, closer=closer, counts=wall)  # type: ignore[arg-type]
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        os.close(writing)
        thread.join()
        os.close(reading)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


def failing(error: CellwallError) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [Unavailable("nft -f -: no end within 30 s"), KernelError(12, "lay the rules")])
def test_a_repair_that_fails_is_tried_again(world: World, error: CellwallError) -> None:
    wall = Eventful(world.wall, failing(error), failing(error))
    with watching(wall) as ended:
        assert wall.repaired.wait(PATIENCE)
    assert ended == []


def test_it_ends_where_there_is_nothing_to_watch_any_more(world: World) -> None:
    gone = Dismissed("uninstalled")
    wall = Eventful(world.wall, failing(gone))
    with watching(wall) as ended:
        while not ended:
            assert not wall.repaired.wait(0.01)
    assert ended == [gone]


def test_what_another_version_lays_is_not_closed_without_the_lock_and_what_this_one_lays_is(world: World) -> None:
    """Nor is the bridge shut for as long as it takes to find that out."""
    site, shut = world.wall._site, list[int]()
    wall = rewired(world.wall, links=Wrapped(site.links, shut_latch=shut.append))
    found = site.foundation()
    assert found is not None
    own, other = found.program, "another"
    for program, laying, closed in (
        ("", "", False), (other, own, False), ("", other, False), ("", own, True), (own, "", False)
    ):  # fmt: skip
        doubted = msgspec.structs.replace(found, program=program, laying=laying)
        with site.journal.transaction():
            site.journal.put("foundation", msgspec.json.encode(doubted))
        world.lab.node.run(["nft", "flush", "chain", "inet", "cellwall", "B9-FORWARD"])
        assert wall.close_unjudged() is closed and bool(shut) is closed
        shut.clear()
    world.wall.repair()
    assert world.wall.close_unjudged() is False
    assert world.wall.status().drift == ()


def test_a_wall_beside_a_daemons_closes_although_it_may_take_no_turn(world: World) -> None:
    with Wall.open(root=world.lab.root, settings=lambda: world.wall.settings, reading=True) as beside:
        world.lab.node.run(["nft", "flush", "table", "inet", "cellwall"])
        assert beside.close_unjudged()
    assert "closed" not in "".join(world.wall.repair())  # it was, already


def test_what_was_laid_while_it_was_closed_is_open_again(world: World) -> None:
    site = world.wall._site
    tenant = world.attach("tenant")

    def late(*_: object) -> bool:
        world.wall.repair()
        return False  # as of another state

    world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"])
    assert not rewired(world.wall, rules=Wrapped(site.rules, drop_all=late)).close_unjudged()
    assert world.wall.status().drift == ()
    with world.lab.internet.serve(tcp=[80]):
        assert_connection(tenant.host, public(4), 80)
    world.detach(tenant)


def test_a_bridge_that_was_shut_behind_a_repair_is_let_go_again(world: World) -> None:
    """Of a wall that somebody laid between the look at it and the shutting."""
    links = world.wall._site.links
    tenant = world.attach("tenant")

    def late(index: int) -> None:
        world.wall.repair()
        links.shut_latch(index)

    world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"])
    assert not rewired(world.wall, links=Wrapped(links, shut_latch=late)).close_unjudged()
    assert world.wall.status().drift == ()
    with world.lab.internet.serve(tcp=[80]):
        assert_connection(tenant.host, public(4), 80)
    world.detach(tenant)


def test_what_is_open_is_shut_although_its_rules_cannot_be_changed_now(world: World) -> None:
    """Nor by who repairs, until he does: no answer passes either."""
    tenant, services = world.attach("tenant"), world.lab.lan.serve(udp=[80])

    def arrives() -> bool:
        token = world.token()
        connect(tenant.host, LAN4, 80, udp=True, payload=token, timeout=0.1)
        return services.saw(token)

    world.lab.node.run(["nft", "delete", "table", "inet", "cellwall"])
    assert arrives()
    stuck = Wrapped(world.wall._site.rules, drop_all=failing(Unavailable("locked")))
    with pytest.raises(Unavailable, match="locked"):
        rewired(world.wall, rules=stuck).close_unjudged()
    assert not arrives()
    world.wall.repair()
    assert world.wall.status().drift == ()
    world.detach(tenant)


def test_nothing_that_we_lay_is_taken_for_something_to_close(world: World) -> None:
    """Whole replacements, refreshes and changes of endpoints, under the eyes of who closes without the lock."""
    over, seen = threading.Event(), list[bool | None]()
    tenant = world.attach("tenant")

    def look(beside: Wall) -> None:
        while not over.is_set():
            seen.append(beside.close_unjudged())

    with Wall.open(root=world.lab.root, settings=lambda: world.wall.settings, reading=True) as beside:
        looks = threading.Thread(target=look, args=(beside,))
        looks.start()
        try:
            for number in range(8):
                rewired(world.wall, settings=Settings(protect=(ip_network(f"203.0.113.{number}"),))).up()
                world.lab.node.run(["nft", "insert", "rule", "inet", "cellwall", "input", "counter"])
                world.wall.up()
                world.detach(world.attach("next", expose=[f"{8080 + number}:80"]))
        finally:
            over.set()
            looks.join()
    assert True not in seen
    assert False in seen
    world.detach(tenant)
    world.wall.up()


def test_nothing_that_iptables_lays_or_moves_is_taken_for_something_to_close() -> None:
    """From one variant to the other and back, and to nftables and back, with rules laid anew in each."""
    over, seen = threading.Event(), list[bool | None]()
    both = [Settings(backend="iptables", iptables=variant) for variant in VARIANTS]

    def look(beside: Wall) -> None:
        while not over.is_set():
            seen.append(beside.close_unjudged())

    with open_world(settings=both[0]) as world:
        world.attach("tenant", expose=["8080:80"])
        with Wall.open(root=world.lab.root, settings=lambda: world.wall.settings, reading=True) as beside:
            looks = threading.Thread(target=look, args=(beside,))
            looks.start()
            try:
                for number, settings in enumerate((*both, Settings(), *reversed(both))):
                    other = msgspec.structs.replace(settings, protect=(ip_network(f"203.0.113.{number}"),))
                    rewired(world.wall, settings=settings).up()
                    rewired(world.wall, settings=other).up()
            finally:
                over.set()
                looks.join()
        assert set(seen) == {False}
        rewired(world.wall, settings=both[0]).up()


@pytest.fixture
def iptables() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        world.attach("tenant")
        yield world


@pytest.mark.parametrize(
    ("node", "command", "told"),
    [
        ("world", "nft delete table bridge cellwall", FLUSHED),
        ("world", "nft flush chain inet cellwall B9-FORWARD", FLUSHED),
        ("iptables", "iptables-nft -t nat -F", CHANGED),  # what judges is there
    ],
)
def test_a_flush_amid_a_comparison_ends_it_and_is_told_as_one(
    request: pytest.FixtureRequest, node: str, command: str, told: str
) -> None:
    world: World = request.getfixturevalue(node)
    site = world.wall._site
    done: list[str] = []

    def differences(*_: object, **__: object) -> list[str]:
        world.lab.node.run(command.split())
        return []

    def observe() -> object:
        done.append("compared")
        return site.links.observe()

    def ensure(*asked: Any, **named: Any) -> int:
        done.append("laid")
        return site.links.ensure_bridge(*asked, **named)

    amid = Wrapped(site.links, bridge_differences=differences, observe=observe, ensure_bridge=ensure)
    assert not rewired(world.wall, links=amid).holds()
    assert done == []
    world.wall.repair()
    assert told in rewired(world.wall, links=amid).repair()
    assert done[0] == "laid"
    assert world.wall.status().drift == ()


class Busy(Eventful):
    """A wall that somebody changes while it is compared, so many times."""

    def __init__(self, world: World, times: int) -> None:
        super().__init__(world.wall)
        self._world, self._times = world, times
        self.compared = threading.Event()

    def holds(self) -> bool:
        self.asked.append("holds")
        if self._times:
            self._times -= 1
            self._world.detach(self._world.attach("meanwhile"))
            return False
        self.compared.set()
        return True


@pytest.mark.parametrize("times", [1, AGAIN, AGAIN + 1])
def test_what_changes_while_it_is_compared_is_compared_again_before_writers_wait(world: World, times: int) -> None:
    wall = Busy(world, times)
    with watching(wall):
        assert wall.repaired.wait(PATIENCE)
        world.detach(world.attach("first"))
        assert wall.compared.wait(PATIENCE)
    again = [*["holds"] * (AGAIN + 1), "repair"] if times > AGAIN else ["holds"] * times
    assert wall.asked[: len(again) + 2] == ["repair", *again, "holds"]


def test_damage_that_is_none_is_compared_as_a_change_is_and_damage_is_repaired(world: World) -> None:
    """A first policy of its form has us lay rules, and one of many rules has more elements than can be told of."""
    wall = Busy(world, 0)
    undone = b"add chain inet cellwall passing; delete chain inet cellwall passing"
    with watching(wall):
        assert wall.repaired.wait(PATIENCE)
        for act in (
            lambda: world.detach(world.attach("first")),
            lambda: world.lab.node.run(["nft", "-f", "-"], input=undone),
        ):
            asked = len(wall.asked)
            wall.compared.clear()
            act()
            assert wall.compared.wait(PATIENCE)
            assert "repair" not in wall.asked[asked:]
        wall.repaired.clear()
        world.lab.node.run(["nft", "flush", "chain", "inet", "cellwall", "B9-FORWARD"])
        assert wall.repaired.wait(PATIENCE)
    assert world.wall.status().drift == ()


@pytest.fixture(scope="module")
def legacy() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="legacy")) as world:
        world.attach("tenant")
        yield world


def test_what_was_emptied_without_a_word_while_it_looked_is_closed_before_the_next_look(legacy: World) -> None:
    empty = "".join(f"*{table}\nCOMMIT\n" for table in TABLES).encode()
    wall = Eventful(
        legacy.wall, lambda: (legacy.lab.node.run(["iptables-legacy-restore", "-w", "10"], input=empty), None)[1]
    )
    with watching(wall):
        assert wall.was_closed.wait(PATIENCE)
        assert wall.repaired.wait(PATIENCE)
    assert wall.asked.index("closed") == 1  # before the second look
    legacy.wall.repair()
    assert legacy.wall.status().drift == ()
