"""Whether a policy can mean what it says: refused when it is loaded, and not when somebody wonders what it does.

Nothing is refused that means something somewhere: an allowance of which the floor swallows a part holds for the rest,
and a denial of what the floor denies already says so twice.
"""

from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Prefix
from cellwall.model.floor import GLOBAL6, METADATA, SPECIAL_PURPOSE, FloorRange
from cellwall.model.policy import MAIL_PORT, Policy, Rule, TierName, inside
from cellwall.model.settings import Opening, Settings

MAX_RULES = 1000
"""Rules of one policy: each is an element of the kernel's sets for every endpoint under it."""

MAX_SOURCES = 1000

_NOBODY = tuple(
    ip_network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "::ffff:0:0/96", "ff00::/8")
)
"""Where no client has its address: IPv4 that is written as IPv6 comes as IPv4."""


class Ground(msgspec.Struct, frozen=True):
    """What a policy stands on: the ranges that the floor denies, and what the operator opened of them, services of the
    node among that: policies decide over them as over anything else."""

    ranges: tuple[FloorRange, ...]
    openings: tuple[Opening, ...] = ()


def ground_of(settings: Settings, node: Iterable[Prefix]) -> Ground:
    """The floor with the names of its ranges. `node`: the node's own addresses and on-link networks."""
    network = settings.network
    rows = [*SPECIAL_PURPOSE, *METADATA, FloorRange(network.subnet4, "the sandboxes' own network", "network.subnet4")]
    rows.append(FloorRange(network.subnet6, "the sandboxes' own network", "network.subnet6"))
    rows += [FloorRange(prefix, "protected by the operator", "node.protect") for prefix in settings.denied]
    rows += [FloorRange(prefix, "the node's own network", "the node") for prefix in node]
    return Ground(tuple(rows), settings.openings)


def validate_policy(policy: Policy, ground: Ground, tier: TierName) -> None:
    """Raise InvalidSpec for the first thing that cannot be meant, its field a path such as `rules[3].prefix`."""
    if len(policy.rules) > MAX_RULES:
        raise InvalidSpec("rules", len(policy.rules), f"a policy has at most {MAX_RULES} rules")
    if policy.links and tier == "endpoint":
        raise InvalidSpec("links", True, "is for the tenant's policy to say: a link has two ends")
    for place, rule in enumerate(policy.rules):
        _validate_match(rule, f"rules[{place}]")
    _validate_mode(policy)
    _refuse_repetition(policy.rules)
    _refuse_denied(policy.rules)
    _refuse_swallowed(policy.rules, ground)
    if policy.sources is not None:
        _validate_sources(policy.sources)


def _validate_match(rule: Rule, field: str) -> None:
    if rule.ports is None:
        return
    first, last = rule.ports
    shown = f"{first}-{last}"
    if rule.protocol not in ("tcp", "udp"):
        raise InvalidSpec(f"{field}.ports", shown, f"need the protocol tcp or udp: {rule.protocol} has no ports")
    if not (0 <= first <= 65535 and 0 <= last <= 65535):
        raise InvalidSpec(f"{field}.ports", shown, "must be from 0 to 65535")
    if last < first:
        raise InvalidSpec(f"{field}.ports", shown, "ends before it starts")


def _validate_mode(policy: Policy) -> None:
    idle = [(place, rule) for place, rule in enumerate(policy.rules) if policy.mode != "open" or not _only_mail(rule)]
    places = {rule.action: place for place, rule in reversed(idle)}
    if policy.mode == "block" and policy.rules:
        raise InvalidSpec("rules[0]", str(policy.rules[0]), "changes nothing: the mode is block")
    if policy.mode == "open" and "allow" in places:
        place = places["allow"]
        reason = "changes nothing: the mode is open, which allows what it does not deny"
        raise InvalidSpec(f"rules[{place}].action", str(policy.rules[place]), reason)
    some = next((place for place, rule in enumerate(policy.rules) if _only_mail(rule) and rule.prefix.prefixlen), None)
    if policy.mode == "open" and some is not None:
        reason = "would open mail to everybody, as the mode is open: only an allow-list can name one server"
        raise InvalidSpec(f"rules[{some}].prefix", str(policy.rules[some].prefix), reason)
    if policy.mode == "allow" and "allow" not in places:
        raise InvalidSpec("rules", len(policy.rules) or [], "allow nothing; the mode block says so")


def _only_mail(rule: Rule) -> bool:
    """It says something where all is allowed: mail is closed unless it is listed."""
    return rule.lists_mail and rule.ports == (MAIL_PORT, MAIL_PORT)


def _refuse_repetition(rules: tuple[Rule, ...]) -> None:
    seen: dict[Rule, int] = {}
    for place, rule in enumerate(rules):
        if rule in seen:
            raise InvalidSpec(f"rules[{place}]", str(rule), f"is there already: rules[{seen[rule]}]")
        seen[rule] = place


def _refuse_denied(rules: tuple[Rule, ...]) -> None:
    """An allowance that a single denial takes away whole: deny beats allow."""
    denials: dict[tuple[int, int, int], list[int]] = {}
    for place, rule in enumerate(rules):
        if rule.action == "deny":
            denials.setdefault(_key(rule.prefix), []).append(place)
    lengths = sorted({(version, length) for version, length, _ in denials})
    for place, rule in enumerate(rules):
        if rule.action != "allow":
            continue
        for version, length in lengths:
            if version != rule.prefix.version or length > rule.prefix.prefixlen:
                continue
            for other in denials.get(_key(rule.prefix.supernet(new_prefix=length)), ()):
                if rules[other].holds(rule):
                    reason = f"allows nothing: rules[{other}] ({rules[other]}) denies all of it"
                    raise InvalidSpec(f"rules[{place}]", str(rule), reason)


def _key(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, prefix.prefixlen, int(prefix.network_address)


def _refuse_swallowed(rules: tuple[Rule, ...], ground: Ground) -> None:
    if not any(rule.action == "allow" for rule in rules):
        return
    merged = _Merged(row.prefix for row in ground.ranges)
    for place, rule in enumerate(rules):
        if rule.action != "allow" or any(_opens(rule, opening) for opening in ground.openings):
            continue
        if rule.prefix.version == 6 and not rule.prefix.overlaps(GLOBAL6):
            raise InvalidSpec(
                f"rules[{place}].prefix", str(rule.prefix), f"lies outside {GLOBAL6}: the floor denies it"
            )
        swallowed = merged.holding(rule.prefix)
        if swallowed is not None:
            reason = f"lies in {_named(rule.prefix, swallowed, ground)}: the floor denies it"
            raise InvalidSpec(f"rules[{place}].prefix", str(rule.prefix), reason)


class _Merged:
    """Prefixes without overlaps, to ask which of them holds another: a thousand rules ask."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        rows = list(prefixes)
        four = collapse_addresses(row for row in rows if isinstance(row, IPv4Network))
        six = collapse_addresses(row for row in rows if isinstance(row, IPv6Network))
        self._rows: dict[int, list[Prefix]] = {4: list(four), 6: list(six)}
        self._starts = {version: [int(row[0]) for row in rows] for version, rows in self._rows.items()}

    def holding(self, prefix: Prefix) -> Prefix | None:
        at = bisect_right(self._starts[prefix.version], int(prefix.network_address)) - 1
        row = self._rows[prefix.version][at] if at >= 0 else None
        return row if row is not None and inside(prefix, row) else None


def _opens(rule: Rule, opening: Opening) -> bool:
    return rule.covers(opening.address, opening.protocol, opening.port)


def _named(prefix: Prefix, swallowed: Prefix, ground: Ground) -> str:
    """The narrowest named range that holds it; where only several together do, what they are together."""
    rows = [row for row in ground.ranges if inside(prefix, row.prefix)]
    if not rows:
        return str(swallowed)
    row = max(rows, key=lambda row: row.prefix.prefixlen)
    return f"{row.prefix} ({row.name}, {row.source})"


def _validate_sources(sources: tuple[Prefix, ...]) -> None:
    if not sources:
        raise InvalidSpec("sources", "[]", "admit nobody; left out they admit anybody, and a port can be withdrawn")
    if len(sources) > MAX_SOURCES:
        raise InvalidSpec("sources", len(sources), f"a policy has at most {MAX_SOURCES} client networks")
    seen: dict[Prefix, int] = {}
    for place, source in enumerate(sources):
        nobody = next((row for row in _NOBODY if inside(source, row)), None)
        if nobody is not None:
            raise InvalidSpec(f"sources[{place}]", str(source), f"lies in {nobody}, where no client is")
        if source in seen:
            raise InvalidSpec(f"sources[{place}]", str(source), f"is there already: sources[{seen[source]}]")
        seen[source] = place
