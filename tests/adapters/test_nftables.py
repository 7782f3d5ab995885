"""Loading text, and the digest of what the kernel then holds."""

import errno
import socket
from collections.abc import Iterator

import pytest

from cellwall.adapters.nftables.tables import NftRules
from cellwall.errors import KernelError

from .conftest import Namespace

pytestmark = pytest.mark.root

TEXT = """\
table inet cellwall {
 set floor4 { type ipv4_addr; flags interval; elements = { 9.0.0.0/8, 11.0.0.0/8 } }
 set opened4 { type ipv4_addr . inet_proto . inet_service; elements = { 9.0.0.1 . tcp . 80, 9.0.0.2 . udp . 53 } }
 set sources { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
 map marks { type ipv4_addr : mark; }
 set rated { type ipv4_addr; size 1024; flags dynamic,timeout; timeout 1m; }
 chain output {
  type filter hook output priority 0; policy accept;
  udp dport { 1001, 1002 } counter jump inner
  ip saddr @sources drop comment "why"
  tcp dport vmap { 22 : accept, 23 : drop }
 }
 chain inner {
  counter accept
  meta l4proto udp add @rated { ip saddr limit rate over 10/second } drop
 }
}
table bridge cellwall {
 chain pre {
  type filter hook prerouting priority -500
  counter accept
 }
}
table arp cellwall {
 chain in {
  type filter hook input priority 0
  counter accept
 }
}
"""
AGAIN = "".join(f"delete table {family} cellwall\n" for family in ("inet", "bridge", "arp")) + TEXT


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    with NftRules() as rules:
        yield rules


def test_load_is_one_transaction(rules: NftRules, node: Namespace) -> None:
    with pytest.raises(KernelError):
        rules.load(TEXT + "delete table inet nothing\n")
    assert node.run("nft list ruleset") == ""


@pytest.mark.parametrize(
    ("text", "number", "line"),
    [
        ("table inet cellwall {\n chain a {\n  frobnicate\n }\n}\n", errno.EINVAL, 'line 3: "frobnicate"'),
        ("table inet cellwall {\n chain a {\n  ip saddr @no drop\n }\n}\n", errno.ENOENT, "line 3: "),
        ("delete table inet nothing\n", errno.ENOENT, "line 1: "),
        (TEXT.replace("counter accept", "goto output"), errno.EOPNOTSUPP, 'line 14: "goto output"'),
    ],
    ids=["syntax", "set", "table", "jump to a base chain"],
)
def test_refused_text_is_shown_by_its_lines(rules: NftRules, text: str, number: int, line: str) -> None:
    with pytest.raises(KernelError) as caught:
        rules.load(text)
    assert caught.value.errno == number
    assert line in caught.value.detail
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- shape


@pytest.fixture
def loaded(rules: NftRules) -> NftRules:
    rules.load(TEXT)
    return rules


def test_shape_is_empty_while_a_table_is_missing(rules: NftRules) -> None:
    assert rules.shape() == ""
    rules.load(TEXT)
    assert rules.shape() != ""
    rules.load("delete table arp cellwall")
    assert rules.shape() == ""


def test_same_text_has_the_same_shape(loaded: NftRules) -> None:
    first = loaded.shape()
    loaded.load(AGAIN)
    assert loaded.shape() == first


@pytest.mark.parametrize(
    "change",
    [
        "add element inet cellwall marks { 1.2.3.4 : 7 }",
        "delete element inet cellwall sources { 10.0.0.0/8 }",
        "table inet other { chain c { type filter hook input priority 0; drop; }; }",
        # The rules written anew into the same table: their anonymous sets get other numbers.
        "flush chain inet cellwall output\nadd rule inet cellwall output udp dport { 1001, 1002 } counter jump inner\n"
        'add rule inet cellwall output ip saddr @sources drop comment "why"\n'
        "add rule inet cellwall output tcp dport vmap { 22 : accept, 23 : drop }",
        "flush set inet cellwall floor4\nadd element inet cellwall floor4 { 11.0.0.0/8, 9.0.0.0/8 }",
        "flush set inet cellwall opened4\nadd element inet cellwall opened4 { 9.0.0.2 . 17 . 53, 9.0.0.1 . tcp . 80 }",
    ],
    ids=["element", "interval element", "foreign table", "rules anew", "floor anew", "openings anew"],
)
def test_what_is_no_rule_of_ours_leaves_the_shape(loaded: NftRules, change: str) -> None:
    first = loaded.shape()
    loaded.load(change)
    assert loaded.shape() == first


def test_counted_packets_leave_the_shape(loaded: NftRules, node: Namespace) -> None:
    first = loaded.shape()
    node.run("ip link set lo up")
    with node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"counted", ("127.0.0.1", 1001))
    assert "packets 1 " in node.run("nft list chain inet cellwall inner")
    assert loaded.shape() == first


@pytest.mark.parametrize(
    "replacement",
    [
        ("1001, 1002 }", "1001, 1003 }"),
        ("23 : drop", "23 : accept"),
        ("@sources drop", "@sources accept"),
        ("jump inner", "goto inner"),
        ("output priority 0; policy accept", "output priority 0; policy drop"),
        ("output priority 0", "output priority 10"),
        ("prerouting priority -500", "prerouting priority -499"),
        ("rate over 10/second", "rate over 11/second"),
        ('"why"', '"who"'),
        ("size 1024", "size 1025"),
        ("timeout 1m", "timeout 2m"),
        ("map marks { type ipv4_addr : mark; }", "map marks { type ipv6_addr : mark; }"),
        ("tcp dport vmap", "udp dport vmap"),
        ("9.0.0.0/8, ", ""),
        ("11.0.0.0/8", "11.0.0.0/9"),
        (" elements = { 9.0.0.0/8, 11.0.0.0/8 }", ""),
        ("9.0.0.2 . udp . 53", "9.0.0.2 . tcp . 53"),
        (" chain inner {\n", " chain spare { }\n chain inner {\n"),
        ("  counter accept\n", ""),
        ("hook input priority 0\n  counter accept", "hook input priority 0\n"),
    ],
    ids=lambda pair: pair[1].strip(),
)
def test_every_change_of_a_rule_changes_the_shape(loaded: NftRules, replacement: tuple[str, str]) -> None:
    first = loaded.shape()
    changed = AGAIN.replace(*replacement)
    assert changed != AGAIN
    loaded.load(changed)
    assert loaded.shape() not in ("", first)


def test_a_table_that_sleeps_has_another_shape(loaded: NftRules) -> None:
    """Its chains stand, and no packet meets them."""
    first = loaded.shape()
    loaded.load("table inet cellwall { flags dormant; }")
    assert loaded.shape() not in ("", first)
    loaded.load("table inet cellwall")
    assert loaded.shape() == first
