"""What a flush by somebody left of the wall: the look at it that every attach can afford, and what closes it.

ebtables' pins vouch for frames towards the latch of the bridge, whatever becomes of the tables that judge packets; the
floor is a set, which whoever flushes all sets empties, while the rules that ask it go on.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from cellwall.engine.iptables.contracts import Variant
from cellwall.lower.xt.tables import XtChain, XtRule, XtTable, own_lines, render_table

if TYPE_CHECKING:
    from cellwall.engine.iptables.host import Form, Host

Judging = Literal["filter", "security"]
JUDGING: tuple[Judging, ...] = ("filter", "security")
"""The tables that judge, each the whole of it."""

_VOUCHING = "B9-PORT"  # the chain of ebtables' `nat` through which every frame of a sandbox goes (`lower/xt/frames.py`)
_PINS = f"nat -A {_VOUCHING} "
_CLOSED = XtTable("bridge", "nat", (XtChain(_VOUCHING, (XtRule((), ("-j", "DROP")),)),))


class Glance(Protocol):
    """Questions about what is live that take microseconds: no program runs, and nothing is listed."""

    def leads(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """Whether INPUT and FORWARD of the table lead to our chains of it before anything else is asked, and those have
        rules."""

    def vouches(self) -> bool:
        """Whether ebtables leads frames to our chains, which let them past the latch of the bridge."""

    def denies(self, version: Literal[4, 6]) -> bool:
        """Whether the floor is filled: it has an address that every floor denies."""

    def close(self) -> None:
        """Let go of the sockets."""


def stands(host: "Host") -> bool:
    """Whether packets are judged, by a floor that is filled, and frames get as far as that. What else may be missing is
    for who compares."""
    form = host.in_force
    if not is_judged(host, form) or (form.features.frames and not host.glance.vouches()):
        return False
    return all(host.glance.denies(version) for version in _versions(form))


def is_judged(host: "Host", form: "Form") -> bool:
    """Whether one of the tables that judge is met, in each family."""
    judging = JUDGING if form.features.security else JUDGING[:1]
    return all(any(host.glance.leads(form.variant, version, table) for table in judging) for version in _versions(form))


def close_unjudged(host: "Host", form: "Form") -> bool:
    """See `Backend.close_unjudged`. Idempotent."""
    if not form.features.frames or is_judged(host, form) or not host.glance.vouches():
        return False
    pins = [line for line in own_lines(host.tables.save(form.variant, "bridge")) if line.startswith(_PINS)]
    if not pins or pins == [f"{_PINS}-j DROP"]:
        return False
    host.tables.restore(form.variant, "bridge", render_table(_CLOSED))
    return True


def out_of_reach(host: "Host", installed: Sequence[Variant], *, sets: Sequence[str]) -> Iterator[str]:
    """What stands after a removal because its programs are gone, a line each. A rule of ours that is left keeps `sets`;
    where none is, no legacy table is asked, which would make it."""
    if host.glance.vouches():
        yield "ebtables is not installed, and rules of ours are in its tables"
    both: tuple[Variant, ...] = ("nft", "legacy")
    versions: tuple[Literal[4, 6], ...] = (4, 6)
    for variant in both if sets else ():
        led = [one for one in versions if any(host.glance.leads(variant, one, table) for table in JUDGING)]
        if led and (variant not in installed or 4 not in led):
            program = f"iptables-{variant}" if variant not in installed else f"ip6tables-{variant}"
            yield f"{program} is not installed, and rules of ours are in its tables"


def _versions(form: "Form") -> tuple[Literal[4, 6], ...]:
    return (4, 6) if form.features.ipv6 else (4,)
