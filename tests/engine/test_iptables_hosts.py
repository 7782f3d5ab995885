"""A wall in iptables comes to hosts that lack something, and goes from those where others have rules and sets."""

from collections.abc import Callable
from ipaddress import ip_network
from typing import Literal, NoReturn

import msgspec
import pytest

from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.host import Host
from cellwall.errors import CellwallError, Conflict, InvalidSpec, KernelError, NotFound, Unsupported
from cellwall.lab.addresses import NODE4
from cellwall.lower.xt.tables import Family
from cellwall.model.settings import Settings
from engine.saved_tables import FAMILIES, OTHERS, rules, saved
from engine.steps import assert_converged
from world import PUBLIC4, World, Wrapped, assert_connection, open_world, rewired

pytestmark = [
    pytest.mark.root,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_removal_leaves_the_rules_of_others_as_they_were() -> None:
    names: tuple[Literal["nft", "legacy"], ...] = ("nft", "legacy")
    for name in names:
        with open_world(settings=Settings(backend="iptables", iptables=name), up=False) as world:
            for family in FAMILIES:
                world.lab.node.run([f"{family}-{name}-restore", "--wait"], input=OTHERS.encode())
            world.lab.node.run(["ipset", "create", "b9block4", "hash:ip"])
            blocked = ["INPUT", "-m", "set", "--match-set", "b9block4", "src", "-j", "DROP"]
            world.lab.node.run([f"iptables-{name}", "-w", "-A", *blocked])
            before = saved(world)
            world.attach(expose=["8087:80"])
            standing = saved(world)
            assert standing != before
            for place, lines in before.items():
                assert [line for line in lines if line not in standing[place]] == []
            world.wall.uninstall(force=True)
            after = saved(world)
            assert {table: after[table] for table in before} == before
            # Built-in chains of other tables stay, as whatever program makes them leaves them: empty.
            assert not [line for table in after.keys() - before.keys() for line in after[table] if line[0] != ":"]
            assert world.lab.node.run(["ipset", "list", "-n"]).text.split() == ["b9block4"]


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_a_set_of_ours_that_anothers_rule_uses_stays_and_is_told(
    name: Literal["nft", "legacy"], caplog: pytest.LogCaptureFixture
) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name)) as world:
        rule = ["INPUT", "-m", "set", "--match-set", "b9floor4", "src", "-j", "DROP"]
        led = ["OTHER", "-p", "tcp", "-j", "B9-DENY"]
        for words in (["-N", "OTHER"], ["-A", *led], ["-A", *rule]):
            world.lab.node.run([f"iptables-{name}", "-w", *words])
        assert not world.wall.up().changed
        assert world.wall.status().drift == ()
        caplog.clear()
        world.wall.down()
        told = [record.getMessage() for record in caplog.records]
        assert told == [
            "another program's rule goes with the chain that it leads to: ipv4 filter -A OTHER -p tcp -j B9-DENY",
            "the set b9floor4 stays: another program's rule refers to it",
        ]
        assert world.lab.node.run(["ipset", "list", "-n"]).text.split() == ["b9floor4"]
        assert [line for lines in saved(world).values() for line in lines if "B9-" in line] == []
        assert world.wall.up().changed
        assert_converged(world.wall)


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_the_variant_is_that_of_the_rules_that_the_host_has_and_stays(name: str) -> None:
    other = "legacy" if name == "nft" else "nft"
    with open_world(settings=Settings(backend="iptables"), up=False) as world:
        world.lab.node.run([f"iptables-{name}-restore", "--noflush", "--wait"], input=OTHERS.encode())
        assert world.wall.up().mechanism == f"iptables ({name})"
        for _ in range(3):
            world.lab.node.run([f"iptables-{other}-restore", "--noflush", "--wait"], input=OTHERS.encode())
        tighter = Settings(backend="iptables", protect=(ip_network("198.18.7.0/24"), ip_network("151.101.0.0/16")))
        assert rewired(world.wall, settings=tighter).up().mechanism == f"iptables ({name})"


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_a_first_up_that_fails_leaves_nothing_in_iptables(name: Literal["nft", "legacy"]) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name), up=False) as world:
        host = world.wall._site.iptables()
        restored: list[str] = []

        def once(*given: str) -> None:
            if restored:
                raise KernelError(12, "load rules")
            host.tables.restore(*given)  # type: ignore[arg-type]
            restored.append(given[1])

        half = Host(Wrapped(host.tables, restore=once, variants=host.tables.variants), host.sets, host.glance)
        with pytest.raises(KernelError, match="load rules"):
            rewired(world.wall, iptables=lambda: half).up()
        assert restored
        world.wall.down()
        assert not [line for lines in saved(world).values() for line in lines if "B9-" in line]
        assert "b9" not in world.lab.node.run(["ipset", "list", "-n"]).text
        assert world.wall.up().changed


def without(world: World, *programs: str) -> Host:
    """The node's adapters as they are where these are not installed, and no new wall could be laid."""
    real = world.wall._site.iptables()

    def save(variant: Variant, family: Family) -> str:
        if f"{family} {variant}" in programs:
            raise Unsupported("not installed")
        return "" if family in programs else real.tables.save(variant, family)

    def installed() -> tuple[Variant, ...]:
        return tuple(one for one in real.tables.installed() if one not in programs)

    lacking: dict[str, Callable[..., object]] = {"lacking": lambda _: ("something",), "variants": tuple}
    tables = Wrapped(real.tables, save=save, installed=installed, **lacking)
    if any(one.startswith("ipv6") for one in programs):
        features = msgspec.structs.replace(real.in_force.features, ipv6=False, nat6=False)
        tables = Wrapped(tables, features=lambda _: features)
    return Host(tables, real.sets, real.glance)


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_a_wall_goes_where_nothing_would_do_for_a_new_one(name: Literal["nft", "legacy"]) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name)) as world:
        world.attach(expose=["8090:80"])
        rewired(world.wall, iptables=lambda: without(world)).down(force=True)
        assert rules(world) == 0
        assert "B9-" not in world.lab.node.run(["ebtables-nft-save"]).text
        assert world.lab.node.run(["ipset", "list", "-n"]).text == ""
        assert not world.wall.status().up


@pytest.mark.parametrize(
    ("program", "said"),
    [("{name}", "iptables-{name} is not installed"), ("ipv6 {name}", "ip6tables-{name} is"), ("bridge", "ebtables is")],
)
@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_what_no_program_can_take_out_is_told_and_stays_on_record(
    name: Literal["nft", "legacy"], program: str, said: str
) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name)) as world:
        poor = without(world, program.format(name=name))
        for _ in range(2):
            with pytest.raises(Unsupported, match=said.format(name=name)):
                rewired(world.wall, iptables=lambda: poor).down()
        world.wall.down()  # it was installed again
        assert rules(world) == 0
        assert "B9-" not in world.lab.node.run(["ebtables-nft-save"]).text
        assert world.lab.node.run(["ipset", "list", "-n"]).text == ""


@pytest.mark.parametrize("error", [InvalidSpec("x", 1, "no"), NotFound("x"), KernelError(22, "x"), Conflict("x")])
def test_a_forced_down_goes_on_whatever_keeps_endpoints_from_being_closed(error: CellwallError) -> None:
    with open_world(settings=Settings(backend="iptables", iptables="nft")) as world:
        world.attach(expose=["8091:80"])
        real = world.wall._site.iptables()

        def refuse(*_: object) -> NoReturn:
            raise error

        stubborn = Host(real.tables, Wrapped(real.sets, apply=refuse), real.glance)
        rewired(world.wall, iptables=lambda: stubborn).down(force=True)
        assert rules(world) == 0
        assert world.wall.endpoints() == ()
        assert world.wall.up().changed
        assert_converged(world.wall)


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_a_host_without_ip6tables_has_a_whole_wall_of_ipv4(name: Literal["nft", "legacy"]) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name), up=False) as world:
        real = world.wall._site.iptables()
        features = msgspec.structs.replace(real.tables.features(name), ipv6=False, nat6=False)

        def save(variant: Variant, family: Family) -> str:
            if family == "ipv6":
                raise KernelError(22, "ip6tables-save")
            return real.tables.save(variant, family)

        def restore(variant: Variant, family: Family, text: str) -> None:
            assert family != "ipv6"
            real.tables.restore(variant, family, text)

        poor = Host(
            Wrapped(real.tables, save=save, restore=restore, features=lambda _: features), real.sets, real.glance
        )
        world.wall = rewired(world.wall, iptables=lambda: poor)
        report = world.wall.up()
        assert not report.ipv6
        assert "no IPv6 in sandboxes: iptables cannot filter and translate it" in report.warnings
        world.lab.internet.serve(tcp=[80])
        sandbox = world.attach(expose=["8089:80"])
        sandbox.host.serve(tcp=[80])
        assert sandbox.endpoint.address6 is None
        assert_connection(sandbox.host, PUBLIC4, 80)
        assert_connection(world.lab.lan, NODE4, 8089)
        assert_converged(world.wall)
        world.wall.down(force=True)
        assert "b9" not in world.lab.node.run(["ipset", "list", "-n"]).text


@pytest.mark.parametrize("name", ["nft", "legacy"])
def test_a_host_that_lacks_what_no_wall_can_do_without_is_refused_by_name(name: Literal["nft", "legacy"]) -> None:
    with open_world(settings=Settings(backend="iptables", iptables=name), up=False) as world:
        real = world.wall._site.iptables()
        before = world.lab.node.run(["ip", "-o", "link"]).text
        lacking = Wrapped(real.tables, lacking=lambda _: ("locked bridge ports (Linux 5.18)",))
        poor = Host(lacking, real.sets, real.glance)
        with pytest.raises(Unsupported, match=rf"iptables: iptables-{name} lacks locked bridge ports"):
            rewired(world.wall, iptables=lambda: poor).up()
        assert world.lab.node.run(["ip", "-o", "link"]).text == before
        assert world.lab.node.run(["ipset", "list", "-n"]).text == ""
