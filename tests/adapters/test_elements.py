"""Set elements through the kernel and back, of every type; nft is the witness for what they mean."""

import errno
import random
from collections.abc import Iterator
from typing import Literal

import pytest

from cellwall.adapters.nftables.tables import NftRules
from cellwall.errors import InvalidSpec, KernelError, NotFound, Unsupported
from cellwall.ruleset.elements import Bundle, BundleChange
from cellwall.ruleset.types import (
    Element,
    ElementChange,
    Interval,
    KeyPart,
    KeyType,
    NamedSet,
    Scalar,
    TableFamily,
)

from .conftest import Namespace

pytestmark = pytest.mark.root

SAMPLES: dict[KeyType, tuple[Scalar, str]] = {
    "iface_index": (4711, "4711"),
    "ifname": ("b9h0123456789ab", '"b9h0123456789ab"'),
    "ether_addr": (0x0A58C0A80007, "0a:58:c0:a8:00:07"),
    "ipv4_addr": (0xC0A80007, "192.168.0.7"),
    "ipv6_addr": (0xFD00ABCD << 96 | 7, "fd00:abcd::7"),
    "inet_proto": (17, "udp"),
    "inet_service": (8080, "8080"),
    "mark": (0x01020304, "0x01020304"),
}
SINGLE = [NamedSet(f"one_{kind}", (kind,)) for kind in SAMPLES]
MAPS = [
    NamedSet("generation", ("ipv4_addr",), ("mark",)),
    NamedSet("publish4", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service")),
    NamedSet("publish6", ("inet_proto", "inet_service"), ("ipv6_addr", "inet_service")),
]
SETS = [
    *SINGLE,
    NamedSet("pin4", ("iface_index", "ether_addr", "ipv4_addr")),
    NamedSet("pin6", ("iface_index", "ether_addr", "ipv6_addr")),
    # Five parts: nft itself cannot spell the type of a sixth.
    NamedSet("every", ("ifname", "inet_proto", "mark", "inet_service", "ether_addr")),
    NamedSet("live", ("mark",)),
    *MAPS,
    NamedSet("ranges", ("ipv4_addr", "inet_proto", "inet_service"), ("ipv4_addr",), interval=True),
    NamedSet("floor4", ("ipv4_addr",), interval=True),
]
BY_NAME = {entry.name: entry for entry in SETS}


def sets_text(family: TableFamily) -> str:
    lines = [f"table {family} cellwall {{"]
    for entry in SETS:
        data = f" : {' . '.join(entry.data)}" if entry.data else ""
        flags = "flags interval;" if entry.interval else ""
        word = "map" if entry.data else "set"
        lines.append(f"{word} {entry.name} {{ type {' . '.join(entry.key)}{data}; {flags} }}")
    return "\n".join([*lines, "}", ""])


@pytest.fixture
def rules(node: Namespace) -> Iterator[NftRules]:
    families: tuple[TableFamily, ...] = ("inet", "bridge")
    with NftRules({(family, "cellwall", entry.name): entry for family in families for entry in SETS}) as rules:
        rules.load("".join(map(sets_text, families)))
        yield rules


def add(set_name: str, *key: KeyPart, data: tuple[Scalar, ...] = (), family: TableFamily = "inet") -> ElementChange:
    return ElementChange("add", family, "cellwall", set_name, Element(key, data))


def delete(set_name: str, *key: KeyPart, family: TableFamily = "inet") -> ElementChange:
    return ElementChange("delete", family, "cellwall", set_name, Element(key))


def content(rules: NftRules, set_name: str, family: TableFamily = "inet") -> set[object]:
    return set(rules.elements(family, "cellwall", set_name))


# ---------------------------------------------------------------- meaning


@pytest.mark.parametrize("kind", SAMPLES)
def test_single_value_is_what_nft_shows(rules: NftRules, node: Namespace, kind: KeyType) -> None:
    value, shown = SAMPLES[kind]
    rules.apply([add(f"one_{kind}", value)])
    assert f"elements = {{ {shown} }}" in node.run(f"nft list set inet cellwall one_{kind}")
    assert content(rules, f"one_{kind}") == {((value,), ())}
    rules.apply([delete(f"one_{kind}", value)])
    assert content(rules, f"one_{kind}") == set()


def test_concatenation_is_what_nft_shows(rules: NftRules, node: Namespace) -> None:
    kinds = BY_NAME["every"].key
    key = tuple(SAMPLES[kind][0] for kind in kinds)
    rules.apply([add("every", *key)])
    shown = " . ".join(SAMPLES[kind][1] for kind in kinds)
    assert shown in node.run("nft list set inet cellwall every")
    assert content(rules, "every") == {(key, ())}


@pytest.mark.parametrize(
    ("name", "key", "data", "shown"),
    [
        ("generation", (0xC0A80007,), (77,), "192.168.0.7 : 0x0000004d"),
        ("publish4", (6, 443), (0xC0A80007, 8443), "tcp . 443 : 192.168.0.7 . 8443"),
        ("publish6", (17, 53), (0xFD00ABCD << 96 | 7, 5353), "udp . 53 : fd00:abcd::7 . 5353"),
    ],
)
def test_map_is_what_nft_shows(
    rules: NftRules, node: Namespace, name: str, key: tuple[int, ...], data: tuple[int, ...], shown: str
) -> None:
    rules.apply([add(name, *key, data=data)])
    assert shown in node.run(f"nft list map inet cellwall {name}")
    assert content(rules, name) == {(key, data)}
    rules.apply([delete(name, *key)])
    assert content(rules, name) == set()


def test_range_inside_a_concatenation(rules: NftRules, node: Namespace) -> None:
    ranged = (0xC0A80007, 6, Interval(9000, 9010))
    plain = (0xC0A80008, 6, 9000)
    rules.apply([add("ranges", *ranged, data=(1,)), add("ranges", *plain, data=(2,))])
    assert "192.168.0.7 . tcp . 9000-9010 : 0.0.0.1" in node.run("nft list map inet cellwall ranges")
    assert content(rules, "ranges") == {(ranged, (1,)), (plain, (2,))}
    rules.apply([delete("ranges", *ranged), delete("ranges", *plain)])
    assert content(rules, "ranges") == set()


def test_an_element_that_nft_added_to_a_range_set_can_be_deleted(rules: NftRules, node: Namespace) -> None:
    node.run("nft add element inet cellwall ranges { 192.168.0.8 . tcp . 9000 : 0.0.0.2 }")
    rules.apply([delete("ranges", 0xC0A80008, 6, 9000)])
    assert content(rules, "ranges") == set()


def test_ranges_of_an_interval_set_read_as_closed_ranges(rules: NftRules, node: Namespace) -> None:
    node.run("nft add element inet cellwall floor4 { 0.0.0.0/8, 1.0.0.0/8, 8.8.8.8, 240.0.0.0/4 }")
    found = content(rules, "floor4")
    assert ((0x08080808,), ()) in found
    assert {((Interval(0xF0000000, 0xFFFFFFFF),), ()), ((0x08080808,), ())} <= found
    # nft may or may not merge the two neighbours.
    joined, apart = {Interval(0, 0x01FFFFFF)}, {Interval(0, 0x00FFFFFF), Interval(0x01000000, 0x01FFFFFF)}
    ranges = {part for (part,), _ in rules.elements("inet", "cellwall", "floor4")}
    assert ranges - {Interval(0xF0000000, 0xFFFFFFFF), 0x08080808} in (joined, apart)


def test_random_elements_come_back_as_they_went(rules: NftRules) -> None:
    seeded = random.Random(11)
    wanted = {
        tuple(
            f"if{seeded.randrange(10**9)}" if kind == "ifname" else seeded.randrange(1, 1 << bits)
            for kind, bits in zip(BY_NAME["every"].key, (0, 8, 32, 16, 48), strict=True)
        )
        for _ in range(500)
    }
    rules.apply([add("every", *key) for key in wanted])
    assert content(rules, "every") == {(key, ()) for key in wanted}


# ---------------------------------------------------------------- one transaction, and its refusals


def test_refused_batch_changes_nothing_and_names_the_change(rules: NftRules) -> None:
    rules.apply([add("live", 500)])
    numbers = [*range(1, 400), 500, *range(600, 900)]
    with pytest.raises(KernelError) as caught:
        rules.apply([add("pin4", 3, 4, 5, family="bridge"), *(add("live", number) for number in numbers)])
    assert caught.value.errno == errno.EEXIST
    assert "inet cellwall live { 500 }" in str(caught.value)
    assert content(rules, "live") == {((500,), ())}
    assert content(rules, "pin4", "bridge") == set()


REST = tuple((0x0A58 << 32 | number, number << 100) for number in range(1, 3000))
"""More than one message takes."""


def bundle(op: Literal["add", "delete"], first: int, rest: tuple[tuple[int, ...], ...] = REST) -> BundleChange:
    return BundleChange(op, "inet", "cellwall", "pin6", Bundle(first, rest))


def test_many_at_once_are_as_one_by_one(rules: NftRules) -> None:
    rules.apply([bundle("add", 1), add("pin6", 9, 9, 9), bundle("add", 2, REST[:3])])
    every = {((1, *key), ()) for key in REST} | {((2, *key), ()) for key in REST[:3]}
    assert content(rules, "pin6") == every | {((9, 9, 9), ())}
    rules.apply([bundle("delete", 1), *(delete("pin6", 2, *key) for key in REST[:3]), bundle("add", 1, REST[:1])])
    assert content(rules, "pin6") == {((1, *REST[0]), ()), ((9, 9, 9), ())}


def test_many_of_which_there_are_none_are_nothing(rules: NftRules) -> None:
    rules.apply([bundle("add", 1, ())])
    rules.apply([bundle("add", 1, ()), add("pin6", 9, 9, 9), bundle("add", 2, ())])
    assert content(rules, "pin6") == {((9, 9, 9), ())}


@pytest.mark.parametrize("position", [0, 1, 1499, 2998])
def test_of_many_at_once_the_one_that_is_refused_is_named(rules: NftRules, position: int) -> None:
    refused = (7, *REST[position])
    rules.apply([add("pin6", *refused)])
    with pytest.raises(KernelError) as caught:
        rules.apply([bundle("add", 6), add("pin6", 1, 1, 1), bundle("add", 7), bundle("add", 8)])
    assert caught.value.errno == errno.EEXIST
    assert f"pin6 {{ {' . '.join(map(str, refused))} }}" in str(caught.value)
    assert content(rules, "pin6") == {(refused, ())}


def test_deleting_an_absent_element_says_so(rules: NftRules) -> None:
    with pytest.raises(KernelError) as caught:
        rules.apply([add("live", 1), delete("live", 2)])
    assert caught.value.errno == errno.ENOENT
    assert content(rules, "live") == set()


def test_what_is_held_is_told_without_reading_the_rest(rules: NftRules) -> None:
    wanted = [add("live", 1), add("live", 2), add("generation", 7, data=(9,)), add("pin4", 1, 2, 3)]
    assert not rules.holds(wanted)
    rules.apply([*wanted, *(add("live", number) for number in range(10, 200))])
    assert rules.holds(wanted) and rules.holds([])
    assert not rules.holds([*wanted, add("live", 3)])
    assert not rules.holds([add("generation", 7, data=(8,))]), "another value stands at the key"
    assert rules.holds([add("live", number) for number in range(10, 200)])
    rules.apply([delete("pin4", 1, 2, 3)])
    assert not rules.holds(wanted)
    rules.load("delete table inet cellwall")
    assert not rules.holds(wanted)


def test_missing_table_says_so(rules: NftRules) -> None:
    rules.load("delete table inet cellwall")
    for attempt in (lambda: rules.apply([add("live", 1)]), lambda: rules.elements("inet", "cellwall", "live")):
        with pytest.raises(KernelError) as caught:
            attempt()
        assert caught.value.errno == errno.ENOENT


def test_order_within_a_set_is_kept(rules: NftRules) -> None:
    rules.apply([add("generation", 7, data=(1,))])
    rules.apply(
        [
            delete("generation", 7),
            add("live", 1),
            add("generation", 7, data=(2,)),
            add("generation", 8, data=(3,)),
            delete("generation", 8),
        ]
    )
    assert content(rules, "generation") == {((7,), (2,))}


def test_nothing_to_change_is_no_transaction(rules: NftRules) -> None:
    rules.close()  # nothing can be sent any more
    rules.apply([])
    with pytest.raises(KernelError):
        rules.apply([add("live", 1)])


def test_a_thousand_endpoints_are_one_transaction(rules: NftRules) -> None:
    def endpoint(number: int) -> list[ElementChange]:
        mac, address4, address6 = 0x0A58 << 32 | number, 0xC0A80000 + number, (0xFD00ABCD << 96) + number
        return [
            add("pin4", number, mac, address4, family="bridge"),
            add("pin6", number, mac, address6, family="bridge"),
            add("pin4", number, mac, address4),
            add("pin6", number, mac, address6),
            add("generation", address4, data=(number,)),
            add("live", number),
            add("one_ipv4_addr", address4),
            add("one_ipv6_addr", address6),
            add("publish4", 6, number, data=(address4, 80)),
            add("publish6", 6, number, data=(address6, 80)),
        ]

    changes = [change for number in range(1, 1001) for change in endpoint(number)]
    rules.apply(changes)
    assert len(content(rules, "pin6", "bridge")) == len(content(rules, "publish6")) == 1000
    # The last of ten thousand fails: all of them go.
    rules.apply([delete(change.set, *change.element.key, family=change.family) for change in changes])
    with pytest.raises(KernelError):
        rules.apply([*changes, delete("live", 5000)])
    assert content(rules, "live") == content(rules, "pin4", "bridge") == set()


def test_alternating_changes_outgrow_the_first_send_buffer(rules: NftRules) -> None:
    rules.apply([change for number in range(1, 15_000) for change in (add("live", number), delete("live", number))])
    assert content(rules, "live") == set()


# ---------------------------------------------------------------- refused before the kernel


def test_single_changes_of_an_interval_set_are_unsupported(rules: NftRules) -> None:
    with pytest.raises(Unsupported):
        rules.apply([add("floor4", Interval(1, 2))])


def test_unknown_set_is_not_found(rules: NftRules) -> None:
    with pytest.raises(NotFound):
        rules.apply([add("nothing", 1)])
    with pytest.raises(NotFound):
        rules.elements("inet", "cellwall", "nothing")


@pytest.mark.parametrize(
    "change",
    [
        add("live", 1 << 32),
        add("live", -1),
        add("live", "eth0"),
        add("live", 1, 2),
        add("live", Interval(1, 2)),
        add("generation", 1),
        add("one_ifname", "sixteen-letters!"),
        add("one_inet_service", 65536),
    ],
    ids=str,
)
def test_value_that_does_not_fit_is_refused(rules: NftRules, change: ElementChange) -> None:
    with pytest.raises(InvalidSpec):
        rules.apply([change])
    assert content(rules, "live") == set()
