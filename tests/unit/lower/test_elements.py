"""Elements of endpoints: what attach, expose, unexpose and detach add and delete, in sets as a kernel keeps them."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from itertools import combinations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cellwall.compile.usage import PolicyUsage, usage_of
from cellwall.compile.wall import TIME_WAIT
from cellwall.lower.nft.elements import (
    Listed,
    Owned,
    changes,
    differing_content,
    endpoint_content,
    endpoint_elements,
    endpoint_lists,
    kept_lists,
)
from cellwall.lower.nft.sets import LINGERING, inet_definitions, schema_of
from cellwall.model.endpoint import Endpoint, PortBinding, parse_binding
from cellwall.model.policy import NO_TIERS, Policy, Rule, Tiers
from cellwall.names import NODE_SETS
from cellwall.ruleset.elements import Bundle
from cellwall.ruleset.types import ElementChange, Interval
from scene import endpoint

CLIENTS = st.lists(
    st.sampled_from(["93.0.0.0/8", "93.184.0.0/16", "93.184.216.0/24", "93.184.216.20", "94.0.0.0/8", "8.8.8.8"])
    | st.sampled_from(["2a00::/16", "2a00:1::/32", "2a00:1::9", "2a01::/16"]),
    max_size=4,
)
FORMS = ("{0}:80", "{0}:80/udp", "{0}-{1}:{0}", "{0}-{1}:{0}/udp", "{0}-{1}:90", "93.184.216.10:{0}-{1}:{0}")


@st.composite
def bindings(draw: st.DrawFn, owner: int = 0) -> tuple[PortBinding, ...]:
    """Bindings that claim no host port twice, nor another owner's, of every form and with any clients."""
    made = []
    for number in range(draw(st.integers(0, 4))):
        first = 1000 + 100 * owner + 10 * number
        text = draw(st.sampled_from(FORMS)).format(first, first + draw(st.integers(1, 9)))
        clients = draw(CLIENTS)
        if text.startswith("93."):
            clients = [client for client in clients if ":" not in client]
        made.append(parse_binding(f"{text}@{','.join(clients)}" if clients else text))
    return tuple(made)


@st.composite
def endpoints(draw: st.DrawFn) -> list[Endpoint]:
    numbers = draw(st.lists(st.integers(2, 200), unique=True, max_size=4))
    return [
        msgspec.structs.replace(
            endpoint(f"c{number}", number, ipv6=draw(st.booleans()), past=tuple(draw(st.sets(st.integers(1, 99))))),
            bindings=draw(bindings(number)),
        )
        for number in numbers
    ]


class Sets:
    """The sets of a kernel: an add of what overlaps and a delete of what is missing fail the whole transaction."""

    def __init__(self) -> None:
        self.held: set[Owned] = set()

    def apply(self, transaction: Iterable[ElementChange]) -> None:
        for change in transaction:
            owned: Owned = (change.family, change.set, change.element)
            if change.op == "delete":
                self.held.remove(owned)  # ENOENT
            else:
                assert not [other for other in self.held if _clash(owned, other)], "EEXIST"
                self.held.add(owned)


def _clash(one: Owned, other: Owned) -> bool:
    if one[:2] != other[:2] or len(one[2].key) != len(other[2].key):
        return False
    return all(_meet(a, b) for a, b in zip(one[2].key, other[2].key, strict=True))


def _meet(one: object, other: object) -> bool:
    if isinstance(one, Interval) or isinstance(other, Interval):
        (a, b), (c, d) = _bounds(one), _bounds(other)
        return a <= d and c <= b
    return one == other


def _bounds(part: object) -> tuple[int, int]:
    if isinstance(part, Interval):
        return part.low, part.high
    assert isinstance(part, int)
    return part, part


@given(some=endpoints())
def test_what_all_attached_and_detached_leaves_no_element(some: list[Endpoint]) -> None:
    kernel = Sets()
    for one in some:
        kernel.apply(changes("add", list(endpoint_elements(one))))
    for one in reversed(some):
        kernel.apply(changes("delete", list(endpoint_elements(one))))
    assert kernel.held == set()


@given(some=endpoints(), more=bindings())
def test_exposing_and_withdrawing_leads_back_whatever_stands_beside(
    some: list[Endpoint], more: tuple[PortBinding, ...]
) -> None:
    kernel = Sets()
    for one in some:
        bare = msgspec.structs.replace(one, bindings=())
        kernel.apply(changes("add", list(endpoint_elements(bare))))
        before = set(kernel.held)
        for wanted in (one.bindings, more, ()):
            had = kernel.held - before
            own = set(endpoint_elements(msgspec.structs.replace(one, bindings=wanted)))
            kernel.apply(changes("delete", list(had)))
            kernel.apply(changes("add", list(own - before)))
        assert kernel.held == before


RULES = st.lists(
    st.sampled_from(
        [
            Rule(action, ip_network(prefix), protocol, ports)  # type: ignore[arg-type]
            for action in ("allow", "deny")
            for prefix in ("93.0.0.0/8", "93.184.216.20", "2a00:1::/32", "2a00:1::9")
            for protocol, ports in (("any", None), ("tcp", None), ("tcp", (80, 81)), ("udp", (53, 53)))
        ]
    ),
    unique=True,
    max_size=6,
)


@st.composite
def listing_tiers(draw: st.DrawFn) -> Tiers:
    """Policies that list alike, in part or nothing, in either tier."""
    both = [Policy(draw(st.sampled_from(("open", "allow"))), tuple(draw(RULES))) for _ in range(2)]
    return Tiers(both[0], both[1])


CHANGES: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "host_index": st.integers(1, 9),
        "generation": st.integers(1 << 8, 1 << 12),
        "past_generations": st.tuples(st.integers(1 << 8, 1 << 12)),
        "tenant_number": st.integers(1, 1 << 12),
        "bindings": bindings(),
        "tiers": st.sampled_from((NO_TIERS, Tiers(endpoint=Policy("block")), Tiers(Policy(links=True), number=7)))
        | listing_tiers(),
        "address4": st.just(ip_address("192.168.0.250")),
    },
)


def one_by_one(content: Iterable[Owned | Listed]) -> list[Owned]:
    return [
        (family, name, element)
        for family, name, held in content
        for element in (held.elements() if isinstance(held, Bundle) else [held])
    ]


@given(some=endpoints(), was=listing_tiers() | st.just(NO_TIERS), change=CHANGES)
def test_what_one_becomes_differs_from_it_as_all_of_both_do(
    some: list[Endpoint], was: Tiers, change: dict[str, object]
) -> None:
    for bare in some:
        one = msgspec.structs.replace(bare, tiers=was)
        other = msgspec.structs.replace(one, **change)
        before, after = set(endpoint_elements(one)), set(endpoint_elements(other))
        gone, come = map(one_by_one, differing_content(one, other))
        assert (set(gone), set(come)) == (before - after, after - before)
        assert (len(gone), len(come)) == (len(before - after), len(after - before))


@given(some=endpoints(), was=listing_tiers(), now=listing_tiers())
def test_what_a_change_of_policies_leaves_alone_is_what_both_list(some: list[Endpoint], was: Tiers, now: Tiers) -> None:
    for one in some:
        before, after = (msgspec.structs.replace(one, tiers=tiers) for tiers in (was, now))
        kept = one_by_one(kept_lists(before, after))
        listed = [set(one_by_one(endpoint_lists(each))) for each in (before, after)]
        assert set(kept) == listed[0] & listed[1] and len(kept) == len(set(kept))


@given(some=endpoints(), tiers=listing_tiers())
def test_what_is_laid_together_is_what_is_laid_one_by_one(some: list[Endpoint], tiers: Tiers) -> None:
    for bare in some:
        one = msgspec.structs.replace(bare, tiers=tiers)
        assert one_by_one(endpoint_content(one)) == list(endpoint_elements(one))
        assert all(held.rest for _, _, held in endpoint_content(one) if isinstance(held, Bundle))


@given(some=endpoints())
def test_an_element_is_written_as_the_kernel_gives_it_back(some: list[Endpoint]) -> None:
    """An interval of one value comes back as that value: written as an interval it would be drift for ever."""
    for one in some:
        elements = list(endpoint_elements(one))
        assert len(elements) == len(set(elements))
        for part in (part for _, _, element in elements for part in element.key):
            assert not isinstance(part, Interval) or part.low < part.high


@given(some=endpoints())
def test_every_element_has_a_set_of_its_form(some: list[Endpoint]) -> None:
    for one in some:
        schema = schema_of(usage_of(one.bindings))
        for family, name, element in endpoint_elements(one):
            named = schema[family, "cellwall", name]
            assert len(element.key) == len(named.key)
            assert named.interval or not any(isinstance(part, Interval) for part in element.key)


def test_what_has_ended_is_counted_until_it_is_forgotten() -> None:
    assert LINGERING == TIME_WAIT + 1


def test_no_two_endpoints_have_an_element_in_common() -> None:
    texts = ("80:80", "1.2.3.4:81:80", "82:80@1.0.0.0/8", "9000-9009:9000", "9100-9109:9100@1.2.0.0/16")
    crowd = [endpoint(f"c{number}", number, *(_moved(text, number) for text in texts)) for number in (2, 3, 4)]
    for one, other in combinations(crowd, 2):
        assert not set(endpoint_elements(one)) & set(endpoint_elements(other))


def _moved(text: str, number: int) -> str:
    """The same binding by host ports of this endpoint's own."""
    binding = parse_binding(text)
    port = binding.host_port + 100 * number
    last = binding.last + 100 * number if binding.host_port_last else 0
    same = port if not binding.shifted else binding.port
    return str(msgspec.structs.replace(binding, host_port=port, host_port_last=last, port=same)).replace(" from ", "@")


def test_what_is_of_the_rules_shape_is_every_set_that_endpoints_have_no_part_in() -> None:
    """The content of others is compared by itself: what is in neither would be anybody's to change unseen."""
    static = {named.name for named in inet_definitions((), PolicyUsage()) if named.static}
    assert static == NODE_SETS
