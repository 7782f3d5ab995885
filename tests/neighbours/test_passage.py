"""What is sure about a chain of others, and where an accept goes: pure."""

from typing import Any

import pytest

from cellwall.adapters.other_programs.nft_listing import read_chain
from cellwall.engine.node.foreign_chains import ForwardChain, Program
from cellwall.engine.node.neighbours import accepts, missing_accepts, stray_accepts
from cellwall.engine.node.passage import Crossing, passes

OUT = Crossing("b9_br0", "eth0", "ip")
IN = Crossing("eth0", "b9_br0", "ip", translated=True)
ACCEPT, DROP, REJECT, RETURN = {"accept": None}, {"drop": None}, {"reject": {"type": "icmpx"}}, {"return": None}


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str, right: Any, op: str = "==") -> dict[str, Any]:
    return match({"meta": {"key": key}}, right, op)


def listing(*rules: list[Any], policy: str = "drop", **others: list[list[Any]]) -> list[dict[str, Any]]:
    """A table with the base chain `f` and other chains by name, as nft lists it."""
    chains: dict[str, list[list[Any]]] = {"f": [*rules], **others}
    made: list[dict[str, Any]] = [{"metainfo": {}}, {"table": {"name": "t"}}]
    for name in chains:
        made.append({"chain": {"name": name, **({"hook": "forward", "policy": policy} if name == "f" else {})}})
    made += [{"rule": {"chain": name, "expr": expr}} for name, found in chains.items() for expr in found]
    return made


FROM_BRIDGE = meta("iifname", "b9_br0")
ESTABLISHED = match({"ct": {"key": "state"}}, ["established", "related"], "in")
NEW = match({"ct": {"key": "state"}}, {"set": ["new", "untracked"]})
PUBLISHED = match({"ct": {"key": "status"}}, "dnat", "in")
HTTPS = match({"payload": {"protocol": "tcp", "field": "dport"}}, 443)


@pytest.mark.parametrize(
    ("table", "out", "into"),
    [
        (listing(), False, False),
        (listing(policy="accept"), True, True),
        (listing([ACCEPT]), True, True),
        (listing([FROM_BRIDGE, ACCEPT]), True, False),
        (listing([meta("iifname", "b9*"), ACCEPT]), True, False),
        (listing([meta("iifname", {"set": ["lo", "b9_br0"]}), {"counter": {}}, ACCEPT]), True, False),
        (listing([meta("iifname", "docker0", "!="), ACCEPT]), True, True),
        (listing([meta("iifname", "b9_br0", "!="), ACCEPT]), False, True),
        (listing([FROM_BRIDGE, HTTPS, ACCEPT]), False, False),
        (listing([ESTABLISHED, ACCEPT]), False, False),
        (listing([NEW, ACCEPT]), True, True),
        (listing([PUBLISHED, ACCEPT]), False, True),
        (listing([meta("nfproto", "ipv6"), ACCEPT]), False, False),
        (listing([{"limit": {}}, ACCEPT]), False, False),
        (listing([FROM_BRIDGE, REJECT], [ACCEPT]), False, True),
        (listing([FROM_BRIDGE, HTTPS, DROP], [ACCEPT]), True, True),
        (listing([RETURN], [ACCEPT]), False, False),
        (listing([RETURN], [DROP], policy="accept"), True, True),
        (listing([FROM_BRIDGE, DROP], policy="accept"), False, True),
        (listing([{"jump": {"target": "g"}}, ACCEPT], [ACCEPT], g=[[FROM_BRIDGE, DROP]]), False, True),
        (listing([{"jump": {"target": "g"}}], [ACCEPT], g=[[FROM_BRIDGE, RETURN], [DROP]]), True, False),
        (listing([{"goto": {"target": "g"}}], [ACCEPT], g=[[FROM_BRIDGE, ACCEPT]]), True, False),
        (listing([{"jump": {"target": "g"}}], [REJECT], policy="accept", g=[[{"jump": {"target": "h"}}]], h=[[ACCEPT]]),
         True, True),
    ],
)  # fmt: skip
def test_a_chain_lets_through_what_no_doubt_is_about(table: list[dict[str, Any]], out: bool, into: bool) -> None:
    chain = read_chain(table, "inet", "t", "f")
    assert passes(chain, OUT) is out
    assert passes(chain, IN) is into


def test_each_family_is_asked_for_itself() -> None:
    chain = read_chain(listing([meta("nfproto", "ipv6"), ACCEPT]), "inet", "t", "f")
    assert not passes(chain, OUT)
    assert passes(chain, Crossing("b9_br0", "eth0", "ip6"))


def forward(*rules: str, policy: str = "ACCEPT", program: Program = "iptables-nft") -> ForwardChain:
    return ForwardChain(program, "FORWARD", policy, rules)


def user(*rules: str, program: Program = "iptables-nft") -> ForwardChain:
    return ForwardChain(program, "DOCKER-USER", "", rules)


OURS = accepts("b9_br0")
LAST = "-j REJECT --reject-with icmp-host-prohibited"


@pytest.mark.parametrize(
    ("chains", "lines"),
    [
        ([], []),
        ([forward()], []),
        ([forward("-i eth1 -j DROP")], []),
        ([forward(policy="DROP")], [f"-I FORWARD 1 {OURS[0]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward(LAST)], [f"-I FORWARD 1 {OURS[0]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward("-i a -j ACCEPT", f'-m comment --comment "the rest" {LAST}')],
         [f"-I FORWARD 2 {OURS[0]}", f"-I FORWARD 3 {OURS[1]}"]),
        ([forward(OURS[1], policy="DROP")], [f"-I FORWARD 2 {OURS[0]}"]),
        ([forward("-i a -j ACCEPT", LAST, "-i virbr0 -j ACCEPT")],
         [f"-I FORWARD 2 {OURS[0]}", f"-I FORWARD 3 {OURS[1]}"]),
        ([forward("-j DROP", "-j LOG", policy="DROP")], [f"-I FORWARD 1 {OURS[0]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward(OURS[0], LAST, "-i a -j ACCEPT", OURS[0], OURS[1])],
         [f"-D FORWARD {OURS[1]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward(LAST, *OURS)],
         [*(f"-D FORWARD {rule}" for rule in OURS), f"-I FORWARD 1 {OURS[0]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward(LAST, "-j DOCKER-USER"), user("-j RETURN")],
         [f"-I FORWARD 1 {OURS[0]}", f"-I FORWARD 2 {OURS[1]}"]),
        ([forward("-j DOCKER-USER", policy="DROP"), user("-i x -j DROP", "-j RETURN", "-i y -j DROP", OURS[0])],
         [f"-D DOCKER-USER {OURS[0]}", f"-I DOCKER-USER 2 {OURS[0]}", f"-I DOCKER-USER 3 {OURS[1]}"]),
        ([forward("-i a -j ACCEPT", *OURS, policy="DROP")], []),
        ([forward("-j DOCKER-USER", policy="DROP"), user("-j RETURN")],
         [f"-I DOCKER-USER 1 {OURS[0]}", f"-I DOCKER-USER 2 {OURS[1]}"]),
        ([forward("-j DOCKER-USER", policy="DROP"), user("-i x -j DROP")],
         [f"-I DOCKER-USER 2 {OURS[0]}", f"-I DOCKER-USER 3 {OURS[1]}"]),
        ([forward("-j DOCKER-USER", policy="DROP"), user("-j RETURN", program="iptables-legacy")],
         [f"-I FORWARD 2 {OURS[0]}", f"-I FORWARD 3 {OURS[1]}"]),
        ([forward(policy="DROP", program="ip6tables-legacy")], []),
        ([forward("-j DOCKER-USER", "-j B9-FORWARD", policy="DROP"), user("-j RETURN")], []),
    ],
)  # fmt: skip
def test_an_accept_goes_where_others_have_had_their_say(chains: list[ForwardChain], lines: list[str]) -> None:
    """Without IPv6, where its table needs none."""
    found = missing_accepts(chains, "b9_br0", ipv6=False)
    assert [line for placement in found for line in placement.lines] == lines
    six = missing_accepts([msg for msg in chains if msg.program.startswith("ip6")], "b9_br0", ipv6=True)
    assert len(six) == sum(chain.program.startswith("ip6") for chain in chains)


def test_no_accept_stays_in_a_table_that_holds_the_wall() -> None:
    wall, theirs = forward("-j DOCKER-USER", "-j B9-FORWARD"), user(OURS[0], "-j RETURN")
    elsewhere = forward(*OURS, policy="DROP", program="iptables-legacy")
    assert stray_accepts([wall, theirs, elsewhere]) == [("iptables-nft", [f"-D DOCKER-USER {OURS[0]}"])]
    assert stray_accepts([forward(*OURS, policy="DROP"), theirs]) == []


@pytest.mark.parametrize(
    "rule",
    [
        "-s 192.168.0.7/32 -m comment --comment cellwall-quarantine -j DROP",
        "-s 192.168.0.7/32 -m comment --comment cellwall -j DROP",
        "-i b9_br0 -m comment --comment cellwall -j ACCEPT",
        f"-s 192.168.0.7/32 {OURS[0]}",
    ],
)
def test_a_rule_of_others_is_none_of_ours_whatever_its_comment_says(rule: str) -> None:
    assert stray_accepts([forward("-j DOCKER-USER", "-j B9-FORWARD"), user(rule, *OURS)]) == [
        ("iptables-nft", [f"-D DOCKER-USER {ours}" for ours in OURS])
    ]
