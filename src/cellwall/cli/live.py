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

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cellwall.cli.rates import HEAD, Order, Rate, cells, shown
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
            live.update(drawn(rows, order, most=console.size.height - _AROUND), refresh=True)
            key = pressed(interval)
            if key == "q":
                return
            if key == "t":
                tenants = not tenants
            elif key == "s":
                order = _ORDERS[(_ORDERS.index(order) + 1) % len(_ORDERS)]
            elif not key:
                before, after = after, read()


def drawn(rows: list[Rate], order: Order, *, most: int) -> Table:
    """The busiest of the rows, as many as there is room for."""
    table = Table(box=None, pad_edge=False, header_style="bold reverse", expand=True)
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=True, overflow="ellipsis")
    for row in rows[: max(most, 1)]:
        table.add_row(*(Text(cell) for cell in cells(row)))
    left = len(rows) - most
    table.caption = Text(
        (f"{left} more · " if left > 0 else "") + f"by {order} · q ends, s sorts, t tenants", style="dim"
    )
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
