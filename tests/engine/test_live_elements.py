"""Whether elements are in force, asked of the kernel: one by one, or by reading what there is."""

from collections.abc import Iterator, Sequence

import pytest

from cellwall.compile.usage import usage_of_endpoints
from cellwall.engine.backend import Backend, Wanted
from cellwall.engine.nftables.contracts import Rules
from cellwall.engine.nftables.live import missing
from cellwall.model.settings import Settings
from cellwall.ruleset.types import ElementChange, Interval
from engine.test_backends import PUBLISHED, endpoint, lay
from world import World, Wrapped, open_world

pytestmark = pytest.mark.root
MANY = [endpoint(number) for number in range(10, 100)]
ANSWERS = 256 // 2


@pytest.fixture(scope="module")
def node() -> Iterator[World]:
    with open_world(settings=Settings(backend="nftables"), up=False) as world:
        yield world


@pytest.fixture(scope="module")
def backend(node: World) -> Iterator[Backend]:
    site = node.wall._site
    wanted = Wanted(site.settings, site.node.observe(), usage_of_endpoints([PUBLISHED]), "eth0")
    mechanism = site.mechanism("nftables")
    lay(mechanism, wanted)
    mechanism.change((), [PUBLISHED, *MANY])
    yield mechanism
    mechanism.remove(wanted)


def asked(node: World) -> tuple[Rules, list[int]]:
    """Rules that note how many elements they were asked for at once; of a range there is no answer."""
    rules, numbers = node.wall._site.rules, list[int]()

    def holds(elements: Sequence[ElementChange]) -> bool:
        assert not any(isinstance(part, Interval) for one in elements for part in one.element.key)
        numbers.append(len(elements))
        return rules.holds(elements)

    return Wrapped(rules, holds=holds), numbers  # type: ignore[return-value]


def test_of_few_endpoints_each_element_is_asked_for(node: World, backend: Backend) -> None:
    rules, numbers = asked(node)
    assert missing(rules, MANY[:3]) == ()
    assert len(numbers) == 1
    assert len(missing(rules, [MANY[0], endpoint(200)])) == len(missing(rules, [endpoint(200)])) > 0


def test_what_is_asked_for_at_once_has_room_in_half_a_receive_buffer(node: World, backend: Backend) -> None:
    rules, numbers = asked(node)
    for count in range(1, len(MANY)):
        assert missing(rules, MANY[:count]) == ()
    assert 50 < max(numbers) <= ANSWERS


def test_ranges_are_read_and_not_asked_for(node: World, backend: Backend) -> None:
    rules, numbers = asked(node)
    assert missing(rules, [PUBLISHED]) == ()
    assert numbers == []


@pytest.mark.parametrize("place", ["inet cellwall live", "inet cellwall version4", "bridge cellwall ports"])
def test_an_element_that_any_key_is_in_opens_everything_and_is_drift(node: World, backend: Backend, place: str) -> None:
    attached = [PUBLISHED, *MANY]
    family, _, name = place.split()
    node.lab.node.run(["nft", "add", "element", *place.split(), f"{{ *{' : 5' if name == 'version4' else ''} }}"])
    line = f"unknown element in {family} {name}: *"
    assert backend.drift(attached) == (line,)
    assert backend.repair(attached) == (line,)
    assert backend.drift(attached) == ()
