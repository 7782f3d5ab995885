"""What other programs' rules do to sandboxes' traffic: dropping it, seeing it first, using the same marks.

A drop anywhere is final and an accept is not, so what stands beside the wall can close, and none of it opens. Around
the wall leads only what stands before it (a packet that is diverted, or taken out of tracking) or replaces all rules
(a flow table). Pure.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network

from cellwall.doctor.finding import Finding
from cellwall.doctor.observation import Chain, Observation, Rule
from cellwall.engine.node.neighbours import remedy
from cellwall.lower.xt.chains import is_own_chain
from cellwall.model.addresses import Prefix
from cellwall.model.settings import Settings

_ADDRESS = re.compile(r"[0-9a-f]+[.:][0-9a-f.:]+(?:/\d+)?")
_PATH = ("ingress", "prerouting", "forward", "postrouting", "egress")
_GUARD = -150
"""Where the wall has judged what comes from a sandbox (`lower/nft/wall.py`); before it others can take packets away."""
_SHOWN = 3
_PUBLISHED = re.compile(r"ct status dnat (counter )?accept")


class _Path:
    """Which interfaces sandboxes' packets come in and go out by."""

    def __init__(self, host: Observation, settings: Settings) -> None:
        self.bridge = settings.network.bridge
        self.prefix = settings.network.veth_prefix
        self.uplink = settings.interface or host.default_interface(4) or host.default_interface(6)
        self.subnets = (settings.network.subnet4, settings.network.subnet6)

    def has(self, name: str) -> bool:
        """One of the interfaces is, or may be, this one; `*` ends a prefix."""
        uplink = self.uplink.startswith(name[:-1]) if name.endswith("*") else name == self.uplink
        return self.is_ours(name) or (uplink and bool(self.uplink))

    def is_ours(self, name: str) -> bool:
        """It is, or may be, our bridge or a port of it."""
        if name.endswith("*"):
            return self.bridge.startswith(name[:-1]) or self.prefix.startswith(name[:-1])
        return name == self.bridge or name.startswith(self.prefix)

    def meets(self, rule: Rule) -> bool:
        """Whether sandboxes' packets can come to this rule's end, as far as interfaces say."""
        return self._passes(rule.enters) and self._passes(rule.leaves)

    def names(self, rule: Rule) -> bool:
        """Whether the rule is about sandboxes: by our bridge, its ports or a subnet."""
        named = (*rule.enters, *rule.leaves)
        return any(name == self.bridge or name.startswith(self.prefix) for name in named) or any(
            part.version == subnet.version and part.subnet_of(subnet)  # type: ignore[arg-type]
            for part in _prefixes(rule.text)
            for subnet in self.subnets
        )

    def _passes(self, names: Sequence[str]) -> bool:
        wanted = [name for name in names if not name.startswith("!")]
        if wanted:
            return any(self.has(name) for name in wanted)
        return not {f"!{self.bridge}", f"!{self.uplink}"} <= set(names)


def _prefixes(text: str) -> Iterator[Prefix]:
    """The addresses and networks that a rule names."""
    for word in _ADDRESS.findall(text):
        with suppress(ValueError):
            yield ip_network(word, strict=False)


def beside(host: Observation, settings: Settings) -> Iterator[Finding]:
    """Everything about rules of others."""
    path = _Path(host, settings)
    for base in _base_chains(host, path):
        rules = tuple(_met(base, host, path))
        if base.hook in _PATH:
            yield from _default(base, host, path)
            yield from _closes(base, rules, path)
            yield from _acts(base, rules)
        yield from _marks(base, rules, settings)
    yield from _flow_tables(host, path)
    yield from _mark_routes(host, settings)


def _base_chains(host: Observation, path: _Path) -> Iterator[Chain]:
    for chain in host.chains:
        bridged = chain.family == "bridge" and chain.hook == "forward"  # nothing is ever bridged to or from a sandbox
        elsewhere = chain.devices and not any(path.has(name) for name in chain.devices)
        if chain.hook and chain.family != "arp" and not bridged and not elsewhere:
            yield chain


def _leads_to(chain: Chain, rule: Rule, host: Observation) -> Iterator[Chain]:
    home = (chain.program, chain.family, chain.table)
    for name in rule.leads_to:
        if not is_own_chain(name):
            yield from (one for one in host.chains if (one.program, one.family, one.table, one.name) == (*home, name))


def _met(base: Chain, host: Observation, path: _Path) -> Iterator[Rule]:
    """The rules that sandboxes' packets can meet from a base chain on."""
    seen: set[str] = set()
    pending = [base]
    while pending:
        chain = pending.pop()
        if chain.name in seen:
            continue
        seen.add(chain.name)
        for rule in chain.rules:
            if path.meets(rule):
                yield rule
                pending += _leads_to(chain, rule, host)


def _shown(rules: Sequence[Rule]) -> str:
    texts = [f"`{rule.text}`" for rule in rules[:_SHOWN]]
    more = len(rules) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- who drops


def _default(base: Chain, host: Observation, path: _Path) -> Iterator[Finding]:
    """A chain that drops what it does not know, and knows nothing of the bridge."""
    refuses = base.drops or (base.rules and base.rules[-1].verdict == "drop" and base.rules[-1].always)
    if base.kind == "nat" or base.family == "netdev" or not refuses:
        return
    if any(is_own_chain(name) for rule in base.rules for name in rule.leads_to):
        return  # the wall is in it, and what it accepts there is accepted
    ways = {"comes from": "enters", "goes to": "leaves"}
    if base.hook in ("prerouting", "ingress"):
        del ways["goes to"]
    missing = [way for way, side in ways.items() if not _accepts(base, side, host, path, known=False)]
    if missing:
        yield Finding(
            "warning",
            "other rules",
            f"the chain `{base.place}` drops by default, and accepts nothing that {' or '.join(missing)} {path.bridge}",
            "an accept of the wall is not final: sandboxes may have no way out, and their published ports none in",
            _remedy(base, path),
        )


def _accepts(chain: Chain, side: str, host: Observation, path: _Path, *, known: bool, depth: int = 16) -> bool:
    """Whether a new flow of the bridge's is accepted: by a rule that names it, or by one that names nothing."""
    for rule in chain.rules:
        names: tuple[str, ...] = getattr(rule, side)
        named = known or any(path.is_ours(name) for name in names)
        if names and not named:
            continue
        if side == "leaves" and _PUBLISHED.fullmatch(rule.text):
            return True  # nothing else is let in to sandboxes
        answers = "established" in rule.text.lower() and "new" not in rule.text.lower()
        if rule.verdict == "accept" and ((named and not answers) or rule.always):
            return True
        below = _leads_to(chain, rule, host) if depth else ()
        if any(_accepts(one, side, host, path, known=named, depth=depth - 1) for one in below):
            return True
    return False


def _remedy(base: Chain, path: _Path) -> str:
    if (base.table, base.name) == ("filter", "FORWARD") and base.family in ("ip", "ip6"):
        return "`cellwall up` or `cellwall reconcile`: it puts an accept of the wall's own there"
    return remedy(base.table, path.bridge)


def _closes(base: Chain, rules: Sequence[Rule], path: _Path) -> Iterator[Finding]:
    closing = [rule for rule in rules if rule.verdict == "drop" and path.names(rule)]
    # firewalld names the interfaces of each zone to turn away what the zone's policies have not let go on.
    if closing and base.table != "firewalld":
        yield Finding(
            "warning",
            "other rules",
            f"`{base.place}` drops traffic of sandboxes: {_shown(closing)}",
            "what the wall allows does not arrive",
            "take these rules away if they are not meant",
        )


# ---------------------------------------------------------------- who sees it first, or instead


def _acts(base: Chain, rules: Sequence[Rule]) -> Iterator[Finding]:
    early = base.hook == "prerouting" and base.priority < _GUARD and base.kind != "nat"
    first = early or base.hook == "ingress"
    untracked = [rule for rule in rules if "takes out of tracking" in rule.acts]
    diverted = [rule for rule in rules if {"diverts", "translates"} & set(rule.acts)]
    stamped = [rule for rule in rules if "marks the flow" in rule.acts]
    if untracked:
        yield Finding(
            "warning",
            "other rules",
            f"`{base.place}` takes packets out of connection tracking: {_shown(untracked)}",
            "the wall drops a sandbox's packets that belong to no flow",
            "leave out what comes from and goes to the bridge",
        )
    if first and diverted:
        yield Finding(
            "warning",
            "other rules",
            f"`{base.place}` sees sandboxes' packets before the wall and leads them elsewhere: {_shown(diverted)}",
            "what is led elsewhere before the node's guard is not asked where it goes",
            "leave out what comes from the bridge, or move it behind priority -150",
        )
    if stamped:
        yield Finding(
            "warning",
            "other rules",
            f"the chain `{base.place}` writes conntrack marks: {_shown(stamped)}",
            "a sandbox's flow whose conntrack mark others change is dropped: it is the wall's policy version",
            "let that program leave alone what comes from and goes to the bridge",
        )


def _flow_tables(host: Observation, path: _Path) -> Iterator[Finding]:
    used = {(chain.family, chain.table) for chain in host.chains for rule in chain.rules if "offloads" in rule.acts}
    for table in host.flow_tables:
        devices = [name for name in table.devices if path.has(name)]
        if devices and (table.family, table.table) in used:
            yield Finding(
                "error",
                "flow table",
                f"`{table.family} {table.table} {table.name}` sends open flows of {', '.join(devices)} past all rules",
                "packets of a sandbox's flow no longer meet the wall: a changed policy does not end it",
                "take these interfaces out of the flow table, or leave sandboxes' flows out of `flow add`",
            )


# ---------------------------------------------------------------- marks


def _marks(base: Chain, rules: Sequence[Rule], settings: Settings) -> Iterator[Finding]:
    written = [rule for rule in rules if rule.writes & settings.mark]
    read = [rule for rule in rules if rule.reads & settings.mark]
    remedy = "set node.mark to a bit that no other program uses"
    if written:
        yield Finding(
            "warning",
            "node.mark",
            f"`{base.place}` writes bit {settings.mark:#x} of the packet mark: {_shown(written)}",
            "the wall knows by this bit what it judged: packets that lose it are dropped, and what gets it from others "
            "passes for judged",
            remedy,
        )
    if read:
        yield Finding(
            "warning",
            "node.mark",
            f"`{base.place}` asks for bit {settings.mark:#x} of the packet mark: {_shown(read)}",
            "the wall sets this bit on sandboxes' packets, which then meet that program's rules",
            remedy,
        )


def _mark_routes(host: Observation, settings: Settings) -> Iterator[Finding]:
    for route in host.mark_routes:
        if route.mask & settings.mark and (route.value & settings.mark or route.mask != 0xFFFFFFFF):
            yield Finding(
                "warning",
                "node.mark",
                f"the routing rule `{route.text}` asks for bit {settings.mark:#x} of the packet mark",
                "the wall sets this bit on sandboxes' packets, which are then routed as that program wants",
                "set node.mark to a bit that no other program uses",
            )
