"""The whole wall in iptables: goldens of its text, the order of its rules, and what is said of what it cannot say."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import msgspec
import pytest

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.compile.assemble import compile_wall
from cellwall.compile.usage import Usage, usage_of
from cellwall.errors import Unsupported
from cellwall.lower.xt.chains import hook_chain, is_own_chain, own_chain
from cellwall.lower.xt.endpoints import changes, holdings
from cellwall.lower.xt.features import XtFeatures, pin_form
from cellwall.lower.xt.limits import NARROWER, SUBSTITUTES, is_left_out
from cellwall.lower.xt.sets import entry_text, render_sets
from cellwall.lower.xt.tables import (
    XtChain,
    XtRule,
    XtTable,
    render_table,
    render_tables,
)
from cellwall.lower.xt.view import LIVE, NOBODY, OWN, PASSED, View
from cellwall.lower.xt.wall import XtWall, lower_wall, with_holdings
from cellwall.model.endpoint import parse_binding
from cellwall.model.settings import Audit, Settings, parse_openings
from scene import FACTS, FOUR, OTHER, WEB, endpoint

OPENED = Settings(
    exceptions=parse_openings("resolver 10.0.0.2 udp,tcp/53", "x") + parse_openings("gw fd00:9::9 tcp/443", "x"),
    services=parse_openings("dns 192.168.0.1 udp/53", "x"),
)
PLAIN = XtFeatures()
FULL = XtFeatures(ipmac=True)


def wall_of(settings: Settings = OPENED, features: XtFeatures = PLAIN, usage: Usage = Usage()) -> XtWall:  # noqa: B008
    return lower_wall(compile_wall(settings, FACTS, usage, uplink="eth0"), features)


WALL = wall_of(usage=usage_of(WEB.bindings))
HELD = with_holdings(WALL, holdings([WEB, OTHER], WALL.pins))
BOUNDED = Settings(new_connections=200, packets=50_000, smtp="watched", watched=("connections", "packets"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("xt-wall.v4.iptables", lambda: render_tables(HELD.tables4)),
        ("xt-wall.v6.iptables", lambda: render_tables(HELD.tables6)),
        ("xt-wall.ebtables", lambda: render_tables(HELD.frames)),
        ("xt-wall.ipset", lambda: render_sets(HELD.sets)),
        ("xt-wall-ipmac.v6.iptables", lambda: render_tables(wall_of(features=FULL).tables6)),
        ("xt-wall-bounds.v6.iptables", lambda: render_tables(wall_of(settings=BOUNDED).tables6)),
        ("xt-wall-bare.v4.iptables", lambda: render_tables(wall_of(features=XtFeatures(security=False)).tables4)),
    ],
)
def test_a_wall_reads_as_its_golden(golden: Callable[[str, str], None], name: str, text: Callable[[], str]) -> None:
    golden(name, text())


# ---------------------------------------------------------------- nothing is left out


def every(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from every(one)


def test_what_is_listed_as_not_lowered_is_in_the_wall() -> None:
    known = {*every(when.Predicate), *every(w.Outcome)}
    assert set(SUBSTITUTES) <= known
    names = {one.__name__ for one in known} | {stage.name for stage in compile_all().stages}
    assert set(NARROWER) <= names | set(w.Clause.__struct_fields__)
    assert not {one.__name__ for one in SUBSTITUTES} & set(NARROWER)


def compile_all() -> w.Wall:
    return compile_wall(OPENED, FACTS, usage_of(WEB.bindings), uplink="eth0")


@pytest.mark.parametrize(
    "features", [PLAIN, FULL, XtFeatures(security=False, frames=False)], ids=["plain", "ipmac", "bare"]
)
def test_every_denial_has_a_rule_that_says_so(features: XtFeatures) -> None:
    """In words: what a clause denies and no limit excuses is a comment of some rule, or a rule of ebtables."""
    wall = wall_of(features=features, usage=usage_of(WEB.bindings))
    said = {rule.comment for table in (*wall.tables4, *wall.tables6) for chain in table.chains for rule in chain.rules}
    for stage in compile_all().stages:
        if stage.name.startswith(("frame", "loose", "port-arp", "early-tenant")):
            # Of frames: the goldens of ebtables, which has no comments; and `early-tenant` is the stage `port`.
            continue
        for clause in stage.clauses:
            excused = any(is_left_out(part) for part in (*clause.when, clause.then))
            if clause.why and not excused:
                assert clause.why in said or clause.why.replace(" of the tenant", "") in said, (stage.name, clause)


def test_every_chain_that_is_led_to_is_there_and_every_chain_is_led_to() -> None:
    for wall in (WALL, wall_of(features=FULL), wall_of(features=XtFeatures(security=False))):
        for table in (*wall.tables4, *wall.tables6, *wall.frames):
            names = [chain.name for chain in table.chains]
            led = {
                rule.target[1]
                for chain in table.chains
                for rule in chain.rules
                if rule.target and rule.target[1].startswith("B9-")
            }
            led |= {hook_chain(hook) for hook in table.hooks}
            assert len(names) == len(set(names))
            assert led == set(names), (table.family, table.name)


@pytest.mark.parametrize("settings", [OPENED, BOUNDED], ids=["opened", "bounded"])
@pytest.mark.parametrize("features", [PLAIN, FULL, XtFeatures(security=False)], ids=["plain", "ipmac", "bare"])
def test_every_chain_that_is_laid_is_one_that_goes_with_the_wall(settings: Settings, features: XtFeatures) -> None:
    wall = wall_of(settings, features, usage_of(WEB.bindings))
    laid = [chain.name for table in (*wall.tables4, *wall.tables6, *wall.frames) for chain in table.chains]
    assert [name for name in laid if not is_own_chain(name)] == []


def test_a_chain_that_would_stay_when_the_wall_goes_has_no_name() -> None:
    assert own_chain("STAMP") == "B9-STAMP"
    with pytest.raises(Unsupported, match="'MINE'"):
        own_chain("MINE")


UNTOLD = Settings(audit=Audit(log=False))


@pytest.mark.parametrize(
    ("settings", "features", "frames"),
    [
        (UNTOLD, PLAIN, False),
        (OPENED, XtFeatures(packet_log=False, frame_log=False), False),
        (OPENED, XtFeatures(packet_log=False), True),
    ],
    ids=["switched off", "no NFLOG", "only that of ebtables"],
)
def test_where_nobody_is_told_denials_end_as_they_do_and_nothing_is_counted_by_address(
    settings: Settings, features: XtFeatures, frames: bool
) -> None:
    wall = wall_of(settings=settings, features=features)
    text = render_tables(wall.tables4) + render_tables(wall.tables6)
    assert not any(word in text for word in ("NFLOG", "B9-TOLD", "B9-SEEN", "B9-TELL", "b9sent", "b9got"))
    assert {"b9sent4", "b9got6"}.isdisjoint(one.name for one in wall.sets)
    assert ("nflog" in render_tables(wall.frames)) == frames


def test_what_is_told_ends_as_it_would_untold() -> None:
    """A chain that tells of a denial is left by what the rule would have done."""
    for tables, untold in ((WALL.tables4, wall_of(settings=UNTOLD).tables4),):
        for table, other in zip(tables, untold, strict=True):
            ends = {chain.name: chain.rules[-1].target for chain in table.chains if chain.name.startswith("B9-TOLD-")}
            assert set(ends.values()) <= {("-j", "DROP"), ("-g", "B9-DENY")}
            said = {(rule.comment, ends.get(rule.target[1], rule.target)) for rule in rules_of(table) if rule.target}
            assert {(rule.comment, rule.target) for rule in rules_of(other) if rule.comment and rule.target} <= said


def rules_of(table: XtTable) -> list[XtRule]:
    return [rule for chain in table.chains for rule in chain.rules]


def test_every_set_that_is_asked_is_there() -> None:
    for wall in (WALL, wall_of(features=FULL), wall_of(features=XtFeatures(security=False))):
        asked = set()
        for table in (*wall.tables4, *wall.tables6):
            for rule in (rule for chain in table.chains for rule in chain.rules):
                words = (*rule.matches, *rule.target)
                asked |= {words[at + 1] for at, word in enumerate(words) if word in ("--match-set", "--map-set")}
        assert asked == {one.name for one in wall.sets}


# ---------------------------------------------------------------- order


def test_container_to_container_wrong_interface_and_floor_come_before_established() -> None:
    lines = render_table(next(table for table in WALL.tables4 if table.name == "filter")).splitlines()
    forward = [line for line in lines if line.startswith("-A B9-FORWARD")]
    first = {
        why: next(n for n, line in enumerate(forward) if why in line)
        for why in ("container to container", "not by the default interface", "ESTABLISHED")
    }
    assert sorted(first.values()) == list(first.values())
    egress = [line for line in lines if line.startswith("-A B9-EGRESS-O")]
    stamp = next(n for n, line in enumerate(egress) if "B9-STAMP" in line)
    assert all(n < stamp for n, line in enumerate(egress) if "floor" in line)
    assert not [line for line in egress if "ACCEPT" in line]


def test_a_flow_passes_as_established_only_by_a_mark_that_its_endpoints_version_made() -> None:
    lines = render_table(next(table for table in WALL.tables4 if table.name == "filter")).splitlines()
    established = [line for line in lines if line.startswith("-A B9-FORWARD") and "ESTABLISHED" in line]
    assert established == [
        "-A B9-FORWARD -m mark --mark 0x80000000/0xffffefff -m conntrack --ctstate ESTABLISHED,NEW -g B9-PASS"
    ]


def test_no_rule_but_those_of_published_ports_depends_on_endpoints() -> None:
    many = [endpoint(f"c{number}", number, f"{3000 + number}:80") for number in range(2, 100)]
    one, all_of_them = (with_holdings(WALL, holdings(some, WALL.pins)) for some in (many[:1], many))

    def constant(wall: XtWall) -> list[XtChain]:
        tables = (*wall.tables4, *wall.tables6, *wall.frames)
        return [chain for table in tables for chain in table.chains if chain.name != "B9-DNAT"]

    assert constant(one) == constant(all_of_them) == constant(WALL)
    assert one.sets == all_of_them.sets


def test_forms_of_exposure_are_the_same_two_sets() -> None:
    usage = usage_of([parse_binding("80:80@93.0.0.0/8"), parse_binding("9000-9001:9000@93.0.0.0/9")])
    more = usage_of([*WEB.bindings, parse_binding("81:81@93.0.0.0/10")])
    assert wall_of(usage=usage) == wall_of(usage=more) == wall_of()


# ---------------------------------------------------------------- endpoints


def shown(endpoints: list[Any], wall: XtWall = WALL) -> list[str]:
    sets = {one.name: one for one in wall.sets}
    held = holdings(endpoints, wall.pins)
    return [f"{owned.set} {entry_text(sets[owned.set], owned.entry)}" for owned in held.entries]


def test_an_endpoint_is_five_entries_and_what_tells_that_it_is_there_comes_last() -> None:
    assert shown([FOUR]) == [
        "b9born4 192.168.0.4 skbmark 0x7cc00/0xffffffff",
        "b9version4 192.168.0.4 skbmark 0x7cc00/0xffffffff",
        "b9pin4 192.168.0.4,0A:58:C0:A8:00:04",
    ]
    assert shown([OTHER])[3:] == [
        "b9born6 fd00:abcd::3 skbmark 0x7cb00/0xffffffff",
        "b9version6 fd00:abcd::3 skbmark 0x7cb00/0xffffffff",
    ]
    assert shown([OTHER], wall_of(features=FULL))[-1] == "b9pin6 fd00:abcd::3,0A:58:C0:A8:00:03"


def test_an_endpoint_that_asked_for_a_mac_is_in_the_sets_of_those() -> None:
    assert shown([msgspec.structs.replace(OTHER, mac=0x02F00D000001)])[3:] == [
        "b9born6 fd00:abcd::3 skbmark 0x7cb00/0xffffffff",
        "b9oui6 fd00:abcd::3 skbmark 0x2f0/0xffffffff",
        "b9pin6 fd00:abcd::3 skbmark 0xd000001/0xffffffff",
        "b9version6 fd00:abcd::3 skbmark 0x7cb00/0xffffffff",
    ]


def test_a_large_network_is_pinned_by_the_same_program_in_both_families() -> None:
    large = msgspec.structs.replace(OPENED.network, subnet4=IPv4Network("10.0.0.0/8"), gateway4=IPv4Address("10.0.0.1"))
    wall = wall_of(msgspec.structs.replace(OPENED, network=large))
    assert wall.pins == {4: "program", 6: "program"}
    raw = render_table(next(table for table in wall.tables4 if table.name == "raw")).splitlines()
    assert [line.split(" -m ")[2:] for line in raw if "B9-VOUCH" in line and "B9-PIN " in line] == [
        ["set --match-set b9pin4 src -g B9-VOUCH"],
        [
            "set --match-set b9version4 src",
            'bpf --bytecode "9,40 0 0 4292870150,21 0 5 2648,32 0 0 4292870152,4 0 0 0,7 0 0 0,32 0 0 12,29 1 0 0,'
            '6 0 0 0,6 0 0 4294967295" -g B9-VOUCH',
        ],
    ]


@pytest.mark.parametrize(
    ("binding", "entries", "rules"),
    [
        ("80:8080", ["b9exposed4 192.168.0.4,tcp:8080"], ["-p tcp -m tcp --dport 80 192.168.0.4:8080"]),
        (
            "93.1.1.1:80:80/udp@8.8.0.0/16",
            ["b9exposedto4 192.168.0.4,udp:80,8.8.0.0/16"],
            ["-s 8.8.0.0/16 -d 93.1.1.1/32 -p udp -m udp --dport 80 192.168.0.4:80"],
        ),
        (
            "90-91:90",
            ["b9exposed4 192.168.0.4,tcp:90", "b9exposed4 192.168.0.4,tcp:91"],
            ["-p tcp -m tcp --dport 90:91 192.168.0.4"],
        ),
        (
            "90-91:70",
            ["b9exposed4 192.168.0.4,tcp:70", "b9exposed4 192.168.0.4,tcp:71"],
            ["-p tcp -m tcp --dport 90:91 192.168.0.4:70-71/90"],
        ),
        ("80:80@2001:db8::/32", [], []),
        ("80:80@0.0.0.0/0", ["b9exposed4 192.168.0.4,tcp:80"], ["-p tcp -m tcp --dport 80 192.168.0.4:80"]),
    ],
)
def test_a_binding_is_entries_and_the_rules_that_lead_there(binding: str, entries: list[str], rules: list[str]) -> None:
    one = msgspec.structs.replace(FOUR, bindings=(parse_binding(binding),))
    assert [line for line in shown([one]) if "exposed" in line] == entries
    held = holdings([one], WALL.pins)
    assert [" ".join((*owned.rule.matches, owned.rule.target[-1])) for owned in held.rules] == rules


def test_a_change_adds_and_removes_what_differs_and_replaces_marks_in_place() -> None:
    later = msgspec.structs.replace(WEB, generation=WEB.generation + 1, bindings=(WEB.bindings[0], *WEB.bindings[2:]))
    change = changes(holdings([WEB, OTHER], WALL.pins), holdings([later, OTHER], WALL.pins))
    assert [(owned.set, owned.entry.mark) for owned in change.renewed] == [
        ("b9version4", later.generation),
        ("b9version6", later.generation),
    ]
    assert sorted(owned.set for owned in change.removed) == ["b9exposed4", "b9exposed6"]
    assert [owned.version for owned in change.rules_removed] == [4, 6]
    assert change.rules_added == ()
    same = holdings([WEB, OTHER], WALL.pins)
    assert changes(same, same) == changes(holdings([], WALL.pins), holdings([], WALL.pins))


def test_a_detach_takes_the_pins_first() -> None:
    gone = changes(holdings([WEB], WALL.pins), holdings([], WALL.pins)).removed
    assert gone[0].set == "b9version6"
    assert [owned.set for owned in gone].index("b9pin4") < [owned.set for owned in gone].index("b9exposed4")


def test_two_bindings_of_one_port_are_one_entry() -> None:
    twice = msgspec.structs.replace(FOUR, bindings=(parse_binding("80:80"), parse_binding("81:80")))
    once = msgspec.structs.replace(FOUR, bindings=(parse_binding("81:80"),))
    assert len([line for line in shown([twice]) if "exposed" in line]) == 1
    removed = changes(holdings([twice], WALL.pins), holdings([once], WALL.pins)).removed
    assert {owned.set for owned in removed} == {"b9published4"}


@pytest.mark.parametrize(
    ("binding", "entries"),
    [
        ("80:8080", ["0.0.0.0/1,tcp:80", "128.0.0.0/1,tcp:80"]),
        ("93.1.1.1:80-81:8080", ["93.1.1.1/32,tcp:80", "93.1.1.1/32,tcp:81"]),
        ("80:8080/udp", []),
        ("80:80@2001:db8::/32", []),
    ],
)
def test_a_published_port_of_tcp_is_known_where_its_flows_begin(binding: str, entries: list[str]) -> None:
    """Whichever of the node's addresses they are to: they are forgotten soon after their end."""
    one = msgspec.structs.replace(FOUR, bindings=(parse_binding(binding),))
    assert [line for line in shown([one]) if "published" in line] == [f"b9published4 {entry}" for entry in entries]


def test_an_endpoint_is_born_with_its_first_block_also_where_blocks_came_round_again() -> None:
    aged = msgspec.structs.replace(FOUR, past_generations=(0x7FFFFF42,), generation=0x40000017)
    born = [owned.entry.mark for owned in holdings([aged], WALL.pins).entries if owned.set == "b9born4"]
    assert born == [0x7FFFFF00]


def test_a_family_that_cannot_be_pinned_is_closed_and_has_no_endpoints() -> None:
    poor = wall_of(features=XtFeatures(program=False))
    assert pin_form(6, OPENED.network.subnet4, XtFeatures(program=False)) is None
    assert not [line for line in shown([OTHER], poor) if "6 " in line.split(":")[0]]
    raw = render_table(next(table for table in poor.tables6 if table.name == "raw"))
    assert '-A B9-TENANT -m comment --comment "no pins in this family" -j DROP' in raw
    assert wall_of(features=XtFeatures(ipv6=False)).tables6 == ()
    assert "nat" not in {table.name for table in wall_of(features=XtFeatures(nat6=False)).tables6}


@pytest.mark.parametrize("bit", [0, 29, 30, 31])
def test_a_mark_that_the_rules_use_themselves_is_refused(bit: int) -> None:
    with pytest.raises(Unsupported, match=r"node\.mark"):
        wall_of(Settings(mark=1 << bit))


@pytest.mark.parametrize("bit", range(1, 29))
def test_no_other_mark_makes_two_meanings_one(bit: int) -> None:
    view = View(compile_wall(Settings(mark=1 << bit), FACTS, Usage(), uplink="eth0").scene, PLAIN, 4, "filter")
    assert len({view.only(value) for value in (LIVE, NOBODY, PASSED, OWN)}) == 4
    assert wall_of(Settings(mark=1 << bit)).tables4
