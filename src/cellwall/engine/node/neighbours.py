"""What others drop although the wall accepts it: the one accept that they offer a place for, or a word to the operator.

Owns: two rules in each filter table of iptables whose FORWARD chain is closed (Docker, ufw, or an administrator sets it
to DROP, or has a rule in it that turns everything away). They accept what comes from and goes to the bridge, but
only flows that carry a policy version, so without the wall they open nothing. They stand where others have had their
say: in DOCKER-USER, which Docker keeps for it, before its closing RETURN; else at the end of FORWARD, which is before
the first rule that turns everything away; and nowhere in a table that holds the wall itself. Refuses: any change to a
rule of others, and everything of firewalld, whose table nobody else may write to.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

import msgspec

from cellwall.engine.node.foreign_chains import ForeignChains, ForwardChain, Program
from cellwall.engine.node.passage import Crossing, passes
from cellwall.engine.site import Site
from cellwall.errors import CellwallError
from cellwall.names import SECURITY_CHAIN

_ACCEPT = "-{} {} -m connmark ! --mark 0x0 -m comment --comment cellwall -j ACCEPT"
_OURS = re.compile(_ACCEPT.format("[io]", r"\S+"))
"""Of any bridge: it may have had another name. The comment alone is not enough, others' may begin with it."""
_DOCKERS = "DOCKER-USER"
_ENDS = re.compile(r'(-m comment --comment ("[^"]*"|\S+) )?-j (DROP|REJECT|RETURN)( --reject-with \S+)?')
_TURNS_AWAY = re.compile(r'(-m comment --comment ("[^"]*"|\S+) )?-j (DROP|REJECT)( --reject-with \S+)?')
_OUT = "--permanent --policy=cellwall-out"
_FIREWALLD = (
    "--permanent --new-zone=cellwall",
    "--permanent --zone=cellwall --add-interface={}",
    "--permanent --new-policy=cellwall-out",
    f"{_OUT} --add-ingress-zone=cellwall",
    f"{_OUT} --add-egress-zone=ANY",
    f"{_OUT} --set-target=ACCEPT",
    "--reload",
)
"""Its zone turns away what sandboxes send to the node, as ours does; only what they send through it is let go on."""


class Placement(msgspec.Struct, frozen=True):
    """Rules that are missing, and where they go: before the rule that has this number now. `unmet`: those of ours that
    stand behind the end of the chain, where no packet comes by."""

    program: Program
    chain: str
    position: int
    rules: tuple[str, ...]
    unmet: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """What `iptables-restore` reads."""
        gone = [f"-D {self.chain} {rule}" for rule in self.unmet]
        return [*gone, *(f"-I {self.chain} {self.position + offset} {rule}" for offset, rule in enumerate(self.rules))]


def accepts(bridge: str) -> tuple[str, ...]:
    """The rules, as `-S` tells them."""
    # Not the bridge alone: a node that lost our tables would forward for sandboxes by these rules.
    return tuple(_ACCEPT.format(way, bridge) for way in "io")


def missing_accepts(chains: Sequence[ForwardChain], bridge: str, *, ipv6: bool) -> list[Placement]:
    """What has to go where, of the tables that drop what nobody accepts."""
    placements = []
    for forward in chains:
        if forward.name != "FORWARD" or not _closed(forward) or (forward.program.startswith("ip6") and not ipv6):
            continue
        if _holds_the_wall(forward):
            continue  # what it accepts is accepted, and an accept before it would pass it by
        user = next((one for one in chains if (one.program, one.name) == (forward.program, _DOCKERS)), None)
        place = user if user and f"-j {_DOCKERS}" in _met(forward) else forward
        met = _met(place)
        absent = tuple(rule for rule in accepts(bridge) if rule not in met)
        if absent:
            unmet = tuple(rule for rule in place.rules[len(met) :] if rule in absent)
            placements.append(Placement(place.program, place.name, len(met) + 1, absent, unmet))
    return placements


def _met(chain: ForwardChain) -> tuple[str, ...]:
    """The rules that packets come by: those before the first one that lets none go on to the next."""
    return tuple(takewhile(lambda rule: _ENDS.fullmatch(rule) is None, chain.rules))


def stray_accepts(chains: Sequence[ForwardChain]) -> list[tuple[Program, list[str]]]:
    """Rules of ours in tables that hold the wall itself by now, as lines that take them out. Whoever starts later puts
    his chains first, and an accept in one of these would spare open flows the wall's judgement."""
    held = {chain.program for chain in chains if _holds_the_wall(chain)}
    return _removals([chain for chain in chains if chain.program in held])


def place_accepts(site: Site, uplink: str, *, ipv6: bool) -> tuple[bool, tuple[str, ...]]:
    """Put in what is missing; (whether anything was, what others still drop). Idempotent, and fails for nothing: the
    wall does not depend on it."""
    found = site.neighbours.observe()
    bridge = site.settings.network.bridge
    strays = stray_accepts(found.chains)
    for program, lines in strays:
        site.neighbours.edit(program, lines)
    placed, warnings = bool(strays), list(_denials(found, bridge, uplink, ipv6=ipv6))
    for placement in missing_accepts(found.chains, bridge, ipv6=ipv6):
        try:
            site.neighbours.edit(placement.program, placement.lines)
            placed = True
        except CellwallError as error:
            warnings.append(f"{_drops(placement)}, and it takes no rule of ours: {error}")
    return placed, tuple(warnings)


def accepts_drift(site: Site, *, ipv6: bool) -> list[str]:
    """Where what we put in is missing, or stands in the wall's own way."""
    chains = site.neighbours.observe().chains
    strays = [f"an accept of ours passes the wall by in {program}" for program, _ in stray_accepts(chains)]
    missing = missing_accepts(chains, site.settings.network.bridge, ipv6=ipv6)
    return [*strays, *(_drops(placement) for placement in missing)]


def remove_accepts(site: Site) -> None:
    """Take out every rule of ours; what others have there stays as it is."""
    for program, lines in _removals(site.neighbours.observe().chains):
        site.neighbours.edit(program, lines)


def _removals(chains: Sequence[ForwardChain]) -> list[tuple[Program, list[str]]]:
    ours = ((chain, [rule for rule in chain.rules if _OURS.fullmatch(rule)]) for chain in chains)
    return [(chain.program, [f"-D {chain.name} {rule}" for rule in rules]) for chain, rules in ours if rules]


def _raced(chains: Sequence[ForwardChain]) -> list[str]:
    """A closed FORWARD of the other sort of iptables than the wall is in: the kernel asks the younger one first."""
    return [
        f"FORWARD of {forward.program} may drop what {wall.program} has not accepted yet, where the wall is: "
        'node.backend = "nftables" stands before both'
        for forward in chains  # not the wall's first: whichever of its families was laid first is listed first
        for wall in filter(_holds_the_wall, chains)
        if forward.name == "FORWARD" and _closed(forward) and _rivals(wall, forward)
    ]


def _rivals(wall: ForwardChain, forward: ForwardChain) -> bool:
    """The same family's tables of the other sort of iptables."""
    return wall.program != forward.program and wall.program.partition("-")[0] == forward.program.partition("-")[0]


def _holds_the_wall(forward: ForwardChain) -> bool:
    return forward.name == "FORWARD" and any(rule.endswith(f"-j {SECURITY_CHAIN}") for rule in forward.rules)


def _closed(forward: ForwardChain) -> bool:
    return forward.policy == "DROP" or any(_TURNS_AWAY.fullmatch(rule) for rule in forward.rules)


def _drops(placement: Placement) -> str:
    return f"FORWARD of {placement.program} drops what the wall accepts: {placement.chain} lacks our accept"


def _denials(found: ForeignChains, bridge: str, uplink: str, *, ipv6: bool) -> list[str]:
    said = [f"{name}: its rules may drop what the wall accepts: {why}" for name, why in found.unreadable.items()]
    said += _raced(found.chains)
    families: tuple[Literal["ip", "ip6"], ...] = ("ip", "ip6") if ipv6 else ("ip",)
    for chain in found.closed:
        ways = [
            Crossing(*links, family, translated=translated)
            for family in families
            if chain.family in ("inet", family)
            for links, translated in (((bridge, uplink), False), ((uplink, bridge), True))
        ]
        if not all(passes(chain, way) for way in ways):
            place = f"{chain.family} {chain.table} {chain.name}"
            said.append(f"the chain {place} drops what the wall accepts: {remedy(chain.table, bridge)}")
    return said


def remedy(table: str, bridge: str) -> str:
    """What an operator does about a table of others that drops our traffic."""
    if table != "firewalld":
        return f"let it accept what comes from and goes to {bridge}"
    commands = "; ".join(f"firewall-cmd {line.format(bridge)}" for line in _FIREWALLD)
    return f"give firewalld a zone for the bridge, and a policy that lets it be forwarded: {commands}"
