"""The live display of `top`: drawn on the terminal's other screen, ended by q or a signal, and gone without a trace."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cellwall.cli.rates import HEAD, NAMES, Order, Rate, cells, columns, shown
from cellwall.model.figures import TrafficReport

_ORDERS: tuple[Order, ...] = get_args(Order)
_AROUND = 3
"""Lines of the screen that are no rows."""


def show(read: Callable[[], TrafficReport], interval: float, order: Order, *, tenants: bool) -> None:
    """Show what `read` reports until q, SIGINT or SIGTERM."""
    console = Console(highlight=False)
    before = after = read()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            rows = shown(before, after, order, tenants=tenants)
            size = console.size
            live.update(drawn(rows, order, most=size.height - _AROUND, width=size.width), refresh=True)
            key = pressed(interval)
            if key == "q":
                return
            if key == "t":
                tenants = not tenants
            elif key == "s":
                order = _ORDERS[(_ORDERS.index(order) + 1) % len(_ORDERS)]
            elif not key:
                before, after = after, read()


def drawn(rows: list[Rate], order: Order, *, most: int, width: int) -> Table:
    """The busiest of the rows, `most` of them, on a screen of `width` characters."""
    shown_rows = [cells(row) for row in rows[: max(most, 1)]]
    fitting = columns(shown_rows, order, width)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold reverse")
    for number, wide in fitting.items():
        justify: JustifyMethod = "left" if number in NAMES else "right"
        table.add_column(HEAD[number], justify=justify, no_wrap=True, overflow="ellipsis", width=wide)
    for row in shown_rows:
        table.add_row(*(Text(row[number]) for number in fitting))
    left = len(rows) - most
    said = (f"{left} more · " if left > 0 else "") + f"by {order} · q ends, s sorts, t tenants"
    table.caption = Text(said, style="dim", no_wrap=True, overflow="ellipsis")
    return table


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """What waits so many seconds for a key, "" where none comes. The terminal is as it was at the end, also by
    SIGTERM."""
    before_signal = signal.signal(signal.SIGTERM, _interrupt)
    descriptor = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = None if descriptor is None else termios.tcgetattr(descriptor)
    try:
        if descriptor is not None:
            tty.setcbreak(descriptor)
        yield lambda seconds: _pressed(descriptor, seconds)
    finally:
        if descriptor is not None and before is not None:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, before_signal)


def _pressed(descriptor: int | None, seconds: float) -> str:
    listened = [] if descriptor is None else [descriptor]
    if not select.select(listened, [], [], seconds)[0] or descriptor is None:
        return ""
    return os.read(descriptor, 16)[:1].decode(errors="replace")


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt
