"""A policy as a document: what a file, a request and a record say, whatever carries them.

    {"version": 1, "mode": "allow", "sources": ["203.0.113.0/24"] or null, "links": false, "monitor": false,
     "rules": [{"action": "allow", "prefix": "93.184.216.0/24", "protocol": "tcp", "ports": 443 or "8000-8100"}],
     "exceptions": ["resolver"]}

Everything may be left out: an empty document is the open policy. `exceptions` name openings that the operator made in
the floor, or services of the node: they are allowances, of whatever addresses these have when the policy is set. Names
that other platforms use are accepted in place of these: `block_network`, `allow_list`, `outbound_cidr_allowlist`,
`inbound_cidr_allowlist`. Errors name their place as a JSON pointer (RFC 6901) into what was written. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any, Literal, cast, get_args

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Prefix, is_number, parse_prefix
from cellwall.model.identifiers import parse_label
from cellwall.model.policy import Action, Mode, Policy, Rule, RuleProtocol
from cellwall.model.settings import Opening

VERSION = 1

_FIELDS = ("version", "mode", "rules", "exceptions", "sources", "links", "monitor")
_ALIASES = ("block_network", "allow_list", "outbound_cidr_allowlist", "inbound_cidr_allowlist")
_OF_RULE = ("action", "prefix", "protocol", "ports")


class Written(msgspec.Struct, frozen=True):
    """A policy, and where its parts were written under another name, as (ours, pointer); None: it was no document.
    `exceptions`: openings of the node by their names, which are allowances once it is known what these are."""

    policy: Policy
    places: tuple[tuple[str, str], ...] | None = None
    exceptions: tuple[str, ...] = ()

    def resolved(self, openings: Iterable[Opening]) -> "Written":
        """With an allowance for each opening of these names; InvalidSpec for a name that no opening has."""
        known: dict[str, list[Rule]] = {}
        for row in openings:
            rule = Rule("allow", ip_network(row.address), row.protocol, (row.port, row.port))
            known.setdefault(row.name, []).append(rule)
        rules, places = list(self.policy.rules), list(self.places or ())
        for number, name in enumerate(self.exceptions):
            at = f"/exceptions/{number}"
            if name not in known:
                raise InvalidSpec(
                    at, name, f"is no opening of this node, which has {', '.join(sorted(known)) or 'none'}"
                )
            for rule in known[name]:
                if rule not in rules:
                    places.append((f"rules[{len(rules)}]", at))
                    rules.append(rule)
        policy = msgspec.structs.replace(self.policy, rules=tuple(rules))
        return Written(policy, None if self.places is None else tuple(places))

    def located(self, error: InvalidSpec) -> InvalidSpec:
        """The same refusal (`rules[3].prefix`), its field a JSON pointer into what was written."""
        if self.places is None:
            return error
        head, bracket, rest = error.field.partition("[")
        number, _, part = rest.partition("]")
        places = dict(self.places)
        if f"{head}[{number}]" in places:
            return InvalidSpec(places[f"{head}[{number}]"], error.value, error.reason)
        place = places.get(head)
        entry = f"/{number}" if bracket else ""
        if place is None:
            return InvalidSpec(f"/{head}{entry}{part.replace('.', '/')}", error.value, error.reason)
        return InvalidSpec(f"{place}{entry}", error.value, error.reason)

    @contextmanager
    def locating(self) -> Iterator[None]:
        """Refusals of the block with their places in what was written."""
        try:
            yield
        except InvalidSpec as error:
            raise self.located(error) from error


def parse_policy(document: object) -> Written:
    """The policy of a document, not yet judged. Raises InvalidSpec, its field a JSON pointer."""
    fields = _mapping(document, "")
    for name in fields:
        if name not in (*_FIELDS, *_ALIASES):
            raise InvalidSpec(f"/{_escaped(name)}", fields[name], f"is none of {', '.join(_FIELDS)}")
    version = fields.get("version")
    if version is not None and (version != VERSION or isinstance(version, bool)):
        raise InvalidSpec("/version", version, f"this program reads version {VERSION}")
    places: dict[str, str] = {}
    mode, rules = _outbound(fields, places)
    policy = Policy(
        mode=mode,
        rules=rules,
        sources=_inbound(fields, places),
        links=_boolean(fields, "links"),
        monitor=_boolean(fields, "monitor"),
    )
    return Written(policy, tuple(places.items()), _exceptions(fields.get("exceptions")))


def policy_document(policy: Policy) -> dict[str, object]:
    """The document of a policy: `parse_policy` gives it back."""
    return {
        "version": VERSION,
        "mode": policy.mode,
        "rules": [_rule_document(rule) for rule in policy.rules],
        "sources": None if policy.sources is None else [str(source) for source in policy.sources],
        "links": policy.links,
        "monitor": policy.monitor,
    }


def merge_patch(target: object, patch: object) -> object:
    """What a JSON merge patch makes of a document (RFC 7396): null takes a member away, arrays are replaced whole.
    Neither argument is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def patched(policy: Policy, patch: object) -> Written:
    """A policy with a merge patch over its document. One of another platform's names stands for ours, and takes the
    place of what was there. A policy's document has none of theirs, so null of one takes nothing away."""
    fields = _mapping(patch, "")
    changes = {name: value for name, value in fields.items() if value is not None or name not in _ALIASES}
    document = cast(dict[str, object], merge_patch(policy_document(policy), changes))
    outbound = [name for name in ("block_network", "allow_list", "outbound_cidr_allowlist") if name in changes]
    for replaced in ("mode", "rules") if outbound else ():
        if replaced not in changes:
            document.pop(replaced, None)
    if "inbound_cidr_allowlist" in changes and "sources" not in changes:
        document.pop("sources", None)
    return parse_policy(document)


def _exceptions(value: object) -> tuple[str, ...]:
    names = [] if value is None else _list(value, "/exceptions")
    return tuple(parse_label(name, f"/exceptions/{number}") for number, name in enumerate(names))


def _outbound(fields: Mapping[str, Any], places: dict[str, str]) -> tuple[Mode, tuple[Rule, ...]]:
    blocked = fields.get("block_network")
    if blocked is not None and not isinstance(blocked, bool):
        raise InvalidSpec("/block_network", blocked, "must be true or false")
    lists = [name for name in ("allow_list", "outbound_cidr_allowlist") if fields.get(name) is not None]
    named = [*(("block_network",) if blocked else ()), *lists]
    own = [name for name in ("mode", "rules") if fields.get(name) is not None]
    if len(named) > 1 or (named and own):
        other = (*own, *named)[0]
        raise InvalidSpec(f"/{named[-1]}", fields[named[-1]], f"contradicts {other}, which says the same otherwise")
    if blocked:
        return "block", ()
    if lists:
        place = f"/{lists[0]}"
        places["rules"] = place
        return "allow", tuple(Rule("allow", prefix) for prefix in _prefixes(fields[lists[0]], place))
    mode = _one_of(fields.get("mode", "open"), get_args(Mode), "/mode")
    rules = fields.get("rules")
    listed = [] if rules is None else _list(rules, "/rules")
    return cast(Mode, mode), tuple(_rule(entry, f"/rules/{place}") for place, entry in enumerate(listed))


def _inbound(fields: Mapping[str, Any], places: dict[str, str]) -> tuple[Prefix, ...] | None:
    given = [name for name in ("sources", "inbound_cidr_allowlist") if fields.get(name) is not None]
    if len(given) > 1:
        raise InvalidSpec(f"/{given[1]}", fields[given[1]], "contradicts sources, which says the same otherwise")
    if not given:
        return None
    place = f"/{given[0]}"
    if given[0] != "sources":
        places["sources"] = place
    return _prefixes(fields[given[0]], place)


def _rule(entry: object, at: str) -> Rule:
    fields = _mapping(entry, at)
    for name in fields:
        if name not in _OF_RULE:
            raise InvalidSpec(f"{at}/{_escaped(name)}", fields[name], f"is none of {', '.join(_OF_RULE)}")
    for name in ("action", "prefix"):
        if name not in fields:
            raise InvalidSpec(f"{at}/{name}", "", "is missing")
    return Rule(
        action=cast(Action, _one_of(fields["action"], get_args(Action), f"{at}/action")),
        prefix=_prefix(fields["prefix"], f"{at}/prefix"),
        protocol=cast(RuleProtocol, _one_of(fields.get("protocol", "any"), get_args(RuleProtocol), f"{at}/protocol")),
        ports=_ports(fields.get("ports"), f"{at}/ports"),
    )


def _rule_document(rule: Rule) -> dict[str, object]:
    document: dict[str, object] = {"action": rule.action, "prefix": str(rule.prefix)}
    if rule.protocol != "any":
        document["protocol"] = rule.protocol
    if rule.ports is not None:
        first, last = rule.ports
        document["ports"] = first if first == last else f"{first}-{last}"
    return document


def _ports(value: object, at: str) -> tuple[int, int] | None:
    """443, "443" or "8000-8100"; None is all."""
    if value is None:
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    first, dash, last = text.partition("-") if isinstance(text, str) else ("", "", "")
    if not (is_number(first, 5) and (not dash or is_number(last, 5))):
        raise InvalidSpec(at, value, "must be a port or a range such as 8000-8100")
    return int(first), int(last if dash else first)


def _prefixes(value: object, at: str) -> tuple[Prefix, ...]:
    return tuple(_prefix(entry, f"{at}/{place}") for place, entry in enumerate(_list(value, at)))


def _prefix(value: object, at: str) -> Prefix:
    if not isinstance(value, str):
        raise InvalidSpec(at, value, "must be a network in CIDR form, as text")
    return parse_prefix(value, at)


def _one_of(value: object, words: tuple[str, ...], at: str) -> str:
    if not isinstance(value, str) or value not in words:
        raise InvalidSpec(at, value, f"must be {', '.join(words[:-1])} or {words[-1]}")
    return value


def _boolean(fields: Mapping[str, Any], name: Literal["links", "monitor"]) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidSpec(f"/{name}", value, "must be true or false")
    return bool(value)


def _list(value: object, at: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidSpec(at, value, "must be a list")
    return value


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSpec(at or "/", value, "must be a mapping")
    for name in value:
        if not isinstance(name, str):
            raise InvalidSpec(at or "/", name, "is no name of a field")
    return value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
