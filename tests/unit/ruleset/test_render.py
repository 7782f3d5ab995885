"""The text of rulesets: goldens to be read, and everything that must be refused instead of written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from batches import render_element_changes
from hypothesis import given
from hypothesis import strategies as st
from rulesets import ACCEPT, COUNT, DROP, WALL, eq, f, ip, jump, ne, net, one_chain, rule, within

from cellwall.errors import InvalidSpec, NotFound, Unsupported
from cellwall.ruleset.render import (
    render_flush,
    render_refresh,
    render_removal,
    render_replacement,
    render_ruleset,
)
from cellwall.ruleset.types import (
    Chain,
    ClampSegments,
    Dnat,
    Element,
    ElementChange,
    Hook,
    Interval,
    Lookup,
    Masquerade,
    Meter,
    NamedSet,
    RateOver,
    Reject,
    Rule,
    Ruleset,
    Table,
)

GOLDENS = Path(__file__).parent / "goldens"


def element_changes() -> str:
    changes = (
        ElementChange("add", "bridge", "cw", "pin4", Element((11, 0x0A58C0A80004, ip("192.168.0.4")))),
        ElementChange("add", "bridge", "cw", "pin4", Element((12, 0x0A58C0A80005, ip("192.168.0.5")))),
        ElementChange("delete", "inet", "cw", "gen4", Element((ip("192.168.0.2"),), (5,))),
        ElementChange("add", "inet", "cw", "gen4", Element((ip("192.168.0.2"),), (6,))),
    )
    return render_element_changes(WALL, changes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wall", lambda: render_ruleset(WALL)),
        ("wall-refresh", lambda: render_refresh(WALL)),
        ("wall-removal", lambda: render_removal(WALL)),
        ("element-changes", element_changes),
    ],
)
def test_golden(name: str, text: Callable[[], str]) -> None:
    """CELLWALL_GOLDENS=write rewrites the files; read the difference before committing it."""
    path = GOLDENS / f"{name}.nft"
    if os.environ.get("CELLWALL_GOLDENS") == "write":
        path.write_text(text())
    assert text() == path.read_text()


def test_replacement_removes_before_it_defines() -> None:
    assert render_replacement(WALL) == render_removal(WALL) + "\n" + render_ruleset(WALL)


def test_a_flush_is_of_tables_that_may_be_missing() -> None:
    text = render_flush(WALL)
    for table in WALL.tables:
        assert f"table {table.family} {table.name} {{}}\nflush table {table.family} {table.name}\n" in text


BAD_WORDS = ['a"b', "a\nb", "a;b", "a b", "ä", "", "1a", "{", "a$", "#a", "a*"]


@pytest.mark.parametrize("word", [*BAD_WORDS, "drop", "ip6", "masquerade", "x" * 129])
def test_names_that_nft_would_misread_are_refused(word: str) -> None:
    hook = Hook("filter", "prerouting", 0)
    bad = [
        Ruleset((Table("inet", word, (), ()),)),
        Ruleset((Table("inet", "t", (NamedSet(word, ("mark",)),), ()),)),
        Ruleset((Table("inet", "t", (), (Chain(word, (), hook),)),)),
        one_chain(rule(jump(word))),
        one_chain(rule(within(word, "ip saddr"))),
        one_chain(rule(Dnat("ip", (f("ip daddr"),), word))),
    ]
    for ruleset in bad:
        with pytest.raises(InvalidSpec):
            render_ruleset(ruleset)


@pytest.mark.parametrize("comment", ['a"b', "a\nb", "a\\", "ä", "\x7f", "\0", "x" * 129])
def test_comments_that_could_leave_their_quotes_are_refused(comment: str) -> None:
    with pytest.raises(InvalidSpec, match="comment"):
        render_ruleset(one_chain(Rule((DROP,), comment)))


@pytest.mark.parametrize("name", ['e"', "e;", "e h", "e\n", "", "*", "e*h", "x" * 16, "e\\*", "é"])
def test_interface_names_that_could_leave_their_quotes_are_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match="interface"):
        render_ruleset(one_chain(rule(eq("iifname", name), DROP)))


@given(st.text(max_size=140))
def test_a_comment_is_written_as_it_is_or_refused(comment: str) -> None:
    try:
        text = render_ruleset(one_chain(Rule((DROP,), comment)))
    except InvalidSpec:
        return
    line = next(line for line in text.splitlines() if "drop" in line)
    assert line == (f'\t\tdrop comment "{comment}"' if comment else "\t\tdrop")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (eq("ip saddr"), "nothing"),
        (eq("ip saddr", 1 << 32), "32 bits"),
        (eq("ip saddr", -1), "32 bits"),
        (eq("ip saddr", "10.0.0.1"), "integer"),
        (eq("iifname", 3), "name"),
        (eq("th dport", 65536), "16 bits"),
        (eq("th dport", 53, 53), "twice"),
        (eq("ct state", "new,established"), "one of"),
        (eq("ct state", "new", mask=1), "masked"),
        (eq("fib daddr type", "anything"), "one of"),
        (eq("exthdr rt", 0, 1), "one value"),
        (eq("ip saddr", 0x0A000001, mask=0xFFFFFF00), "outside the mask"),
        (Lookup((), "s"), "nothing"),
        (Masquerade(5, 4), "range"),
        (Meter((f("iif"),), "s", RateOver(0, 1)), "between"),
    ],
)
def test_values_that_a_statement_cannot_hold_are_refused(statement: object, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason) as caught:
        render_ruleset(one_chain(Rule((statement,))))  # type: ignore[arg-type]
    assert "pre rule 0" in caught.value.field


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (NamedSet("s", ()), "no key"),
        (NamedSet("s", ("mark",), elements=(Element((1, 2)),)), "type"),
        (NamedSet("s", ("mark",), elements=(Element((1,), (2,)),)), "type"),
        (NamedSet("s", ("ipv4_addr",), elements=(Element((net("10.0.0.0/8"),)),)), "single values"),
        (NamedSet("s", ("mark",), elements=(Element((1,)), Element((1,)))), "same key"),
        (NamedSet("s", ("inet_service",), interval=True, elements=(Element((Interval(2, 1),)),)), "before it begins"),
        (
            NamedSet(
                "s",
                ("ipv4_addr",),
                interval=True,
                elements=(Element((net("10.0.0.0/8"),)), Element((ip("10.1.0.0"),))),
            ),
            "two intervals",
        ),
        (NamedSet("s", ("mark",), timeout=0), "between"),
    ],
)
def test_elements_that_do_not_fit_their_set_are_refused(named: NamedSet, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason):
        render_ruleset(one_chain(sets=(named,)))


@pytest.mark.parametrize(
    ("family", "statements"),
    [
        ("inet", (eq("ip saddr", 1), eq("ip6 saddr", 1))),
        ("inet", (eq("meta nfproto", "ipv4", "ipv6"), eq("ip saddr", 1))),
        ("inet", (eq("ether type", 0x88CC), eq("ip saddr", 1))),
        ("inet", (eq("meta l4proto", 6, 1), eq("icmp type", 8))),
        ("inet", (eq("meta l4proto", 6), eq("icmp type", 8))),
        ("inet", (eq("meta nfproto", "ipv6"), eq("ct original ip saddr", 1))),
        ("inet", (eq("ip protocol", 17), Reject("tcp reset"))),
        ("inet", (ne("icmpv6 type", 1), eq("icmpv6 taddr", 1))),
        ("inet", (eq("arp operation", 1),)),
        ("bridge", (Reject("tcp reset"),)),
        ("inet", (ClampSegments(),)),
        ("inet", (eq("meta l4proto", 17), ClampSegments())),
        ("bridge", (eq("meta nfproto", "ipv4"),)),
        ("arp", (eq("ether saddr", 1),)),
    ],
)
def test_rules_whose_hidden_checks_are_not_known_are_refused(family: str, statements: tuple[object, ...]) -> None:
    """nft refuses most of them; of the others it compiles something else than stands there."""
    with pytest.raises(Unsupported):
        render_ruleset(one_chain(Rule(statements), family=family))  # type: ignore[arg-type]


def test_nat_in_the_forward_hook_is_refused() -> None:
    chain = Chain("n", (rule(COUNT, ACCEPT),), Hook("nat", "forward", 0))
    with pytest.raises(InvalidSpec, match="nat"):
        render_ruleset(Ruleset((Table("inet", "t", (), (chain,)),)))


def test_changes_of_an_unknown_set_are_refused() -> None:
    change = ElementChange("add", "inet", "cw", "nosuch", Element((1,)))
    with pytest.raises(NotFound, match="nosuch"):
        render_element_changes(WALL, (change,))
