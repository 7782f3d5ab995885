"""What a set holds against what it should: the same whether it is told by bytes or by values."""

import random
from collections.abc import Iterator

import pytest

from cellwall.adapters.netlink.sockets import Message, Netlink, Reply
from cellwall.adapters.nftables.elements import SetKey, as_listed
from cellwall.adapters.nftables.set_contents import read_set
from cellwall.adapters.nftables.tables import NftRules
from cellwall.errors import KernelError
from cellwall.ruleset.elements import Bundle
from cellwall.ruleset.types import Element, ElementChange, Interval

from .conftest import Namespace
from .test_elements import BY_NAME, SETS, add, sets_text

pytestmark = pytest.mark.root
SAMPLES: dict[str, list[Element]] = {
    "pin6": [Element((number, 0x0A58 << 32 | number, number << 100)) for number in range(1, 100)],
    "one_ether_addr": [Element((number << 20,)) for number in range(1, 100)],
    "one_inet_proto": [Element((number,)) for number in range(1, 100)],
    "publish6": [Element((6, number), (number << 90, 80)) for number in range(1, 100)],
    "ranges": [Element((number, 6, Interval(number, number + 9)), (number,)) for number in range(1, 100)],
}


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    with NftRules({("inet", "cellwall", entry.name): entry for entry in SETS}) as rules:
        rules.load(sets_text("inet"))
        yield rules


def put(rules: NftRules, name: str, elements: list[Element]) -> None:
    rules.apply([ElementChange("add", "inet", "cellwall", name, one) for one in elements])


@pytest.mark.parametrize("name", SAMPLES)
def test_what_should_be_there_is_written_as_this_kernel_lists_it(rules: NftRules, name: str) -> None:
    put(rules, name, SAMPLES[name])
    listed = read_set(rules._netfilter, ("inet", "cellwall", name))
    assert listed == {as_listed(one, BY_NAME[name]) for one in SAMPLES[name]}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_differs_is_found(rules: NftRules, name: str) -> None:
    where, chosen = ("inet", "cellwall", name), random.Random(1)
    both = [one for one in SAMPLES[name] if chosen.random() < 0.8]
    lacking = [one for one in SAMPLES[name] if one not in both]
    live, wanted = both[3:] + lacking, both
    put(rules, name, live)
    missing, surplus = rules.difference(where, wanted)
    assert missing == {(one.key, one.data) for one in both[:3]}
    assert surplus == {(one.key, one.data) for one in lacking}
    assert rules.difference(where, wanted, beyond=False) == (missing, frozenset())
    assert rules.difference(where, live) == (frozenset(), frozenset())


def test_other_data_is_a_difference(rules: NftRules) -> None:
    put(rules, "generation", [Element((1,), (7,))])
    found = rules.difference(("inet", "cellwall", "generation"), [Element((1,), (8,))])
    assert found == ({((1,), (8,))}, {((1,), (7,))})


def test_ranges_that_have_a_set_to_themselves_are_compared_as_ranges(rules: NftRules) -> None:
    rules.load("add element inet cellwall floor4 { 10.0.0.0/8, 192.168.0.1 }")
    ten, one = Element((Interval(10 << 24, (11 << 24) - 1),)), Element((0xC0A80001,))
    assert rules.difference(("inet", "cellwall", "floor4"), [ten, one]) == (frozenset(), frozenset())
    assert rules.difference(("inet", "cellwall", "floor4"), [ten]) == (frozenset(), {(one.key, ())})


@pytest.mark.parametrize(("name", "data"), [("live", ()), ("generation", (7,)), ("pin6", ())])
def test_an_element_that_any_key_is_in_is_found_and_goes(rules: NftRules, name: str, data: tuple[int, ...]) -> None:
    where: SetKey = ("inet", "cellwall", name)
    rules.load(f"add element inet cellwall {name} {{ *{' : 7' if data else ''} }}")
    assert rules.difference(where, ()) == (frozenset(), {((), data)})
    rules.apply([ElementChange("delete", *where, Element((), data))])
    assert rules.difference(where, ()) == (frozenset(), frozenset())


def test_a_bundle_is_its_elements(rules: NftRules) -> None:
    rest = tuple((0x0A58 << 32 | number, number << 100) for number in range(1, 100))
    bundles = [Bundle(first, rest) for first in (1, 2)]
    put(rules, "pin6", [one for bundle in bundles for one in bundle.elements()])
    where = ("inet", "cellwall", "pin6")
    assert rules.difference(where, (), bundles) == (frozenset(), frozenset())
    assert rules.difference(where, (), bundles[:1])[1] == {(one.key, ()) for one in bundles[1].elements()}
    assert rules.difference(where, (), [*bundles, Bundle(3, rest[:1])])[0] == {((3, *rest[0]), ())}


class Moving(Netlink):
    """The kernel, whose first `times` dumps list some elements twice and others not at all, as one does of a hash table
    that grew meanwhile."""

    def __init__(self, times: int) -> None:
        super().__init__(12, send_buffer=1 << 20)
        self.times = times

    def dump(self, message: Message, operation: str) -> list[Reply]:
        replies = super().dump(message, operation)
        self.times -= 1
        return [*replies[:-1], replies[0]] if self.times >= 0 else replies


@pytest.mark.parametrize("times", [1, 3])
def test_a_set_that_grew_while_it_was_read_is_read_again(rules: NftRules, node: Namespace, times: int) -> None:
    rules.apply([add("live", number) for number in range(1, 5000)])
    with node.entered(), Moving(times) as moving:
        assert len(read_set(moving, ("inet", "cellwall", "live"))) == 4999
        assert moving.times == -1


def test_one_that_grows_on_and_on_is_no_answer(rules: NftRules, node: Namespace) -> None:
    rules.apply([add("live", number) for number in range(1, 5000)])
    with node.entered(), Moving(100) as moving, pytest.raises(KernelError, match="never came out whole"):
        read_set(moving, ("inet", "cellwall", "live"))
