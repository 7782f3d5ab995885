"""The chains of a table: how many rules each has, and one that drops everything from now on."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from cellwall.adapters.nftables.tables import NftRules
from cellwall.engine.nftables.contracts import LiveChain, Met
from cellwall.errors import KernelError
from cellwall.ruleset.types import Element, ElementChange, Hook, NamedSet

from .conftest import Namespace

pytestmark = pytest.mark.root

TEXT = b"""\
table bridge one {
 chain empty { }
 chain unused { }
 chain port { counter jump empty; counter drop; }
 chain frame { type filter hook prerouting priority -500; counter accept; }
}
table bridge two { chain port { counter accept; }; }
table inet one {
 set floor4 { type ipv4_addr; flags interval; elements = { 0.0.0.0/8 }; }
 set floor6 { type ipv6_addr; flags interval; elements = { 2001:db8::/32 }; }
 chain through { counter accept; }
 chain forward { type filter hook forward priority -10; goto through; }
 chain out { type nat hook postrouting priority 90; counter accept; }
}
"""


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    node.run("nft -f -", input=TEXT)
    with NftRules() as rules:
        yield rules


def test_the_rules_of_each_chain_that_packets_can_come_by_are_counted_and_where_it_is_met(rules: NftRules) -> None:
    assert rules.chains("bridge", "one") == {
        "port": LiveChain(2),
        "empty": LiveChain(0),
        "frame": LiveChain(1, Hook("filter", "prerouting", -500)),
    }
    assert rules.chains("bridge", "two") == {"port": LiveChain(1)}
    assert rules.chains("bridge", "three") == {}
    assert rules.chains("inet", "one") == {
        "through": LiveChain(1),
        "forward": LiveChain(1, Hook("filter", "forward", -10)),
        "out": LiveChain(1, Hook("nat", "postrouting", 90)),
    }


def test_a_table_that_sleeps_has_no_chain(rules: NftRules, node: Namespace) -> None:
    node.run("nft add table bridge one { flags dormant; }")
    assert rules.chains("bridge", "one") == {}


MET: Met = {("inet", "forward"): 0, ("inet", "through"): 1, ("bridge", "frame"): 0}


@pytest.mark.parametrize(
    ("command", "met"),
    [
        ("nft list ruleset", True),
        ("nft flush chain inet one out", True),
        ("nft add element inet one floor4 { 10.0.0.0/8 }", True),
        ("nft flush table inet one", False),
        ("nft flush chain inet one through", False),
        ("nft flush chain inet one forward", False),
        ("nft flush chain inet one forward and nft delete chain inet one forward", False),
        ("nft flush chain inet one forward and nft delete chain inet one forward and "
         "nft add chain inet one forward and nft add rule inet one forward goto through", False),
        ("nft add table inet one { flags dormant; }", False),
        ("nft flush table bridge one", False),
        ("nft delete table bridge one", False),
        ("nft add table bridge one { flags dormant; }", False),
        ("nft flush set inet one floor4", False),
        ("nft flush set inet one floor6", False),
        ("nft flush ruleset", False),
    ],
)  # fmt: skip
def test_whether_packets_meet_what_judges_them(rules: NftRules, node: Namespace, command: str, met: bool) -> None:
    assert rules.is_met(["one"], MET)
    for each in command.split(" and "):
        node.run(each)
    assert rules.is_met(["one"], MET) == met
    assert rules.is_met(["two", "one"], MET) == met
    assert not rules.is_met(["two"], MET)


def test_who_is_outrun_twice_is_told_where_the_wall_is_gone_by_then(
    rules: NftRules, node: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that change tables all the time: the third transaction is of any state, so that nobody waits for them."""
    node.run("nft add set inet one live { type mark; }")
    rules.schema = {("inet", "one", "live"): NamedSet("live", ("mark",))}
    where, asked = (("one",), MET), rules.is_met
    orders = ["nft add table ip more", "nft add table ip others", "nft flush table inet one"]
    faster = iter(orders)

    def is_met(*question: object) -> bool:
        met = asked(*question)  # type: ignore[arg-type]
        node.run(next(faster, "nft list tables"))
        return met

    monkeypatch.setattr(rules, "is_met", is_met)
    rules.apply([ElementChange("add", "inet", "one", "live", Element((1,)))], where)  # by others, and harmless
    faster = iter(orders[2:])
    with pytest.raises(KernelError, match="flushed"):
        rules.apply([ElementChange("add", "inet", "one", "live", Element((2,)))], where)


@pytest.mark.parametrize("by_others", ["nft flush ruleset", "nft flush set inet one floor6", "nft add table ip others"])
def test_who_changes_elements_is_told_of_the_wall_that_stands_then(
    rules: NftRules, node: Namespace, by_others: str
) -> None:
    node.run("nft add set inet one live { type mark; }")
    rules.schema = {("inet", "one", "live"): NamedSet("live", ("mark",))}
    first, second, third = (ElementChange("add", "inet", "one", "live", Element((number,))) for number in (1, 2, 3))
    assert rules.is_met(["one"], MET)
    rules.apply([first])
    assert rules.is_met(["one"], MET)
    with pytest.raises(KernelError, match="EEXIST"):
        rules.apply([second, first])
    assert rules.is_met(["one"], MET)
    node.run(by_others)
    gone = by_others == "nft flush ruleset"
    with pytest.raises(KernelError, match="ENOENT") if gone else nullcontext():
        rules.apply([second])
    stands = by_others == "nft add table ip others"
    assert rules.is_met(["one"], MET) == stands
    if not gone:
        rules.apply([third])
        assert rules.elements("inet", "one", "live") == {((number,), ()) for number in (1, 2, 3)}
    assert rules.is_met(["one"], MET) == stands


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize(
    ("by_others", "stands"),
    [
        ("nft flush set inet one floor6", False),
        ("nft flush chain inet one forward", False),
        ("nft add table ip a", True),
    ],
)
def test_elements_are_added_to_a_wall_that_stands_and_to_no_other(
    rules: NftRules, node: Namespace, by_others: str, stands: bool, asked_before: bool
) -> None:
    node.run("nft add set inet one live { type mark; }")
    rules.schema = {("inet", "one", "live"): NamedSet("live", ("mark",))}
    first, second = (ElementChange("add", "inet", "one", "live", Element((number,))) for number in (1, 2))
    where = (("two", "one"), MET)
    if asked_before:
        rules.apply([first], where)
    node.run(by_others)
    with nullcontext() if stands else pytest.raises(KernelError, match="ENOENT"):
        rules.apply([second], where)
    assert (((2,), ()) in rules.elements("inet", "one", "live")) == stands


def test_chains_drop_everything_instead_of_what_they_have(rules: NftRules, node: Namespace) -> None:
    for _ in range(2):
        assert rules.drop_all([("bridge", "one", "port"), ("bridge", "one", "frame")], rules.generation())
        assert node.run("nft list chain bridge one port").split()[-4:] == ["{", "drop", "}", "}"]
        assert rules.chains("bridge", "one")["frame"].rules == 1
    assert rules.chains("bridge", "two") == {"port": LiveChain(1)}


def test_nothing_is_dropped_where_anything_changed_since_it_was_seen(rules: NftRules, node: Namespace) -> None:
    seen = rules.generation()
    node.run("nft add table ip others")
    assert rules.generation() != seen
    assert not rules.drop_all([("bridge", "one", "port")], seen)
    assert rules.chains("bridge", "one")["port"] == LiveChain(2)


def test_a_chain_that_is_not_there_is_an_error(rules: NftRules) -> None:
    with pytest.raises(KernelError, match="ENOENT"):
        rules.drop_all([("bridge", "one", "port"), ("bridge", "one", "gone")], rules.generation())
    assert rules.chains("bridge", "one")["port"] == LiveChain(2)
