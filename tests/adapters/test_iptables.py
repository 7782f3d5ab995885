"""iptables and ipset on a real kernel: what is loaded reads back, entries come and go, and refusals are told."""

import errno
import fcntl
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cellwall.adapters.conntrack.timeouts import has_timeouts, timeout_names
from cellwall.adapters.iptables.ipset import IpSets, has_type
from cellwall.adapters.iptables.tables import XtTables
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.process import start
from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import usage_of
from cellwall.engine.iptables.contracts import Variant
from cellwall.errors import KernelError, NotFound
from cellwall.lab import Host, Lab
from cellwall.lower.xt.endpoints import OwnedEntry, changes, holdings
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.sets import Entry, IpSet, definition, render_sets
from cellwall.lower.xt.tables import (
    Family,
    XtChain,
    XtRule,
    XtTable,
    own_lines,
    render_changes,
    render_removal,
    render_table,
    render_tables,
)
from cellwall.lower.xt.timeouts import ended
from cellwall.lower.xt.wall import XtWall, lower_wall, with_holdings
from cellwall.model.endpoint import parse_binding
from cellwall.model.settings import Settings, parse_openings
from scene import FACTS, FOUR, OTHER, WEB

pytestmark = pytest.mark.root

SETTINGS = Settings(
    exceptions=parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") + parse_openings("gw fd00:9::9 tcp/443", "x"),
    services=parse_openings("dns 192.168.0.1 udp/53", "x"),
)
VARIANTS: tuple[Variant, ...] = ("nft", "legacy")
FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")


@pytest.fixture
def node() -> Iterator[Host]:
    with Lab() as lab, lab.node.enter():
        yield lab.node


def wall_of(features: XtFeatures) -> XtWall:
    wall = lower_wall(compile_wall(SETTINGS, FACTS, usage_of(WEB.bindings), uplink="eth0"), features)
    return with_holdings(wall, holdings([WEB, OTHER, FOUR], wall.pins))


WALL = wall_of(XtFeatures())
SCHEMA = {one.name: one for one in WALL.sets}


@pytest.fixture
def sets(node: Host) -> Iterator[IpSets]:
    with IpSets(SCHEMA) as sets:
        sets.restore(render_sets(WALL.sets))
        sets.keep_timeouts(WALL.timeouts)
        yield sets


# ---------------------------------------------------------------- sets


def test_sets_stand_as_they_were_defined_and_making_them_again_changes_nothing(sets: IpSets) -> None:
    wanted = {one.name: definition(one) for one in WALL.sets}
    assert sets.definitions() == wanted
    before = {name: sets.entries(name) for name in SCHEMA}
    assert before["b9floor4"] == frozenset(SCHEMA["b9floor4"].entries)
    assert before["b9opened6"] == frozenset(SCHEMA["b9opened6"].entries)
    sets.restore(render_sets(WALL.sets))
    assert ({name: sets.entries(name) for name in SCHEMA}, sets.definitions()) == (before, wanted)


def test_static_content_is_replaced_and_endpoints_entries_stay(sets: IpSets) -> None:
    held = holdings([OTHER], WALL.pins)
    sets.apply(held.entries, ())
    narrowed = [msgspec.structs.replace(one, entries=one.entries[:2]) if one.static else one for one in WALL.sets]
    sets.restore(render_sets(narrowed))
    assert sets.entries("b9floor4") == frozenset(SCHEMA["b9floor4"].entries[:2])
    assert sets.entries("b9version4") == {Entry(int(OTHER.address4), mark=OTHER.generation)}


@pytest.mark.parametrize("endpoints", [(OTHER,), (FOUR,), (WEB,), (WEB, OTHER, FOUR)])
def test_what_endpoints_hold_reads_back_and_goes(sets: IpSets, endpoints: tuple[object, ...]) -> None:
    held = holdings(endpoints, WALL.pins)  # type: ignore[arg-type]
    sets.apply(held.entries, ())
    live = {OwnedEntry(name, entry) for name, one in SCHEMA.items() if not one.static for entry in sets.entries(name)}
    assert live == set(held.entries)
    sets.apply((), changes(held, holdings([], WALL.pins)).removed)
    assert not [name for name, one in SCHEMA.items() if not one.static and sets.entries(name)]


def test_adding_again_replaces_the_version(sets: IpSets) -> None:
    later = msgspec.structs.replace(OTHER, generation=77777)
    sets.apply(holdings([OTHER], WALL.pins).entries, ())
    change = changes(holdings([OTHER], WALL.pins), holdings([later], WALL.pins))
    sets.apply(change.renewed, ())
    assert {entry.mark for entry in sets.entries("b9version6")} == {77777}
    assert sets.entries("b9pin4") == {Entry(int(OTHER.address4), mac=OTHER.mac)}


def test_a_range_is_its_ports_and_a_part_of_it_can_go(sets: IpSets) -> None:
    wide = msgspec.structs.replace(FOUR, bindings=(parse_binding("20000-29999:20000"),))
    narrow = msgspec.structs.replace(FOUR, bindings=(parse_binding("20000-20001:20000"),))
    sets.apply(holdings([wide], WALL.pins).entries, ())
    assert len(sets.entries("b9exposed4")) == 10000
    change = changes(holdings([wide], WALL.pins), holdings([narrow], WALL.pins))
    sets.apply(change.added, change.removed)
    assert {entry.port for entry in sets.entries("b9exposed4")} == {20000, 20001}


def test_every_type_of_set_reads_back(node: Host) -> None:
    rows = {
        IpSet("b9version4", "hash:ip", 4, marks=True): Entry(1 << 24, mark=0x7FFFFFFF),
        IpSet("b9floor6", "hash:net", 6): Entry(0x2000 << 112, prefixlen=3),
        IpSet("b9opened6", "hash:ip,port", 6): Entry(1, protocol=17, port=65535, last=65535),
        IpSet("b9exposedto4", "hash:ip,port,net", 4): Entry(1, protocol=6, port=1, last=1, client=2, client_bits=32),
        IpSet("b9published6", "hash:net,port", 6): Entry(1 << 127, prefixlen=1, protocol=6, port=9, last=9),
        IpSet("b9reset4", "hash:ip,port,net", 4, seconds=3): Entry(1, -1, 6, 1, 1, 2, 32),
        IpSet("b9pin4", "bitmap:ip,mac", 4, span="10.0.0.0/16"): Entry(10 << 24 | 1, mac=0x020000000001),
    }
    with IpSets({one.name: one for one in rows}) as sets:
        sets.restore(render_sets(rows))
        sets.apply([OwnedEntry(one.name, entry) for one, entry in rows.items()], ())
        assert {one: sets.entries(one.name) for one in rows} == {one: {entry} for one, entry in rows.items()}
        assert sets.definitions() == {one.name: definition(one) for one in rows}
        assert sets.destroy([one.name for one in rows]) == ()
        assert sets.definitions() == {}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_set_that_a_rule_refers_to_stays_and_the_others_go(sets: IpSets, node: Host, variant: Variant) -> None:
    node.run(["ipset", "create", "b9block4", "hash:ip"])
    rule = ["INPUT", "-m", "set", "--match-set", "b9opened4", "src", "-j", "DROP"]
    node.run([f"iptables-{variant}", "-w", "-A", *rule])
    assert set(sets.definitions()) == set(SCHEMA)
    assert sets.destroy(["b9floor4", "b9nothing4", "b9opened4", "b9floor6"]) == ("b9opened4",)
    assert set(sets.definitions()) == set(SCHEMA) - {"b9floor4", "b9floor6"}
    node.run([f"iptables-{variant}", "-w", "-D", *rule])
    assert sets.destroy(list(sets.definitions())) == ()
    assert node.run(["ipset", "list", "-n"]).text.split() == ["b9block4"]
    node.run(["ipset", "destroy", "b9block4"])


def test_what_the_kernel_refuses_is_told_by_entry(sets: IpSets) -> None:
    first, *rest = holdings([OTHER], WALL.pins).entries
    with pytest.raises(KernelError, match=r"delete b9born4 192\.168\.0\.3") as missing:
        sets.apply((), [first])
    assert missing.value.errno == errno.ENOENT
    outside = OwnedEntry("b9pin4", Entry(10 << 24, mac=1))
    with pytest.raises(KernelError, match=r"add b9pin4 10\.0\.0\.0"):
        sets.apply([first, outside], ())
    assert sets.entries("b9born4") == {first.entry}
    assert rest
    with pytest.raises(NotFound, match="b9nothing"):
        sets.entries("b9nothing")


def test_a_set_that_is_gone_is_told(sets: IpSets) -> None:
    sets.restore("destroy b9exposed4\n")
    for attempt in (
        lambda: sets.entries("b9exposed4"),
        lambda: sets.apply([OwnedEntry("b9exposed4", Entry(1, protocol=6, port=1, last=1))], ()),
        lambda: sets.restore("destroy b9exposed4\n"),
    ):
        with pytest.raises(KernelError) as missing:
            attempt()
        assert missing.value.errno == errno.ENOENT


def test_a_set_of_another_type_is_refused(node: Host) -> None:
    with IpSets() as sets:
        sets.restore("create b9version4 hash:net\n")
        with pytest.raises(KernelError, match=r"b9version4|set with the same name"):
            sets.restore(render_sets(WALL.sets))


def test_the_kernel_says_which_types_it_has(node: Host) -> None:
    assert has_type("hash:ip,port,net")
    assert not has_type("hash:horoscope")
    made = node.run(["ipset", "create", "b9try", "hash:ip,mac"], check=False)
    assert has_type("hash:ip,mac") is (made.returncode == 0)


# ---------------------------------------------------------------- timeouts


@pytest.mark.parametrize("variant", VARIANTS)
def test_timeouts_are_there_while_a_rule_names_them(node: Host, variant: Variant) -> None:
    tables = XtTables()
    with IpSets() as sets, open_netfilter_socket() as netfilter:
        assert has_timeouts(netfilter)
        rows = [ended(4), ended(6)]
        sets.keep_timeouts(rows)
        sets.keep_timeouts([msgspec.structs.replace(row, close=row.close + 1) for row in rows])
        assert timeout_names(netfilter) == ("b9e4", "b9e6")
        rule = XtRule(("-p", "tcp"), ("-j", "CT", "--timeout", ended(4).name))
        table = XtTable("ipv4", "raw", (XtChain("B9-VOUCH", (rule,)),))
        tables.restore(variant, "ipv4", render_table(table))
        saved = tables.save(variant, "ipv4")
        assert own_lines(saved) == ("raw -A B9-VOUCH -p tcp -j CT --timeout b9e4",)
        assert sets.drop_timeouts() == ("b9e4",)  # a rule refers to it
        assert timeout_names(netfilter) == ("b9e4",)
        sets.keep_timeouts(rows)
        tables.restore(variant, "ipv4", saved)  # as somebody saves and restores
        tables.restore(variant, "ipv4", render_removal(tables.save(variant, "ipv4"), "ipv4"))
        assert sets.drop_timeouts() == ()
        assert sets.drop_timeouts() == ()
        assert timeout_names(netfilter) == ()


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("security", [True, False])
def test_a_wall_loads_stands_as_written_and_loads_again_without_a_change(
    sets: IpSets, variant: Variant, security: bool
) -> None:
    tables, wall = XtTables(), wall_of(XtFeatures(security=security))
    for family, own in (("ipv4", wall.tables4), ("ipv6", wall.tables6), ("bridge", wall.frames)):
        text = render_tables(own, tables.save(variant, family))
        tables.restore(variant, family, text)
        saved = tables.save(variant, family)
        rules = sum(len(chain.rules) for table in own for chain in table.chains)
        jumps = sum(len(table.hooks) for table in own)
        assert len(own_lines(saved)) == rules + jumps
        assert [line for line in own_lines(saved) if " at " in line and not line.endswith(" at 1")] == []
        again = render_tables(own, saved)
        assert [line for line in again.splitlines() if line.startswith(("-I", "-D", "-X"))] == []
        tables.restore(variant, family, again)
        assert own_lines(tables.save(variant, family)) == own_lines(saved)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_removal_leaves_others_as_they_were(sets: IpSets, node: Host, variant: Variant) -> None:
    tables = XtTables()
    node.run([f"iptables-{variant}", "-w", "-N", "THEIRS"])
    node.run([f"iptables-{variant}", "-w", "-A", "FORWARD", "-i", "eth1", "-j", "THEIRS"])
    node.run(["ebtables-nft", "-A", "FORWARD", "-i", "eth7", "-j", "DROP"])
    theirs = {family: _bare(tables.save(variant, family)) for family in (*FAMILIES, "bridge")}
    for family, own in (("ipv4", WALL.tables4), ("ipv6", WALL.tables6), ("bridge", WALL.frames)):
        tables.restore(variant, family, render_tables(own, tables.save(variant, family)))
    assert own_lines(tables.save(variant, "ipv4"))
    for family in (*FAMILIES, "bridge"):
        tables.restore(variant, family, render_removal(tables.save(variant, family), family))
    assert {family: _bare(tables.save(variant, family)) for family in (*FAMILIES, "bridge")} == theirs
    assert sets.destroy(list(sets.definitions())) == ()


def _bare(saved: str) -> list[str]:
    """Rules and chains of others. That a table exists is nothing: a restore makes it."""
    return [line for line in saved.splitlines() if line.startswith("-A") or " - " in line]


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_ports_come_and_go_in_their_chain(sets: IpSets, variant: Variant) -> None:
    tables = XtTables()
    tables.restore(variant, "ipv4", render_tables(WALL.tables4, ""))
    before = own_lines(tables.save(variant, "ipv4"))
    new = holdings([msgspec.structs.replace(FOUR, bindings=(parse_binding("90-91:70@8.8.0.0/16"),))], WALL.pins)
    rules = [owned.rule for owned in new.rules]
    tables.restore(variant, "ipv4", render_changes("ipv4", rules, [], "B9-DNAT"))
    assert len(own_lines(tables.save(variant, "ipv4"))) == len(before) + 1
    tables.restore(variant, "ipv4", render_changes("ipv4", [], rules, "B9-DNAT"))
    assert own_lines(tables.save(variant, "ipv4")) == before


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_refused_text_changes_nothing_and_is_told(node: Host, variant: Variant) -> None:
    tables = XtTables()
    with pytest.raises(KernelError) as refused:
        tables.restore(variant, "ipv4", "*filter\n:B9-T - [0:0]\n-A B9-T -m set --match-set b9no src -j DROP\nCOMMIT\n")
    assert refused.value.errno == errno.ENOENT
    with pytest.raises(KernelError) as unknown:
        tables.restore(variant, "ipv4", "*filter\n:B9-T - [0:0]\n-A B9-T -j DROP\n-A B9-T --horoscope\nCOMMIT\n")
    assert unknown.value.errno == errno.EINVAL
    assert "horoscope" in str(unknown.value)
    assert own_lines(tables.save(variant, "ipv4")) == ()


def test_a_restore_that_waits_for_the_lock_dies_with_who_started_it(node: Host, tmp_path: Path) -> None:
    lock = tmp_path / "xtables.lock"
    text = "*filter\n:B9-LATE - [0:0]\nCOMMIT\n"
    code = f"from cellwall.adapters.iptables.tables import XtTables; XtTables().restore('legacy', 'ipv4', {text!r})"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with node.enter():
            caller = start([sys.executable, "-c", code], env={"XTABLES_LOCKFILE": str(lock)})
        restoring = _child_named(caller.pid, "iptables-legacy")
        caller.kill()
        assert select.select([restoring], [], [], 5)[0]  # it would have waited for twice that
        os.close(restoring)
        caller.wait()
    assert "B9-LATE" not in node.run(["iptables-legacy-save"]).text


def _child_named(parent: int, name: str) -> int:
    """A pidfd of the child that runs a program, as soon as there is one."""
    for _ in range(500):
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                return os.pidfd_open(int(pid))
        select.select([], [], [], 0.01)
    raise AssertionError(f"no child {name}")
