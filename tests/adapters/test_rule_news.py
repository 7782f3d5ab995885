"""What is told to who only closes: rules and chains that go, and no element, however many come with them."""

import select
from collections.abc import Iterator

import pytest

from cellwall.adapters import process
from cellwall.adapters.news.rule_news import RuleNews

from .conftest import Namespace

pytestmark = pytest.mark.root

TABLES = """
table inet cellwall { set live { type mark; elements = { 7 }; }; chain forward { counter; }; }
table inet other { set some { type mark; }; chain theirs { }; }
"""


def load(text: str) -> None:
    process.run(["nft", "-f", "-"], input=text.encode())


@pytest.fixture
def news(node: Namespace) -> Iterator[RuleNews]:
    load(TABLES)
    with RuleNews() as made:
        yield made


def elements(count: int) -> str:
    return "".join(f"add element inet cellwall live {{ {100 + number} }}\n" for number in range(count))


@pytest.mark.parametrize("text", [elements(1), elements(10), elements(500), "flush set inet cellwall live"])
def test_elements_wake_nobody(news: RuleNews, text: str) -> None:
    load(text)
    assert not select.select([news], [], [], 0.05)[0]
    assert not news.read()


@pytest.mark.parametrize("taken", ["delete table inet cellwall", "flush chain inet cellwall forward"])
@pytest.mark.parametrize("count", [0, 1, 54, 55, 500])
def test_what_goes_is_told_also_behind_elements_of_the_same_transaction(news: RuleNews, count: int, taken: str) -> None:
    load(elements(count) + taken)
    assert select.select([news], [], [], 5)[0]
    assert news.read()
    assert not news.read()


def test_others_rules_are_read_and_are_nothing(news: RuleNews) -> None:
    load("add rule inet other theirs drop")
    assert select.select([news], [], [], 5)[0]
    assert not news.read()


def test_a_queue_that_overflowed_may_have_lost_anything(node: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellwall.adapters.news.rule_news._QUEUE", 1)
    load(TABLES)
    with RuleNews() as news:
        for _ in range(64):
            load("add rule inet other theirs counter")
        assert news.read()
