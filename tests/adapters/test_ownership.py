"""Tables that a socket owns: who can change them, what outlives whom, and that what the socket lays is what nft would
have."""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest
from generate import FLOW, INET, Generator
from rulesets import WALL

from cellwall.adapters.netlink.sockets import Message, Refusal, Reply
from cellwall.adapters.nftables.tables import NftRules
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.adapters.process import run
from cellwall.compile.usage import usage_of_endpoints
from cellwall.engine.nftables.desired import with_endpoints
from cellwall.errors import Conflict, KernelError
from cellwall.lower.nft.elements import changes, endpoint_elements
from cellwall.lower.nft.sets import schema_of
from cellwall.model.settings import Settings
from cellwall.names import SPARE_TABLE, TABLE
from cellwall.ruleset.edits import Edit, Flush, Refresh, Remove, Replace
from cellwall.ruleset.select import renamed, without_chains
from cellwall.ruleset.types import Chain, Element, Hook, Interval, NamedSet, Rule, Ruleset, Table, Verdict
from scene import OTHER, SCENE, WEB, Scene
from unit.lower.test_nft_text import BOUNDED, OPERATOR, POLICED, ROUTER
from world import Wrapped

from .conftest import Namespace

pytestmark = pytest.mark.root

BARE = SCENE.rules
SCHEMA = schema_of(usage_of_endpoints(SCENE.endpoints))
HELD = with_endpoints(BARE, [WEB])
OPERATORS = Scene(OTHER, settings=OPERATOR).ruleset
POLICIES = Scene(POLICED, OTHER, settings=Settings(services=OPERATOR.services)).ruleset
ROUTERS = Scene(OTHER, facts=ROUTER).ruleset
BOUNDS = Scene(POLICED, OTHER, settings=BOUNDED).ruleset
FOREIGN = (
    "flush ruleset",
    "delete table inet cellwall",
    "destroy table inet cellwall",
    "flush table inet cellwall",
    "flush chain inet cellwall forward",
    "delete chain inet cellwall input",
    "add rule inet cellwall forward accept",
    "insert rule bridge cellwall port accept",
    "add chain inet cellwall more",
    "flush set inet cellwall floor4",
    "add element inet cellwall opened4 { 10.0.0.1 . tcp . 22 }",
    "add table inet cellwall { flags dormant; }",
    "add table inet cellwall { flags owner, persist; }",
)


@pytest.fixture
def open_rules(node: Namespace) -> Iterator[Callable[[], NftRules]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(NftRules(SCHEMA))


@pytest.fixture
def rules(open_rules: Callable[[], NftRules]) -> NftRules:
    return open_rules()


@pytest.fixture
def owning(rules: NftRules) -> NftRules:
    """Owns the wall, with an endpoint in it."""
    assert rules.own(BARE) == ""
    rules.lay([Replace(HELD)])
    return rules


def listed() -> str:
    """The tables as nft shows them, in one order and without their flags."""
    lines = [
        run(["nft", "-s", "list", "table", family, TABLE]).text.splitlines() for family in ("bridge", "arp", "inet")
    ]
    return "\n".join(line for table in lines for line in table if line and not line.startswith(("\tflags ", "table ")))


def as_nft_lays(node: Namespace, edits: Sequence[Sequence[Edit]]) -> str:
    """What these transactions leave where nft writes."""
    with NftRules() as plain:
        for edit in edits:
            plain.lay(edit)
    found = listed()
    node.run("nft flush ruleset")
    return found


def as_owner_lays(edits: Sequence[Sequence[Edit]]) -> str:
    with NftRules() as rules:
        assert rules.own(BARE) == ""
        for edit in edits:
            rules.lay(edit)
        return listed()


# ---------------------------------------------------------------- the same rules


def generated(seed: int) -> Ruleset:
    generator = Generator(Random(seed), {"lo": 1}, [0x020000000C01])
    hooks = {
        "pre": (Hook("filter", "prerouting", -150), (*INET, *FLOW)),
        "forward": (Hook("filter", "forward", -10), (*INET, *FLOW, "oifname", "oif")),
    }
    inet = generator.table("inet", hooks, name=TABLE)  # type: ignore[arg-type]
    return Ruleset((Table("bridge", TABLE, (), ()), Table("arp", TABLE, (), ()), inet))


@pytest.mark.parametrize(
    "ruleset",
    [HELD, OPERATORS, POLICIES, ROUTERS, BOUNDS, renamed(WALL, TABLE), *map(generated, range(12))],
    ids=[
        "wall",
        "operator",
        "policies",
        "router",
        "bounds",
        "every statement",
        *(f"random {seed}" for seed in range(12)),
    ],
)
def test_an_owner_lays_what_nft_would(node: Namespace, ruleset: Ruleset) -> None:
    edits = [[Replace(ruleset)]]
    assert as_nft_lays(node, edits) == as_owner_lays(edits) != ""


def other_rules(ruleset: Ruleset) -> Ruleset:
    """Another rule, another floor, another set and another endpoint, which a refresh leaves out."""
    bridge, arp, inet = with_endpoints(ruleset, [OTHER]).tables
    chains = tuple(Chain(one.name, one.rules[:-1], one.hook) if one.name == "deny" else one for one in inet.chains)
    floor = NamedSet(
        "floor4", ("ipv4_addr",), interval=True, static=True, elements=(Element((Interval(1 << 24, 3 << 24),)),)
    )
    more = NamedSet("more", ("mark",), elements=(Element((7,)),))
    sets = (*(floor if one.name == "floor4" else one for one in inet.sets), more)
    return Ruleset((bridge, arp, Table("inet", TABLE, sets, chains, inet.timeouts)))


@pytest.mark.parametrize(
    "edits",
    [
        [[Replace(HELD)], [Refresh(other_rules(BARE))]],
        [[Replace(HELD)], [Refresh(other_rules(BARE))], [Refresh(HELD)]],
        [[Replace(HELD)], [Remove(renamed(BARE, SPARE_TABLE)), Replace(other_rules(BARE))]],
        [[Replace(without_chains(HELD))], [Refresh(HELD)]],
        [[Replace(renamed(HELD, SPARE_TABLE))], [Refresh(HELD)], [Remove(renamed(HELD, SPARE_TABLE))]],
        [[Replace(HELD)], [Flush(HELD), Flush(renamed(HELD, SPARE_TABLE))]],
    ],
    ids=["refresh", "and back", "replacement", "sets first", "copy", "flush"],
)
def test_an_owner_changes_what_nft_would(node: Namespace, edits: list[list[Edit]]) -> None:
    assert as_nft_lays(node, edits) == as_owner_lays(edits)
    assert SPARE_TABLE not in node.run("nft list tables")


def test_tables_without_a_rule_do_not_stand(rules: NftRules) -> None:
    rules.lay([Flush(HELD)])  # of none
    rules.lay([Replace(HELD)])
    assert rules.stands(TABLE)
    rules.lay([Flush(HELD)])
    assert not rules.stands(TABLE)
    assert {chain.rules for chain in rules.chains("inet", TABLE).values()} == {0}


def test_the_shape_does_not_tell_who_laid_it(node: Namespace, rules: NftRules) -> None:
    rules.lay([Replace(HELD)])
    first = rules.shape()
    rules.lay([Remove(BARE)])
    assert rules.own(BARE) == ""
    rules.lay([Replace(HELD)])
    assert rules.shape() == first
    with NftRules() as other:
        assert other.shape() == first


def test_a_refresh_has_no_moment_in_which_a_set_is_gone(owning: NftRules) -> None:
    before = owning.elements("inet", TABLE, "version4")
    assert before
    owning.lay([Refresh(other_rules(BARE))])
    assert owning.elements("inet", TABLE, "version4") == before


def test_timeouts_keep_what_the_node_has_of_other_states(node: Namespace, owning: NftRules) -> None:
    """nft's own come from the namespace that they are compiled in."""
    assert ProcSysctls().write("net.netfilter.nf_conntrack_tcp_timeout_established", "4321")
    owning.lay([Replace(HELD)])
    assert "established : 1h12m1s" in node.run("nft list ruleset")


def test_what_nft_refuses_is_shown_by_its_lines(owning: NftRules) -> None:
    leads_to_a = (Rule((Verdict("goto", "a"),)),)
    chains = (Chain("a", leads_to_a), Chain("b", leads_to_a, Hook("filter", "input", 0)))
    endless = Ruleset((Table("inet", TABLE, (), chains),))
    before = listed()
    with pytest.raises(KernelError, match='line 8: "goto a"'):
        owning.lay([Replace(endless)])
    assert listed() == before


# ---------------------------------------------------------------- others


@pytest.mark.parametrize("command", FOREIGN)
def test_nobody_else_changes_what_has_an_owner(node: Namespace, owning: NftRules, command: str) -> None:
    before, shape = listed(), owning.shape()
    done = run(["nft", command], check=False)
    if command != "flush ruleset":
        assert "Operation not permitted" in done.stderr.decode()
    assert listed() == before
    assert owning.shape() == shape
    assert "flags owner,persist" in node.run("nft list table inet cellwall")


def test_a_flush_takes_what_is_not_ours(node: Namespace, owning: NftRules) -> None:
    node.run("nft add table inet other")
    node.run("nft flush ruleset")
    assert "inet other" not in node.run("nft list tables")
    assert "inet cellwall" in node.run("nft list tables")


def test_the_owner_changes_elements(owning: NftRules) -> None:
    added = changes("add", endpoint_elements(OTHER))
    owning.apply(added)
    assert owning.holds(added)
    owning.apply(changes("delete", endpoint_elements(OTHER)))
    assert not any(owning.holds([one]) for one in added)


def test_another_writer_of_ours_is_told_whose_they_are(owning: NftRules) -> None:
    with NftRules(SCHEMA) as other:
        with pytest.raises(Conflict, match="another program owns"):
            other.lay([Refresh(HELD)])
        with pytest.raises(Conflict, match="another program owns"):
            other.lay([Remove(BARE)])
        assert "another program owns" in other.own(BARE)


def test_a_table_that_another_program_adopted_is_told(node: Namespace, open_rules: Callable[[], NftRules]) -> None:
    with NftRules() as gone:
        assert gone.own(BARE) == ""
        gone.lay([Replace(HELD)])
    thief, late = open_rules(), open_rules()
    assert thief.own(BARE) == ""
    assert "another program owns the table" in late.own(BARE)
    with pytest.raises(Conflict):
        late.lay([Replace(HELD)])


# ---------------------------------------------------------------- before and after an owner


def test_tables_outlive_their_owner_and_have_another(node: Namespace, open_rules: Callable[[], NftRules]) -> None:
    with NftRules() as first:
        assert first.own(BARE) == ""
        first.lay([Replace(HELD)])
        shape = first.shape()
    second = open_rules()
    assert second.shape() == shape
    assert second.own(BARE) == ""
    assert second.shape() == shape
    node.run("nft flush ruleset")
    assert second.shape() == shape


def test_between_two_owners_they_are_anybodys(node: Namespace) -> None:
    with NftRules() as first:
        assert first.own(BARE) == ""
        first.lay([Replace(HELD)])
    node.run("nft flush ruleset")
    assert node.run("nft list tables") == ""


def test_who_does_not_own_writes_tables_that_outlived_an_owner(
    node: Namespace, open_rules: Callable[[], NftRules]
) -> None:
    with NftRules() as first:
        assert first.own(BARE) == ""
        first.lay([Replace(HELD)])
    plain = open_rules()
    plain.lay([Refresh(other_rules(BARE))])
    plain.apply(changes("add", endpoint_elements(OTHER)))
    assert "more" in listed()
    plain.lay([Remove(BARE)])
    assert node.run("nft list tables") == ""
    plain.lay([Replace(HELD)])
    node.run("nft add rule inet cellwall forward counter")


def test_tables_that_nft_laid_are_not_kept_until_their_owner_lays_them(rules: NftRules) -> None:
    rules.lay([Replace(HELD)])
    assert rules.is_kept()  # nobody is to own them
    shape = rules.shape()
    assert rules.own(BARE) == ""
    assert not rules.is_kept()
    rules.lay([Replace(HELD)])
    assert rules.is_kept()
    assert rules.shape() == shape


def test_owning_twice_is_owning(owning: NftRules) -> None:
    shape = owning.shape()
    assert owning.own(BARE) == ""
    assert owning.shape() == shape


def test_to_ask_for_owners_leaves_nothing(node: Namespace, rules: NftRules) -> None:
    assert rules.own(BARE) == ""
    assert node.run("nft list ruleset") == ""


def test_a_table_that_sleeps_has_no_rules_also_where_it_outlived_an_owner(
    node: Namespace, open_rules: Callable[[], NftRules]
) -> None:
    with NftRules() as first:
        assert first.own(BARE) == ""
        first.lay([Replace(HELD)])
    rules = open_rules()
    shape = rules.shape()
    assert rules.chains("inet", TABLE)
    node.run("nft add table inet cellwall { flags dormant,persist; }")
    assert rules.chains("inet", TABLE) == {}
    assert rules.shape() != shape


# ---------------------------------------------------------------- kernels that cannot


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (lambda message: b"\x08\0\x02\0\0\0\0\x06" in message.body, "no owners that tables outlive"),
        (lambda message: "egress (a rule)" in message.what, "refuses inet cellwall-probe egress"),
    ],
    ids=["no such flag", "a rule"],
)
def test_a_kernel_that_takes_no_owner_or_no_rule_of_its_own_has_the_wall_without_one(
    node: Namespace, rules: NftRules, refused: Callable[[Message], bool], why: str
) -> None:
    real = rules._netfilter

    def exchange(messages: Sequence[Message], *rest: Any) -> tuple[list[Reply], list[Refusal]]:
        bad = [position for position, message in enumerate(messages) if refused(message)]
        if bad:
            return [], [Refusal(position, errno.EOPNOTSUPP, "", 0) for position in bad]
        return real.exchange(messages, *rest)

    rules.lay([Replace(HELD)])
    rules._netfilter = Wrapped(real, exchange=exchange)  # type: ignore[assignment]
    assert why in rules.own(BARE)
    assert why in rules.unowned
    assert rules.is_kept()
    rules.lay([Refresh(other_rules(BARE))])
    assert "more" in listed()
    assert "persist" not in node.run("nft list ruleset")


# ---------------------------------------------------------------- the socket beyond its process


def test_whoever_has_the_socket_goes_on_as_owner(node: Namespace, owning: NftRules) -> None:
    kept = os.dup(owning.descriptor())
    shape = owning.shape()
    owning.close()
    node.run("nft flush ruleset")  # nobody is there but the descriptor
    with NftRules(SCHEMA) as after:
        assert after.own(BARE, kept) == ""
        assert after.shape() == shape
        after.apply(changes("add", endpoint_elements(OTHER)))
        after.lay([Refresh(other_rules(BARE))])
        assert run(["nft", "flush", "table", "inet", TABLE], check=False).returncode != 0


def test_answers_that_nobody_read_are_not_taken_for_ones_own(owning: NftRules) -> None:
    kept = os.dup(owning.descriptor())
    with socket.socket(fileno=os.dup(kept)) as raw:
        raw.send(b"\x14\0\0\0\x01\x0a\x05\x03\x01\0\0\0\0\0\0\0\x01\0\0\0")  # a dump
    with NftRules(SCHEMA) as after:
        assert after.own(BARE, kept) == ""
        assert after.shape()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_descriptor_of_something_else_is_refused(rules: NftRules, kind: int) -> None:
    other = socket.socket(socket.AF_UNIX, kind)
    with pytest.raises(KernelError) as caught:
        rules.own(BARE, other.detach())
    assert caught.value.errno == errno.EPROTONOSUPPORT
