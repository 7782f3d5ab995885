"""What a policy that only watches would have denied, as a policy that allows it: for somebody to read and to shorten.

The proposal holds what was seen and nothing else: addresses by themselves, or as long prefixes as are asked for, with
the protocol and the port. Two things are left out whatever was seen: what the floor denies, and mail, which a rule
would open that nobody meant to (`limits.smtp`). Pure.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Literal, TypeVar, cast

import msgspec

from cellwall.audit.events import Attempt, Event, Unrecorded
from cellwall.errors import InvalidSpec
from cellwall.model.addresses import Prefix
from cellwall.model.policy import MAIL_PORT, OPEN, Policy, Rule, RuleProtocol, TierName
from cellwall.model.policy_check import MAX_RULES

K = TypeVar("K")

MANY_PORTS = 32
"""Ports of one prefix and protocol that are listed one by one; where more were seen, all of them are allowed."""

_FEWER = "shorter prefixes (prefix4, prefix6) take more places together, a later time (since) leaves some out"
_OPENS = "the policy of the {}"
_ASKS = "no client by the policy of the {}"


class Seen(msgspec.Struct, frozen=True):
    """So many attempts, by these containers, from the first to the last."""

    count: int
    first: str
    last: str
    containers: tuple[str, ...]

    def with_attempt(self, attempt: Attempt) -> "Seen":
        """One more."""
        names = self.containers if attempt.container in self.containers else (*self.containers, attempt.container)
        return Seen(self.count + 1, min(self.first, attempt.time), max(self.last, attempt.time), names)


class Proposal(msgspec.Struct, frozen=True):
    """`rules` and `clients` were seen, `kept` and `kept_clients` are of the policy that watched. `left_out`: what was
    seen and is not proposed, and why. `unrecorded`: attempts that are not known one by one."""

    rules: dict[Rule, Seen]
    clients: dict[Prefix, Seen]
    kept: tuple[Rule, ...] = ()
    kept_clients: tuple[Prefix, ...] | None = None
    links: bool = False
    left_out: tuple[tuple[Rule, Seen, str], ...] = ()
    unrecorded: int = 0

    @property
    def policy(self) -> Policy:
        """As a value; one that allows nothing says so."""
        rules = (*self.kept, *self.rules)
        sources = None if self.kept_clients is None else (*self.kept_clients, *self.clients)
        mode: Literal["allow", "block"] = "allow" if any(rule.action == "allow" for rule in rules) else "block"
        return Policy(mode, rules if mode == "allow" else (), sources, self.links)

    @property
    def seen(self) -> bool:
        """Whether there was any attempt."""
        return bool(self.rules or self.clients or self.left_out or self.unrecorded)

    def without(self, rule: Rule, why: str) -> "Proposal":
        """One rule less."""
        rules = {kept: seen for kept, seen in self.rules.items() if kept != rule}
        return msgspec.structs.replace(self, rules=rules, left_out=(*self.left_out, (rule, self.rules[rule], why)))


class _Watched:
    """What the policy of a tier would have denied, gathered by what would allow it."""

    def __init__(self, tier: TierName, prefix4: int, prefix6: int) -> None:
        self.rules: dict[Rule, Seen] = {}
        self.clients: dict[Prefix, Seen] = {}
        self.unrecorded = 0
        self._opens, self._asks = _OPENS.format(tier), _ASKS.format(tier)
        self._prefixes = prefix4, prefix6

    def add(self, event: Event) -> None:
        """One more; what says nothing of the tier is left out."""
        if isinstance(event, Unrecorded):
            self.unrecorded += event.count
        elif isinstance(event, Attempt) and event.judgement == "watch":
            if event.reason == self._opens and not _is_known(event):
                self.unrecorded += 1
            elif event.reason == self._opens:
                _note(self.rules, _asked(event, *self._prefixes), event)
            elif event.reason == self._asks:
                _note(self.clients, _prefix(event.source, *self._prefixes), event)


def propose(
    events: Iterable[Event], base: Policy | None, tier: TierName = "tenant", *, prefix4: int = 32, prefix6: int = 128
) -> Proposal:
    """What the events ask for, beside what `base`, the policy that watched, allows already. `prefix4`, `prefix6`: how
    long the prefixes are that addresses are widened to."""
    watched = _Watched(tier, prefix4, prefix6)
    for event in events:
        watched.add(event)
    base = base or OPEN
    known = base.sources or ()
    return _without_needless(
        Proposal(
            rules=_with_all_ports(watched.rules),
            clients={client: seen for client, seen in watched.clients.items() if client not in known},
            kept=base.rules if base.mode == "allow" else (),
            kept_clients=base.sources,
            links=base.links,
            unrecorded=watched.unrecorded,
        )
    )


def _without_needless(proposal: Proposal) -> Proposal:
    """Without the rules that open more than they say, and those that say what is said already."""
    for rule in list(proposal.rules):
        if rule.lists_mail and rule.ports == (MAIL_PORT, MAIL_PORT):
            proposal = proposal.without(rule, "mail: a rule that names it opens it (limits.smtp)")
    for rule in list(proposal.rules):
        if any(one.holds(rule) for one in proposal.kept):
            proposal = proposal.without(rule, "is allowed or denied by a rule already")
    return proposal


def acceptable(proposal: Proposal, judge: Callable[[Policy], object]) -> Proposal:
    """The proposal without what the judge refuses of what was seen; InvalidSpec for what is refused otherwise. Each is
    judged by itself first, as of all together the judge names one at a time."""
    proposal = _each_acceptable(proposal, judge)
    while True:
        policy = proposal.policy
        try:
            judge(policy)
            return proposal
        except InvalidSpec as error:
            if error.field == "rules" and proposal.rules:
                raise InvalidSpec(error.field, error.value, f"{error.reason}: {_FEWER}") from error
            number = _number_of(error.field) - len(proposal.kept)
            rules = list(proposal.rules)
            if not 0 <= number < len(rules):
                raise
            proposal = proposal.without(rules[number], error.reason)


def _each_acceptable(proposal: Proposal, judge: Callable[[Policy], object]) -> Proposal:
    """Without each rule that the judge refuses by itself. Once more are kept than a policy may have, the rest is not
    asked about: the whole will be refused."""
    kept: dict[Rule, Seen] = {}
    left_out = list(proposal.left_out)
    for rule, seen in proposal.rules.items():
        why = _refusal(rule, judge) if len(kept) <= MAX_RULES else ""
        if why:
            left_out.append((rule, seen, why))
        else:
            kept[rule] = seen
    return msgspec.structs.replace(proposal, rules=kept, left_out=tuple(left_out))


def _refusal(rule: Rule, judge: Callable[[Policy], object]) -> str:
    try:
        judge(Policy("allow", (rule,)))
    except InvalidSpec as error:
        return error.reason
    return ""


def proposal_text(proposal: Proposal, whose: str) -> str:
    """The policy as YAML, with what it is from in comments. `whose`: as in "tenant acme" or "container web"."""
    policy = proposal.policy
    recorded = proposal.rules or proposal.clients or proposal.left_out
    found = "." if recorded else ", of which nothing new is on record."
    lines = [f"# For {whose}, from what its policy would have denied{found}", "version: 1", f"mode: {policy.mode}"]
    if proposal.unrecorded:
        lines.insert(1, f"# {proposal.unrecorded} attempts were not recorded one by one: something may be missing.")
    if policy.rules:
        lines.append("rules:")
    lines += [_rule_text(rule) for rule in proposal.kept if policy.rules]
    for rule, seen in sorted(proposal.rules.items(), key=lambda item: (-item[1].count, str(item[0]))):
        lines += [f"  # {_seen_text(seen)}", _rule_text(rule)]
    if policy.sources is not None:
        lines.append("sources:")
        lines += [f"  - {source}" for source in proposal.kept_clients or ()]
        for client, seen in proposal.clients.items():
            lines += [f"  # {_seen_text(seen)}", f"  - {client}"]
    if policy.links:
        lines.append("links: true")
    if proposal.left_out:
        lines.append("# Left out:")
        lines += [f"#   {rule}: {why} ({_seen_text(seen)})" for rule, seen, why in proposal.left_out]
    return "\n".join(lines)


def _is_known(event: Attempt) -> bool:
    """Whether it is known what the flow was for: a later fragment has no port, nor has what was cut off before it."""
    return event.protocol not in ("tcp", "udp") or event.destination_port is not None


def _asked(event: Attempt, prefix4: int, prefix6: int) -> Rule | None:
    """What would allow the flow: of an answer, by which it is judged too, the ends are the other way round."""
    sent = event.direction == "out"
    address, port = (event.destination, event.destination_port) if sent else (event.source, event.source_port)
    prefix = _prefix(address, prefix4, prefix6)
    protocol = "icmp" if event.protocol == "icmpv6" else event.protocol
    if prefix is None or protocol not in ("tcp", "udp", "icmp"):
        return None
    ports = None if port is None or protocol == "icmp" else (port, port)
    return Rule("allow", prefix, cast(RuleProtocol, protocol), ports)


def _prefix(address: str, prefix4: int, prefix6: int) -> Prefix | None:
    if not address:
        return None
    return ip_network(f"{address}/{prefix6 if ':' in address else prefix4}", strict=False)


def _note(found: dict[K, Seen], key: K | None, event: Attempt) -> None:
    if key is not None:
        known = found.get(key)
        found[key] = (known or Seen(0, event.time, event.time, ())).with_attempt(event)


def _with_all_ports(found: dict[Rule, Seen]) -> dict[Rule, Seen]:
    """With one rule for all ports of a prefix and protocol where too many were seen."""
    ports: dict[Rule, list[Rule]] = {}
    for rule in found:
        ports.setdefault(msgspec.structs.replace(rule, ports=None), []).append(rule)
    made: dict[Rule, Seen] = {}
    for all_ports, rules in ports.items():
        if len(rules) <= MANY_PORTS:
            made |= {rule: found[rule] for rule in rules}
            continue
        seen = [found[rule] for rule in rules]
        names = tuple(dict.fromkeys(name for one in seen for name in one.containers))
        made[all_ports] = Seen(
            sum(one.count for one in seen), min(one.first for one in seen), max(one.last for one in seen), names
        )
    return made


def _number_of(field: str) -> int:
    head, bracket, rest = field.partition("[")
    return int(rest.partition("]")[0]) if head == "rules" and bracket else -1


def _rule_text(rule: Rule) -> str:
    protocol = "" if rule.protocol == "any" else f", protocol: {rule.protocol}"
    ports = ""
    if rule.ports is not None:
        first, last = rule.ports
        ports = f", ports: {first}" if first == last else f', ports: "{first}-{last}"'
    return f'  - {{action: {rule.action}, prefix: "{rule.prefix}"{protocol}{ports}}}'


def _seen_text(seen: Seen) -> str:
    names = ", ".join(name or "-" for name in seen.containers[:5])
    more = f" and {len(seen.containers) - 5} more" if len(seen.containers) > 5 else ""
    times = seen.first if seen.count == 1 else f"{seen.first} to {seen.last}"
    return f"{seen.count} by {names}{more}, {times}"
