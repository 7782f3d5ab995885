"""Policies in nftables: the lookups of their predicates, and the elements of an endpoint's."""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from operator import itemgetter
from typing import NamedTuple

from cellwall.compile import wall as w
from cellwall.compile.policy_forms import PORT_BITS, policy_listings, states
from cellwall.compile.policy_words import Fresh, Linked, Listed, MailTransfer, Under
from cellwall.lower.nft.families import FAMILIES, Family
from cellwall.lower.nft.forms import Forms, Lowered, either, fields, match, per_family
from cellwall.lower.nft.sets import listed_set, under_set
from cellwall.model.addresses import PROTOCOL_NUMBERS
from cellwall.model.policy import MAIL_PORT, Policy, TierName, Tiers
from cellwall.ruleset.elements import Bundle
from cellwall.ruleset.types import Element, Field, FieldName, Lookup, StampFlow

_OF_LINKS = 1 << 31
"""Tells what linked flows carry from every policy version (`policy_version`)."""


def policy_elements(tiers: Tiers, own: int, family: Family) -> Iterator[tuple[str, Element]]:
    """(set, element) of the policies of the endpoint whose address of this family is `own`, but for what they list."""
    for tier, policy in tiers.named():
        for what in states(policy):
            yield under_set(tier, what, family), Element((own,))
    if tiers.lists_mail(family.version):
        yield "mail" + family.suffix, Element((own,))
    if tiers.number and tiers.linked_at(IPv4Address(own) if family.version == 4 else IPv6Address(own)):
        number = _OF_LINKS | tiers.number
        yield "group" + family.suffix, Element((own,), (number,))
        yield "linked" + family.suffix, Element((number, own))


def policy_lists(tiers: Tiers, own: int, family: Family) -> Iterator[tuple[str, Bundle]]:
    """(set, elements) of what they list."""
    for tier, policy in tiers.named():
        for name, keys in _keys(tier, policy, family.version):
            yield name, Bundle(own, keys)


def shared_lists(tiers: Tiers, others: Tiers, own: int, family: Family) -> Iterator[tuple[str, Bundle]]:
    """The same of what these `others` list as well."""
    for (tier, policy), (_, other) in zip(tiers.named(), others.named(), strict=True):
        for name, keys in _keys_beside(tier, policy, other, family.version).shared:
            yield name, Bundle(own, keys)


def lists_alone(tiers: Tiers, others: Tiers, own: int, family: Family) -> Iterator[tuple[str, Bundle]]:
    """The same of what these `others` do not list."""
    for (tier, policy), (_, other) in zip(tiers.named(), others.named(), strict=True):
        for name, keys in _keys_beside(tier, policy, other, family.version).alone:
            yield name, Bundle(own, keys)


_Keys = tuple[tuple[str, tuple[tuple[int, ...], ...]], ...]
"""Sets with keys, without the endpoint."""


class _Beside(NamedTuple):
    """What a policy lists and another one does as well, and what that does not."""

    shared: _Keys
    alone: _Keys


@lru_cache(maxsize=32)  # the same for each endpoint of a tenant
def _keys_beside(tier: TierName, policy: Policy, other: Policy, version: int) -> _Beside:
    """Of a family."""
    others = {name: frozenset(keys) for name, keys in _keys(tier, other, version)}
    shared: list[tuple[str, tuple[tuple[int, ...], ...]]] = []
    alone: list[tuple[str, tuple[tuple[int, ...], ...]]] = []
    for name, keys in _keys(tier, policy, version):
        found = others.get(name, frozenset())
        shared.append((name, tuple(key for key in keys if key in found)))
        alone.append((name, tuple(key for key in keys if key not in found)))
    return _Beside(tuple(filter(itemgetter(1), shared)), tuple(filter(itemgetter(1), alone)))


@lru_cache(maxsize=128)  # see `policy_listings`
def _keys(tier: TierName, policy: Policy, version: int) -> _Keys:
    """What a policy lists of a family."""
    family = next(one for one in FAMILIES if one.version == version)
    keys: dict[str, list[tuple[int, ...]]] = {}
    for listing in policy_listings(tier, policy):
        if listing.form.family == version:
            rest = {"any": (), "protocol": (listing.protocol,), "ports": (listing.protocol, listing.port)}
            of_set = keys.setdefault(listed_set(listing.form, family), [])
            of_set.append((listing.network, *rest[listing.form.kind]))
    return tuple((name, tuple(of_set)) for name, of_set in keys.items())


def _fresh(p: Fresh, scene: w.Scene) -> tuple[Lowered, ...]:
    return ((match("ct status", "confirmed", "dnat", negate=True),),)


def _mail(p: MailTransfer, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """The port first: nothing else is asked of other flows."""
    end = fields(family.original_destination, "ct original protocol", "ct original proto-dst")
    opened = (Lookup(end, name + family.suffix, negate=True) for name in ("opened", "services"))
    port = match("ct original proto-dst", MAIL_PORT)
    listed = [Lookup(fields(family.original_source), "mail" + family.suffix, negate=True)] if p.listed else []
    return ((match("meta l4proto", PROTOCOL_NUMBERS["tcp"]), port, *listed, *opened),)


def _linked(p: Linked, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """No key can say that two addresses map to the same: so the flow's mark is set by the one, and looked up with the
    other."""
    number = StampFlow(fields(family.original_source), "group" + family.suffix)
    return ((number, Lookup(fields("ct mark", family.original_destination), "linked" + family.suffix)),)


def _under(p: Under, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    end = family.original_source if p.end == "source" else family.reply_source
    return ((Lookup(fields(end), under_set(p.tier, p.what, family), p.negate),),)


def _listed(p: Listed, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """What a packet says itself costs less than half of what its flow is asked for."""
    form = p.form
    protocol: FieldName = "meta l4proto" if p.fresh else "ct original protocol"
    port: FieldName = "th dport" if p.fresh else "ct original proto-dst"
    own, other = family.original_source, family.original_destination
    if form.list == "clients":
        own, other = family.reply_source, family.original_source
    elif p.fresh:
        own, other = family.source, family.destination
    key = [Field(own), _first_bits(other, form.prefixlen, family.bits)]
    if form.kind != "any":
        key.append(Field(protocol))
    if form.kind == "ports":
        key.append(_first_bits(port, form.port_bits, PORT_BITS))
    return ((Lookup(tuple(key), listed_set(form, family)),),)


def _first_bits(name: FieldName, length: int, bits: int) -> Field:
    return Field(name) if length == bits else Field(name, ((1 << length) - 1) << (bits - length))


def _family_of(p: Listed) -> frozenset[int]:
    return frozenset({p.form.family})


POLICIES: Forms = {
    Fresh: either(_fresh),
    MailTransfer: per_family(_mail),
    Linked: per_family(_linked),
    Under: per_family(_under),
    Listed: per_family(_listed, _family_of),
}
