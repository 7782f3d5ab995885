"""metrics, top: what the daemon counts as Prometheus reads it, and who is busy right now."""

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import Conflict, InvalidSpec, Unsupported

if TYPE_CHECKING:
    from cellwall.cli.rates import Order
    from cellwall.model.figures import TrafficReport

_TOP = """\
What each sandbox sends and receives in a second, and how many connections it has; the busiest first. In a terminal it
goes on until q or Ctrl-C: t changes between sandboxes and tenants, s what they are sorted by. Elsewhere it prints a
table each interval. Asks the daemon, for what the caller may list; without one, root sees it all the same.
"""
_ORDERS = ("bytes", "packets", "connections", "denied", "name")
_SHORTEST, _LONGEST = 0.5, 3600.0


def register(commands: "Commands[Parser]") -> None:
    """Add the commands of this group."""
    metrics = add_command(commands, "metrics", "print what the daemon counts, as Prometheus reads it")
    metrics.set_defaults(act=_metrics)
    top = add_command(commands, "top", "show what sandboxes send and receive in a second", description=_TOP)
    top.add_argument("--once", action="store_true", help="print one table")
    top.add_argument("--interval", metavar="SECONDS", default="2", help="between two looks; default: 2")
    top.add_argument("--sort", choices=_ORDERS, default="bytes", help="by what; default: bytes")
    top.add_argument("--tenants", action="store_true", help="one line for all sandboxes of a tenant")
    top.set_defaults(act=_top)


def _metrics(invocation: Invocation) -> Outcome:
    if not invocation.served():
        raise Conflict("no daemon writes on this node (node.mode), and it is the daemon that counts")
    with invocation.client() as client:
        text = client.metrics()
    return Outcome({"text": text}, text.rstrip("\n"))


def _top(invocation: Invocation) -> Outcome:
    from cellwall.cli.rates import rate_table, shown

    given = invocation.arguments
    interval = _interval(given.interval)
    with invocation.wall_to_ask() as wall:
        try:
            if _can_draw() and not (given.once or given.json):
                _live(wall.traffic, interval, given.sort, tenants=given.tenants)
                return Outcome()
            before = wall.traffic()
            while True:
                time.sleep(interval)
                after = wall.traffic()
                rows = shown(before, after, given.sort, tenants=given.tenants)
                if given.once or given.json:
                    return Outcome({"seconds": after.at - before.at, "rates": rows}, rate_table(rows))
                print(rate_table(rows), end="\n\n", flush=True)
                before = after
        except KeyboardInterrupt:  # which is how it ends
            return Outcome()


def _can_draw() -> bool:
    """It goes to a terminal, and not to one of which nothing is known but that it prints lines."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def _live(read: "Callable[[], TrafficReport]", interval: float, order: "Order", *, tenants: bool) -> None:
    try:
        from cellwall.cli.live import show
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"a live display needs the Python package {error.name}: install cellwall[top], or use --once"
        ) from error
    show(read, interval, order, tenants=tenants)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise InvalidSpec("--interval", text, "must be a number of seconds") from error
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InvalidSpec("--interval", text, f"must be {_SHORTEST:g} to {_LONGEST:g} seconds")
    return seconds
