"""What the attach benchmark is held to: shares of the peers' medians in the same run, and guides in milliseconds."""

from collections.abc import Iterator, Sequence

import msgspec

from bench.contestants import InIptables, InLegacyIptables, InProcess, Netavark, Plugin, ReferenceChain
from bench.figures import Row
from bench.served import PluginByDaemon

FIRST_PACKET, FIRST_IPV6_PACKET = "attach, first packet", "attach, first IPv6 packet"
RETURNS, DETACH, CYCLE = "attach, call returns", "detach", "attach and detach, over many"


class Goal(msgspec.Struct, frozen=True):
    """One of the goals, and whether this run reached it. In milliseconds, both sides medians."""

    goal: str
    value: float
    limit: float
    reached: bool


def judge(rows: Sequence[Row], population: int) -> list[Goal]:
    """Every goal that this run measured both sides of."""
    p50 = {(row.contestant, row.operation, row.attached): row.p50 for row in rows}
    goals = [*_shares(p50, population), *_growth(p50, population), *_guides(p50, population)]
    return list({goal.goal: goal for goal in goals}.values())  # without a population both halves speak of 0


def _shares(p50: dict[tuple[str, str, int], float], population: int) -> Iterator[Goal]:
    """A peer's first packet with a full node waits for lost broadcasts as well, which says nothing of its speed: there
    ours, with the packet, is held against its call alone."""
    ours, plugin, chain, peer = InProcess.name, Plugin.name, ReferenceChain.name, Netavark.name
    thin = PluginByDaemon.name
    for text, one, other, operation, theirs, attached, share in (
        ("in-process attach ≤ 1/10 of netavark's", ours, peer, FIRST_PACKET, FIRST_PACKET, 0, 10),
        ("in-process detach ≤ 1/50 of netavark's", ours, peer, DETACH, DETACH, 0, 50),
        ("in-process attach ≤ 1/10 of netavark's", ours, peer, FIRST_PACKET, RETURNS, population, 10),
        ("executable ADD ≤ 1/3 of the reference chain's", thin, chain, FIRST_PACKET, FIRST_PACKET, 0, 3),
        ("executable ADD ≤ 1/10 of the reference chain's", thin, chain, FIRST_PACKET, RETURNS, population, 10),
        ("executable ADD without a daemon ≤ 1/3 of the chain's", plugin, chain, FIRST_PACKET, FIRST_PACKET, 0, 3),
        ("executable ADD without a daemon ≤ 1/10", plugin, chain, FIRST_PACKET, RETURNS, population, 10),
    ):
        value, base = p50.get((one, operation, attached)), p50.get((other, theirs, attached))
        if value is not None and base is not None:
            yield Goal(f"{text}, {attached} attached", value, round(base / share, 3), value <= base / share)


def _growth(p50: dict[tuple[str, str, int], float], population: int) -> Iterator[Goal]:
    """What a full node may make of an attach where rules are iptables'."""
    for mechanism in (InIptables.name, InLegacyIptables.name):
        value, alone = p50.get((mechanism, FIRST_PACKET, population)), p50.get((mechanism, FIRST_PACKET, 0))
        if value is not None and alone is not None:
            limit = 2 * alone
            yield Goal(
                f"{mechanism}: attach with {population} attached ≤ 2 of an empty node's", value, limit, value <= limit
            )


def _guides(p50: dict[tuple[str, str, int], float], population: int) -> Iterator[Goal]:
    for operation, attached, limit in ((FIRST_PACKET, 0, 3.0), (DETACH, 0, 0.5), (FIRST_PACKET, population, 5.0)):
        value = p50.get((InProcess.name, operation, attached))
        if value is not None:
            yield Goal(f"guide: {operation} in process, {attached} attached", value, limit, value <= limit)
