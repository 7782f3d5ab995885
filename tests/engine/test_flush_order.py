"""`nft flush ruleset` ends hooks in the order in which their tables were made: what vouches for packets is made before
what judges them, so that nothing is vouched for that nobody judges any more."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from cellwall.adapters.iptables.tables import XtTables
from cellwall.api import Wall
from cellwall.attack.flood import Flood
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.host import Host
from cellwall.lab import connect
from cellwall.lab.addresses import LAN4, LAN6
from cellwall.lower.xt.tables import Family, TableName
from cellwall.model.addresses import mac_text
from cellwall.model.settings import Settings
from engine.steps import Doom, Stepped, child_killed_at, stepped
from packet.test_blink import to_the_floor
from packet.test_half_replaced import to_the_node
from world import Stream, World, Wrapped, assert_connection, open_world, public, rewired

BEFORE = (
    ("bridge nat", "ip security"),
    ("bridge nat", "ip6 security"),
    *((f"{family} {table}", f"{family} security") for family in ("ip", "ip6") for table in ("raw", "mangle")),
)


@pytest.fixture
def world() -> Iterator[World]:
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        yield world


def order(world: World) -> list[str]:
    return [line.removeprefix("table ") for line in world.lab.node.run(["nft", "list", "tables"]).text.splitlines()]


@pytest.mark.root
def test_tables_that_vouch_are_older_than_those_that_judge(world: World) -> None:
    tables = order(world)
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []


@pytest.mark.root
def test_they_are_after_a_flush_and_beside_tables_of_others(world: World) -> None:
    world.lab.node.run(["nft", "flush", "ruleset"])
    world.lab.node.run(["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "ACCEPT"])
    world.wall.reconcile()
    tables = order(world)
    assert tables[0] == "ip filter"
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []
    assert world.wall.status().drift == ()


def programs_of_repair(world: World, *damage: str, given: str = "") -> list[str]:
    """The programs of a repair in the order of their beginnings."""
    host = world.wall._site.iptables()
    done: list[str] = []

    def noting(name: str) -> Callable[..., object]:
        def call(variant: Variant, family: Family, *text: str) -> object:
            done.append(f"{name} {family}")
            return getattr(host.tables, name)(variant, family, *text)

        return call

    noted = Host(Wrapped(host.tables, save=noting("save"), restore=noting("restore")), host.sets, host.glance)
    wall = rewired(world.wall, iptables=lambda: noted)
    world.lab.node.run(damage, input=given.encode() or None)
    assert wall.repair()
    assert world.wall.status().drift == ()
    return done


def until_frames_are_laid(world: World, *damage: str, given: str = "") -> Counter[str]:
    """Those until the frames' rules are laid: time in which nothing passes, or no answer."""
    done = programs_of_repair(world, *damage, given=given)
    return Counter(done[: len(done) - done[::-1].index("restore bridge")])


@pytest.mark.root
def test_a_wall_that_is_gone_is_laid_before_it_is_compared(world: World) -> None:
    """Nor is a program asked what is left of it."""
    programs = until_frames_are_laid(world, "nft", "flush", "ruleset")
    assert programs == {f"restore {family}": 1 for family in ("bridge", "ipv4", "ipv6")}


@pytest.mark.root
@pytest.mark.full
def test_a_death_at_any_step_of_a_repair_opens_nothing(world: World) -> None:
    """Also amid programs that run at once; the next repair, of anybody, brings everything back."""
    tenant = world.attach("tenant")
    services = [world.lab.lan.serve(udp=[80]), world.lab.internet.serve(tcp=[80])]

    def act(doom: Doom) -> None:
        wall = Wall.open(root=world.lab.root, settings=world.wall.settings)
        host = wall._site.iptables()
        dying = Host(*(Stepped(each, doom) for each in (host.tables, host.sets, host.glance)))
        rewired(stepped(wall, doom), iptables=lambda: dying).repair()

    for step in range(1, 100):
        world.lab.node.run(["nft", "flush", "ruleset"])
        died = child_killed_at(step, act)
        token = world.token()
        for address in (LAN4, LAN6):
            connect(tenant.host, address, 80, udp=True, payload=token, timeout=0.1)
        assert not services[0].saw(token), step
        if not died:
            break
        world.wall.repair()
        assert world.wall.status().drift == ()
    assert step > 10
    for family in (4, 6):
        assert_connection(tenant.host, public(family), 80)


@pytest.mark.root
def test_what_was_laid_is_compared_once(world: World) -> None:
    done = programs_of_repair(world, "nft", "flush", "ruleset")
    assert done.count("save bridge") == 1
    assert done.count("save ipv4") == 2  # and whoever compares all endpoints asks for published ports


@pytest.mark.root
def test_a_wall_of_which_tables_were_emptied_is_laid_before_it_is_compared(world: World) -> None:
    """Also where what judges is left: in each of these cases flows stop, or begin untranslated."""
    empty = "".join(f"*{table}\nCOMMIT\n" for table in ("filter", "nat", "mangle", "raw"))
    for family in ("", "6"):
        for done in (
            until_frames_are_laid(world, f"ip{family}tables-nft-restore", given=empty),
            until_frames_are_laid(world, f"ip{family}tables-nft", "-t", "nat", "-F"),
        ):
            assert done["save bridge"] == 1, done  # a comparison asks for these as well


@pytest.mark.root
@pytest.mark.parametrize(
    "words",
    [
        "flush ruleset bridge",
        "flush ruleset ip",
        "delete table bridge nat",
        "delete table ip raw",
        "delete table ip6 mangle",
    ],
)
def test_they_are_after_some_were_taken_away_and_repaired(world: World, words: str) -> None:
    tenant = world.attach("tenant")
    world.lab.node.run(["nft", *words.split()])
    assert world.wall.repair()
    tables = order(world)
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []
    assert world.wall.status().drift == ()
    assert world.wall.verify(tenant.name) == ()


@pytest.mark.root
def test_a_flood_passes_nothing_while_security_is_made_anew(world: World) -> None:
    """mangle goes on vouching, and filter judges."""
    attacker = world.attach("attacker")
    everywhere, at_node = world.lab.internet.serve(udp=[80]), world.lab.node.serve(udp=[80])
    gateway = mac_text(world.wall.settings.network.bridge_mac)
    frames = [*to_the_floor(attacker, gateway), *to_the_node(attacker, gateway)]
    with Flood(attacker.host, "eth0", frames, every=0) as flood:
        for _ in range(5):
            flood.wait()
            world.lab.node.run(["nft", "delete", "table", "ip", "raw"])
            assert world.wall.repair()
            assert order(world).index("ip raw") < order(world).index("ip security")
        with Stream(attacker.host, public(4), 80, udp=True) as honest:
            assert honest.ask(b"<after all of them>")
    assert not everywhere.saw(b"<flood")
    assert not at_node.saw(b"<flood")


@pytest.mark.root
@pytest.mark.parametrize("others", [False, True], ids=["and nothing more", "and another program makes filter"])
def test_they_are_after_a_second_flush_amid_the_repair_of_the_first(world: World, others: bool) -> None:
    """Behind the making of those that vouch: the programs make what they miss, and frames come last."""
    host = world.wall._site.iptables()
    left = [True]

    def flushed_once(text: str) -> None:
        host.sets.restore(text)
        if left:
            left.pop()
            world.lab.node.run(["nft", "flush", "ruleset"])
            if others:
                world.lab.node.run(["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "ACCEPT"])

    amid = Host(host.tables, Wrapped(host.sets, restore=flushed_once), host.glance)
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert rewired(world.wall, iptables=lambda: amid).repair()
    assert not left
    tables = order(world)
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []
    assert world.wall.status().drift == ()


def make_frames_last(world: World) -> None:
    """The same rules in another order of tables."""
    frames = world.lab.node.run(["ebtables-nft-save"]).text
    world.lab.node.run(["nft", "delete", "table", "bridge", "nat"])
    world.lab.node.run(["ebtables-nft-restore"], input=frames.encode())
    assert order(world)[-1] == "bridge nat"


@pytest.mark.root
def test_what_has_another_order_when_it_is_compared_is_laid_again(world: World) -> None:
    host = world.wall._site.iptables()
    asked: list[str] = []

    def saved(variant: Variant, family: Family) -> str:
        if family == "bridge" and not asked:  # of a wall that was gone none is asked for before
            asked.append(family)
            make_frames_last(world)
        return host.tables.save(variant, family)

    late = Host(Wrapped(host.tables, save=saved), host.sets, host.glance)
    world.lab.node.run(["nft", "flush", "ruleset"])
    assert rewired(world.wall, iptables=lambda: late).repair()
    tables = order(world)
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []
    assert world.wall.status().drift == ()


@pytest.mark.root
def test_another_order_of_the_same_rules_is_told_and_mended(world: World) -> None:
    make_frames_last(world)
    assert world.wall.status().drift == (
        "our rules were changed",
        "ipv4 security is older than tables that vouch",
        "ipv6 security is older than tables that vouch",
    )
    assert world.wall.repair()
    tables = order(world)
    assert [pair for pair in BEFORE if tables.index(pair[0]) > tables.index(pair[1])] == []
    assert world.wall.status().drift == ()


@pytest.mark.root
def test_a_table_that_others_use_as_well_stays_as_it_is(world: World) -> None:
    theirs = ["-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "ACCEPT"]
    world.lab.node.run(["iptables-nft", "-t", "security", *theirs])
    world.lab.node.run(["nft", "delete", "table", "ip", "raw"])
    assert world.wall.repair()
    assert "--dport 7 " in world.lab.node.run(["iptables-nft-save", "-t", "security"]).text
    assert world.wall.status().drift == ()
    assert world.wall.repair() == ()  # nor is it laid again and again for that


@pytest.mark.root
def test_tables_are_made_in_their_order_where_they_are_missing_and_programs_fill_them(node_lab: World) -> None:
    node, tables = node_lab.lab.node, XtTables()
    wanted: list[tuple[Family, TableName]] = [("bridge", "nat"), ("ipv6", "raw"), ("ipv4", "raw")]
    node.run(["iptables-nft", "-t", "raw", "-A", "OUTPUT", "-j", "ACCEPT"])
    tables.make(wanted)
    tables.make(wanted)
    made = [place for place in tables.order() if place[1] != "cellwall"]
    assert made == [("ipv4", "raw"), ("bridge", "nat"), ("ipv6", "raw")]
    assert "-A OUTPUT -j ACCEPT" in tables.save("nft", "ipv4")
    for family, name in wanted:
        tables.restore(
            "nft", family, f"*{name}\n:B9-T {'ACCEPT' if family == 'bridge' else '-'}\n-I PREROUTING -j B9-T\nCOMMIT\n"
        )
        assert "-A PREROUTING -j B9-T" in tables.save("nft", family)
