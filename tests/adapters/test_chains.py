"""The chains of a table: how many rules each has, and one that drops everything from now on."""

from collections.abc import Iterator

import pytest

from cellwall.adapters.nftables import NftRules

from .conftest import Namespace

pytestmark = pytest.mark.root

TEXT = b"""\
table bridge one {
 chain port { counter accept; counter drop; }
 chain empty { }
}
table bridge two { chain port { counter accept; }; }
table inet one { chain port { counter accept; }; }
"""


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    node.run("nft -f -", input=TEXT)
    with NftRules() as rules:
        yield rules


def test_the_rules_of_each_chain_are_counted(rules: NftRules) -> None:
    assert rules.rule_counts("bridge", "one") == {"port": 2, "empty": 0}
    assert rules.rule_counts("bridge", "two") == {"port": 1}
    assert rules.rule_counts("bridge", "three") == {}


def test_a_table_that_sleeps_has_no_chain(rules: NftRules, node: Namespace) -> None:
    node.run("nft add table bridge one { flags dormant; }")
    assert rules.rule_counts("bridge", "one") == {}


def test_a_chain_drops_everything_instead_of_what_it_has(rules: NftRules, node: Namespace) -> None:
    for _ in range(2):
        assert rules.drop_all("bridge", "one", "port")
        assert node.run("nft list chain bridge one port").split()[-4:] == ["{", "drop", "}", "}"]
    assert rules.rule_counts("bridge", "two") == {"port": 1}
    assert not rules.drop_all("bridge", "one", "gone")
    assert not rules.drop_all("bridge", "three", "port")
