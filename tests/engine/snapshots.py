"""Everything of a node that cellwall may change, as text: equal texts, equal nodes."""

import os
from collections.abc import Iterator

from world import World

_SIDES = ("ingress", "egress")
_OF_IP = {
    "-4": ("link show", "address show", "route show table all", "rule show", "neighbour show nud permanent"),
    "-6": ("address show", "route show table all", "rule show", "neighbour show nud permanent"),
}
"""What is asked of one `ip` each: a program more takes as long as what it tells."""
_PASSING = {"expires", "valid_lft", "preferred_lft", "fdb_n_learned"}
_COUNTING = {"net/netfilter/nf_conntrack_count", "net/ipv6/route/flush", "net/ipv4/route/flush"}


def node_snapshot(world: World) -> tuple[str, ...]:
    """Links, addresses, routes, rules of routing, neighbours, nft ruleset, latch, and all settings under net/."""
    node = world.lab.node
    commands = (
        "nft list ruleset",
        "bridge vlan show",
        "tc qdisc show",
        *(f"tc filter show dev b9_br0 {side} pref 2" for side in _SIDES),  # each time they are loaded another number
    )
    # Of a bridge that is not there, nothing.
    shown = [_stable(node.run(command.split(), check="b9_br0" not in command).text) for command in commands]
    for family, lines in _OF_IP.items():
        batch = "\n".join(lines).encode()
        shown.append(_stable(node.run(["ip", family, "-d", "-o", "-batch", "-"], input=batch).text))
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
            path = f"{directory}/{name}"
            short = path.removeprefix("/proc/sys/")
            if short in _COUNTING:
                continue
            try:
                with open(path, "rb", buffering=0) as file:
                    yield f"{short} = {file.read().strip().decode()}"
            except OSError:
                continue
