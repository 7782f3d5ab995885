"""An endpoint and its port bindings as set and map elements: all that an attach adds to the kernel's rules.

Hot path: plain ints, no text, no look at any other endpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from ipaddress import collapse_addresses
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, overload

from cellwall.compile.usage import ExposureForm, interval_range
from cellwall.lower.nft.families import FAMILIES, Family
from cellwall.lower.nft.sets import by_protocol, exposed_set, proxied_set
from cellwall.model.addresses import PROTOCOL_NUMBERS, Address, Prefix
from cellwall.model.endpoint import Endpoint, PortBinding
from cellwall.model.policy import NO_TIERS, Tiers
from cellwall.model.versions import stems, tenant_label
from cellwall.names import TABLE
from cellwall.ruleset.types import Element, ElementChange, Interval, TableFamily

if TYPE_CHECKING:
    from cellwall.ruleset.elements import Bundle, BundleChange, Change

Owned = tuple[TableFamily, str, Element]
"""An element with the table family and the set it belongs to."""
Listed = tuple[TableFamily, str, "Bundle"]
"""The same of many in one set."""
_Lists = Callable[[Tiers, Tiers, int, Family], "Iterator[tuple[str, Bundle]]"]


def endpoint_elements(endpoint: Endpoint) -> Iterator[Owned]:
    """Everything the kernel's sets hold of one endpoint, its bindings included, one by one."""
    yield from single_elements(endpoint)
    for family, name, bundle in endpoint_lists(endpoint):
        for element in bundle.elements():
            yield family, name, element


def endpoint_content(endpoint: Endpoint) -> "Iterator[Owned | Listed]":
    """The same, as it is laid."""
    yield from single_elements(endpoint)
    yield from endpoint_lists(endpoint)


def differing_content(before: Endpoint, after: Endpoint) -> "tuple[list[Owned | Listed], list[Owned | Listed]]":
    """What the kernel's sets hold of the one and not of the other, of each. A claim changes whose an endpoint is, and a
    policy what it may: only what is made of that is made and compared."""
    made = [make for make, read in _PARTS if read(before) != read(after)]
    gone, come = ([owned for make in made for owned in make(endpoint)] for endpoint in (before, after))
    kept = set(gone).intersection(come)
    left, right = _differing_lists(before, after)
    return (
        [*(owned for owned in gone if owned not in kept), *left],
        [*(owned for owned in come if owned not in kept), *right],
    )


def _differing_lists(before: Endpoint, after: Endpoint) -> tuple[list[Listed], list[Listed]]:
    if (_policies(before), _where(before)) == (_policies(after), _where(after)):
        return [], []
    from cellwall.lower.nft.policies import lists_alone  # see below

    return [*_lists_beside(before, after, lists_alone)], [*_lists_beside(after, before, lists_alone)]


def kept_lists(before: Endpoint, after: Endpoint) -> Iterator[Listed]:
    """What the policies of both list: what a change of the one to the other leaves alone."""
    from cellwall.lower.nft.policies import shared_lists  # see below

    return _lists_beside(after, before, shared_lists)


def _lists_beside(endpoint: Endpoint, other: Endpoint, lists: "_Lists") -> Iterator[Listed]:
    """What `lists` makes of the policies of an endpoint beside those of the other one."""
    others = [address for _, address in _addresses(other)]
    for family, address in _addresses(endpoint):
        beside = other.tiers if address in others else NO_TIERS
        for name, bundle in lists(endpoint.tiers, beside, int(address), family):
            yield "inet", name, bundle


def endpoint_lists(endpoint: Endpoint) -> Iterator[Listed]:
    """What the policies of an endpoint list: nearly all elements of a node, where there are such."""
    if endpoint.tiers != NO_TIERS:
        # here and not above: most endpoints have no policy
        from cellwall.lower.nft.policies import policy_lists

        for family, address in _addresses(endpoint):
            for name, bundle in policy_lists(endpoint.tiers, int(address), family):
                yield "inet", name, bundle


def single_elements(endpoint: Endpoint) -> Iterator[Owned]:
    """The others, of which each endpoint has a few."""
    yield from _link_elements(endpoint)
    yield from tenant_elements(endpoint)
    yield from _published_elements(endpoint)
    yield from _policy_elements(endpoint)


def _link_elements(endpoint: Endpoint) -> Iterator[Owned]:
    yield "bridge", "ports", Element((endpoint.host_index,))
    yield "inet", "live", Element((endpoint.generation,))
    for family, address in _addresses(endpoint):
        own = int(address)
        yield "bridge", "pin" + family.suffix, Element((endpoint.host_index, endpoint.mac, own))
        yield "inet", "version" + family.suffix, Element((own,), (endpoint.generation,))
        for stem in stems((*endpoint.past_generations, endpoint.generation)):
            yield "inet", "kin" + family.suffix, Element((stem, own))


def tenant_elements(endpoint: Endpoint) -> Iterator[Owned]:
    """None of a sandbox that stands ready: it is nobody's, and a claim adds what it would else replace as well."""
    if endpoint.key.pooled:
        return
    label = tenant_label(endpoint.tenant_number)
    for family, address in _addresses(endpoint):
        yield "inet", "tenant" + family.suffix, Element((int(address),), (label,))


def _published_elements(endpoint: Endpoint) -> Iterator[Owned]:
    for binding in endpoint.bindings:
        yield from binding_elements(endpoint, binding)


def _policy_elements(endpoint: Endpoint) -> Iterator[Owned]:
    if endpoint.tiers != NO_TIERS:
        from cellwall.lower.nft.policies import policy_elements

        for family, address in _addresses(endpoint):
            for name, element in policy_elements(endpoint.tiers, int(address), family):
                yield "inet", name, element


_WHERE = ("address4", "address6")
_where = attrgetter(*_WHERE)


def _policies(endpoint: Endpoint) -> tuple[int, int, int]:
    """Which these are: to compare a thousand rules takes longer than to make what differs."""
    tiers = endpoint.tiers
    return id(tiers.tenant), id(tiers.endpoint), tiers.number


_PARTS: tuple[tuple[Callable[[Endpoint], Iterator[Owned]], Callable[[Endpoint], object]], ...] = (
    (_link_elements, attrgetter("host_index", "mac", "generation", "past_generations", *_WHERE)),
    (tenant_elements, attrgetter("tenant_number", "key.pooled", *_WHERE)),
    (_published_elements, attrgetter("bindings", *_WHERE)),
    (_policy_elements, lambda endpoint: (_policies(endpoint), _where(endpoint))),
)
"""The single elements of an endpoint in parts, with what each is made of."""


def binding_elements(endpoint: Endpoint, binding: PortBinding) -> Iterator[Owned]:
    """The elements of one binding, in each family that the endpoint, the bind address and the clients share. What a
    proxy serves is led nowhere: it is the node's own port."""
    if binding.proxy:
        yield _proxied_element(binding)
    for family, address in _addresses(endpoint):
        if family.version == binding.proxy or (binding.bind is not None and not family.holds(binding.bind)):
            continue
        sources = [source for source in binding.sources if source.version == family.version]
        if binding.sources and not sources:
            continue
        own = int(address)
        if interval_range(binding):
            yield from _range_elements(family, own, binding, sources)
        else:
            yield from _port_elements(family, own, binding, sources)


@overload
def changes(
    op: Literal["add", "delete"], elements: Iterable[Owned], table: str = TABLE
) -> tuple[ElementChange, ...]: ...
@overload
def changes(
    op: Literal["add", "delete"], elements: "Iterable[Owned | Listed]", table: str = TABLE
) -> "tuple[Change, ...]": ...
def changes(
    op: Literal["add", "delete"], elements: "Iterable[Owned | Listed]", table: str = TABLE
) -> "tuple[Change, ...]":
    """Elements as changes of our table."""
    return tuple(
        ElementChange(op, family, table, name, content)
        if isinstance(content, Element)
        else _of_many(op, family, table, name, content)
        for family, name, content in elements
    )


def _of_many(
    op: Literal["add", "delete"], family: TableFamily, table: str, name: str, bundle: "Bundle"
) -> "BundleChange":
    from cellwall.ruleset.elements import BundleChange  # see above

    return BundleChange(op, family, table, name, bundle)


def _addresses(endpoint: Endpoint) -> Iterator[tuple[Family, Address]]:
    yield FAMILIES[0], endpoint.address4
    if endpoint.address6 is not None:
        yield FAMILIES[1], endpoint.address6


def _port_elements(family: Family, own: int, binding: PortBinding, sources: list[Prefix]) -> Iterator[Owned]:
    name, protocol = binding.protocol, PROTOCOL_NUMBERS[binding.protocol]
    for offset in range(binding.last - binding.host_port + 1):
        host, port = binding.host_port + offset, binding.port + offset
        at = () if binding.bind is None else (int(binding.bind),)
        publish = "publishto" if at else "publish"
        yield "inet", publish + family.suffix, Element((*at, protocol, host), (own, port))
        if not sources:
            held = exposed_set(ExposureForm("any", bound=bool(at)), family, name)
            yield "inet", held, Element((own, protocol, port, host, *at))
        for source in dict.fromkeys(sources):
            form = ExposureForm("source", family.version, source.prefixlen, bool(at))
            key = (port, host, *at, int(source.network_address))
            key = (own, *key) if by_protocol(form) else (own, protocol, *key)
            yield "inet", exposed_set(form, family, name), Element(key)


def _proxied_element(binding: PortBinding) -> Owned:
    family = next(family for family in FAMILIES if family.version == binding.proxy)
    at = () if binding.bind is None else (int(binding.bind),)
    return "inet", proxied_set(family, bound=bool(at)), Element((*at, binding.host_port))


def _range_elements(family: Family, own: int, binding: PortBinding, sources: list[Prefix]) -> Iterator[Owned]:
    protocol = PROTOCOL_NUMBERS[binding.protocol]
    ports = Interval(binding.host_port, binding.last)
    bind = Interval(0, (1 << family.bits) - 1) if binding.bind is None else int(binding.bind)
    yield "inet", "publishrange" + family.suffix, Element((bind, protocol, ports), (own,))
    if not sources:
        yield "inet", "exposedrange" + family.suffix, Element((own, protocol, ports, ports, bind))
    for source in collapse_addresses(sources):  # type: ignore[type-var]  # one family; overlaps are refused: EEXIST
        first, final = int(source.network_address), int(source.broadcast_address)
        # An interval of one value is read back as that value, and would look like another element.
        clients = first if first == final else Interval(first, final)
        held = exposed_set(ExposureForm("source-range"), family, binding.protocol)
        yield "inet", held, Element((own, ports, ports, bind, clients))
