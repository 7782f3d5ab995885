"""How large one policy may be, by what it costs others: entries are what the kernel holds for every endpoint under it,
and forms are look-ups of new flows, of which a node has few for everybody. Pure.
"""

from _weakref import ref
from collections.abc import Iterator

import msgspec

from cellwall.compile.policy_forms import Listing, policy_listings
from cellwall.compile.usage import PolicyForm
from cellwall.errors import InvalidSpec
from cellwall.model.policy import Policy, TierName, interned

MAX_ENTRIES = 4096
"""Entries of one policy's lists: a rule is one, and with ports as many as there are blocks of them, up to 30."""

MAX_FORMS_OF_ONE = 64
"""Forms that one policy needs, and those of one tenant and its endpoints together, an eighth of the node's: whoever has
odd ranges of ports at every length of prefixes would leave none to others' tightenings."""


class Size(msgspec.Struct, frozen=True):
    """What a policy costs: its entries, for each endpoint under it, and the forms of its lists."""

    entries: int
    forms: frozenset[PolicyForm]


_known: dict[ref[Policy], dict[TierName, Size]] = {}
"""Those of all endpoints of a tenant are asked for when one more comes, and a policy that nobody has is not kept."""


def _forget(gone: ref[Policy]) -> None:
    _known.pop(gone, None)


def policy_size(tier: TierName, policy: Policy) -> Size:
    """How large it is."""
    policy = interned(policy)  # of several that are equal one stays
    known = _known.get(ref(policy))
    if known is None:
        known = _known[ref(policy, _forget)] = {}
    if tier not in known:
        listings = policy_listings(tier, policy)
        known[tier] = Size(len(listings), frozenset(listing.form for listing in listings))
    return known[tier]


def validate_size(policy: Policy, tier: TierName) -> None:
    """Raise InvalidSpec at the rule or client network with which it grows too large."""
    size = policy_size(tier, policy)
    if size.entries <= MAX_ENTRIES and len(size.forms) <= MAX_FORMS_OF_ONE:
        return
    entries: set[Listing] = set()
    forms: set[PolicyForm] = set()
    for field, value, alone in _parts(policy):
        found = policy_listings.__wrapped__(tier, alone)  # past its cache, which is for whole policies
        entries.update(found)
        if len(entries) > MAX_ENTRIES:
            reason = f"is beyond what a policy may have: {MAX_ENTRIES} entries, one for each network and block of ports"
            raise InvalidSpec(field, value, reason)
        forms.update(listing.form for listing in found)
        if len(forms) > MAX_FORMS_OF_ONE:
            what = "lengths of prefixes, with or without a protocol, and blocks of ports"
            raise InvalidSpec(field, value, f"is beyond what a policy may have: {MAX_FORMS_OF_ONE} forms ({what})")


def _parts(policy: Policy) -> Iterator[tuple[str, str, Policy]]:
    """The place of each rule and client network, its text, and the policy with that one alone."""
    for place, rule in enumerate(policy.rules):
        yield f"rules[{place}]", str(rule), msgspec.structs.replace(policy, rules=(rule,), sources=None)
    for place, source in enumerate(policy.sources or ()):
        yield f"sources[{place}]", str(source), msgspec.structs.replace(policy, rules=(), sources=(source,))
