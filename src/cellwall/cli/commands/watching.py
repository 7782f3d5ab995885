"""watch: put back what others take away from the wall, for as long as it runs."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cellwall.cli.invocation import Invocation, Outcome
from cellwall.cli.parser import Commands, Parser, add_command
from cellwall.errors import Conflict

_DESCRIPTION = """\
Listen to the kernel and put back, at once, what others take away from the wall or change of it: a flush of all rules,
a rule or an element deleted, the bridge or a port changed, the latch removed. Follows the node's addresses and routes.
Says each repair on standard error. Goes by the settings in force, brings up nothing that is down, and works beside any
number of other cellwall processes. Ends on SIGTERM and SIGINT.
"""


def register(commands: "Commands[Parser]") -> None:
    """Add the command."""
    parser = add_command(
        commands, "watch", "put back at once what others take away from the wall", description=_DESCRIPTION
    )
    parser.set_defaults(act=_watch)


def _watch(invocation: Invocation) -> Outcome:
    from cellwall.watch.attention import THREAD_TURN
    from cellwall.watch.loop import watch  # the engine and its adapters

    if invocation.served():
        raise Conflict("a daemon writes on this node (node.mode), and watches it itself")
    sys.setswitchinterval(THREAD_TURN)
    with _ended_by_signals() as stop, invocation.own_wall() as wall, invocation.wall_to_read() as closer:
        watch(wall, stop, closer=closer)
    return Outcome()


@contextmanager
def _ended_by_signals() -> Iterator[int]:
    """A descriptor that is readable once somebody asked for the end: no repair is cut in the middle."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
