"""A live node moves from nftables to iptables and back, and between the variants of iptables: what is allowed loses no
packet, what is denied passes none, and nothing is left of the wall that went."""

from collections.abc import Callable, Iterator

import pytest

from cellwall.api import Wall
from cellwall.attack.flood import Flood
from cellwall.engine.iptables.host import Host
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from engine.steps import child_killed_at
from packet.test_blink import blinking, to_the_floor
from packet.test_half_replaced import to_the_node
from world import Stream, World, Wrapped, open_world, public, rewired, ruleset

pytestmark = [
    pytest.mark.root,
    pytest.mark.minutes,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]
NFTABLES = Settings(backend="nftables")
IN_NFT, IN_LEGACY = (Settings(backend="iptables", iptables=variant) for variant in ("nft", "legacy"))
EITHER = pytest.mark.parametrize("iptables", [IN_NFT, IN_LEGACY], ids=["nft", "legacy"])


@pytest.fixture
def world() -> Iterator[World]:
    with open_world(settings=NFTABLES) as world:
        yield world


def move(world: World, settings: Settings) -> None:
    """`up` with another mechanism."""
    wall = rewired(world.wall, settings=settings)
    assert wall.up().changed
    assert not wall.up().changed
    assert wall.status().drift == ()


def left_behind(world: World) -> set[str]:
    """In which mechanisms there is anything of a wall."""
    node = world.lab.node
    nft = ruleset(world)
    found = {"tables"} if "table inet cellwall" in nft or "table bridge cellwall" in nft else set()
    for name in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        if "B9-" in node.run([f"{name}-save"]).text:
            found.add(name.rpartition("-")[2])
    return found | ({"sets"} if "b9" in node.run(["ipset", "list", "-n"]).text else set())


@EITHER
def test_nothing_blinks_while_a_wall_moves_to_iptables_and_back(world: World, iptables: Settings) -> None:
    with blinking(world):
        for _ in range(2):
            move(world, iptables)
            assert left_behind(world) == {iptables.iptables, "sets"}
            move(world, NFTABLES)
            assert left_behind(world) == {"tables"}


def test_nothing_blinks_while_a_wall_moves_between_the_variants() -> None:
    with open_world(settings=IN_NFT) as world, blinking(world):
        for settings in (IN_LEGACY, IN_NFT, IN_LEGACY, IN_NFT):
            move(world, settings)
            assert left_behind(world) == {settings.iptables, "sets"}


@EITHER
def test_a_flood_passes_nothing_while_a_wall_moves(world: World, iptables: Settings) -> None:
    attacker = world.attach("attacker")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    frames = [*to_the_floor(attacker, gateway), *to_the_node(attacker, gateway)]
    with Flood(attacker.host, "eth0", frames) as flood:
        for _ in range(2):
            for settings in (iptables, NFTABLES):
                flood.wait()
                move(world, settings)
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")


def up_killed_after(world: World, settings: Settings, changes: int) -> bool:
    """Killed after its n-th change of rules or sets; False where it needed fewer and got through."""

    def up(doom: Callable[[], None]) -> None:
        wall = Wall.open(root=world.lab.root, settings=settings)

        def doomed(act: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: object) -> None:
                act(*arguments)
                doom()

            return call

        rules, host = wall._site.rules, wall._site.iptables()
        tables = Wrapped(host.tables, restore=doomed(host.tables.restore))
        sets = Wrapped(host.sets, restore=doomed(host.sets.restore), apply=doomed(host.sets.apply))
        dying = Host(tables, sets, host.glance)
        rewired(wall, settings=settings, rules=Wrapped(rules, lay=doomed(rules.lay)), iptables=lambda: dying).up()

    return child_killed_at(changes, up)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end"),
    [(NFTABLES, IN_NFT), (NFTABLES, IN_LEGACY), (IN_NFT, NFTABLES), (IN_LEGACY, NFTABLES), (IN_NFT, IN_LEGACY)],
    ids=["to nft", "to legacy", "from nft", "from legacy", "from nft to legacy"],
)
def test_no_death_on_the_way_opens_anything(world: World, start: Settings, end: Settings) -> None:
    attacker = world.attach("attacker", expose=["8090:90/udp"])
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    frames = [*to_the_floor(attacker, gateway), *to_the_node(attacker, gateway)]
    if start != NFTABLES:
        move(world, start)
    with Flood(attacker.host, "eth0", frames) as flood:
        for changes in range(1, 60):
            died = up_killed_after(world, end, changes)
            flood.wait()
            if not died:
                break
            # whoever comes next may go on, or go back
            rewired(world.wall, settings=end if changes % 2 else start).up()
            flood.wait()
            rewired(world.wall, settings=start).up()
            assert left_behind(world) == ({"tables"} if start == NFTABLES else {start.iptables, "sets"})
        assert changes > 5, "it died nowhere"
        assert not died
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")
    assert rewired(world.wall, settings=end).status().drift == ()
