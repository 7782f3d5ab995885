"""Named timeouts of connection tracking: what the target `CT` gives a flow, in `raw`, with its first packet.

A rule refers to them by name, as to a set: they are there before it and go after it. Four characters are all that the
save programs print of a name (1.8.11), and a longer one would spoil whatever somebody saves and restores.
"""

from typing import Literal

import msgspec

from cellwall.compile import wall as w
from cellwall.lower.xt.sets import SET_PREFIX


class FlowTimeouts(msgspec.Struct, frozen=True):
    """Seconds of TCP states of one IP version; every other state has the node's own, and so has one of 0 seconds.
    `half_open`: of a SYN that nobody answered, and of one whose answer the client did not."""

    name: str
    version: Literal[4, 6]
    time_wait: int
    close: int
    half_open: int = 0


def ended(version: Literal[4, 6]) -> FlowTimeouts:
    """Of a flow that is forgotten soon after its end."""
    return FlowTimeouts(f"{SET_PREFIX}e{version}", version, w.TIME_WAIT, w.CLOSE)


def of_client(version: Literal[4, 6]) -> FlowTimeouts:
    """Of one that is also forgotten soon if its client does not complete it."""
    return FlowTimeouts(f"{SET_PREFIX}c{version}", version, w.TIME_WAIT, w.CLOSE, w.HALF_OPEN)


ALL_TIMEOUTS = (ended(4), ended(6), of_client(4), of_client(6))
TIMEOUT_NAMES = frozenset(one.name for one in ALL_TIMEOUTS)
"""Whatever of them any wall of ours makes."""
