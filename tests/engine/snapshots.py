"""Everything of a node that cellwall may change, as text: equal texts, equal nodes."""

import os
from collections.abc import Iterator
from pathlib import Path

from world import World

_SIDES = ("ingress", "egress")
_PASSING = {"expires", "valid_lft", "preferred_lft", "fdb_n_learned"}
_COUNTING = {"net/netfilter/nf_conntrack_count", "net/ipv6/route/flush", "net/ipv4/route/flush"}


def node_snapshot(world: World) -> tuple[str, ...]:
    """Links, addresses, routes, rules of routing, neighbours, nft ruleset, latch, and all settings under net/."""
    node = world.lab.node
    commands = (
        "ip -d -o link show",
        "ip -o address show",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule show",
        "ip -6 rule show",
        "ip neighbour show nud permanent",
        "bridge vlan show",
        "nft list ruleset",
        "tc qdisc show",
    )
    # Of a bridge that is not there, nothing. Filters of eBPF have another number each time they are loaded.
    latch = [node.run(f"tc filter show dev b9_br0 {side} pref 2".split(), check=False).text for side in _SIDES]
    shown = (*(_stable(node.run(command.split()).text) for command in commands), *latch)
    with node.enter():
        settings = "\n".join(sorted(_settings()))
    return (*shown, _for_good(node.run(["bridge", "fdb", "show"]).text), settings)


def wall_state(world: World) -> tuple[object, ...]:
    """What an operation that changes nothing leaves alone: as above, without what comes and goes by itself (carriers,
    counters, elements that packets make). Elements of endpoints are what `status` compares."""
    run = world.lab.node.run
    names = [line.split() for line in run(["ip", "-br", "address", "show"]).text.splitlines()]
    links = sorted((words[0].partition("@")[0], [word for word in words[2:] if "." in word]) for words in names)
    commands = ("ip neighbour show nud permanent", "nft -s -t list ruleset")
    shown = [_stable(run(command.split()).text) for command in commands]
    with world.lab.node.enter():
        settings = "\n".join(sorted(_settings()))
        drift = world.wall.status().drift
    return world.wall.endpoints(), links, *shown, settings, drift


def _stable(text: str) -> str:
    lines = sorted(line for line in text.splitlines() if line.strip())
    return "\n".join(_without_timers(line) for line in lines)


def _for_good(entries: str) -> str:
    """Without what a bridge has learned: other bridges of the node do when anybody behind them speaks."""
    return _stable("\n".join(line for line in entries.splitlines() if "permanent" in line or "static" in line))


def _without_timers(line: str) -> str:
    words = line.split()
    drop = set()
    for index, word in enumerate(words):
        if word.endswith("_timer") or word in _PASSING:
            drop.add(index + 1)
    return " ".join(word for index, word in enumerate(words) if index not in drop)


def _settings() -> Iterator[str]:
    # /proc/sys/net is that of the namespace of whoever opens it: read by the calling thread, itself.
    for directory, _, files in os.walk("/proc/sys/net"):
        for name in files:
            path = Path(directory, name)
            short = str(path.relative_to("/proc/sys"))
            if short in _COUNTING:
                continue
            try:
                yield f"{short} = {path.read_text().strip()}"
            except OSError:
                continue
