"""What a flush by somebody left of the wall: the look at it that every attach can afford, and what closes it.

ebtables' pins vouch for frames towards the latch of the bridge, whatever becomes of the tables that judge packets; the
floor is a set, which whoever flushes all sets empties, while the rules that ask it go on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from cellwall.engine.backend import Settled, Shut
from cellwall.engine.iptables.contracts import Variant
from cellwall.lower.xt.tables import HookName, TableName

if TYPE_CHECKING:
    from cellwall.engine.iptables.host import Form, Host

Judging = Literal["filter", "security"]
JUDGING: tuple[Judging, ...] = ("filter", "security")
"""The tables that judge, each the whole of it."""

LED: Mapping[TableName, tuple[HookName, ...]] = {
    "raw": ("PREROUTING",),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The built-in chains that lead to ours in each wall (`lower.xt.wall`); OUTPUT of `raw` does not in all."""

_ATTEMPTS = 100


class Glance(Protocol):
    """Questions about what is live that take microseconds: no program runs, and nothing is listed."""

    def leads(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """Whether INPUT and FORWARD of the table lead to our chains of it before anything else is asked, and those have
        rules."""

    def begin(self, variant: Variant, version: Literal[4, 6], table: TableName, hooks: Sequence[HookName]) -> bool:
        """Whether each of these built-in chains leads to our chain of its name before anything else is asked."""

    def vouches(self) -> bool:
        """Whether ebtables leads frames to our chains, which let them past the latch of the bridge."""

    def opens(self) -> bool:
        """Whether what frames are led to lets any past the latch: it has more than the one rule that closes it."""

    def generation(self) -> int:
        """Which state of ebtables it is, and of the tables of iptables-nft: another one after each change."""

    def close_frames(self, seen: int) -> bool:
        """Have ebtables let no frame of a sandbox past the latch; False, and nothing is done, where `generation` is not
        `seen` any more."""

    def is_made(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """Whether there is such a table: where there is none `leads` may make one."""

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


def is_entire(host: "Host") -> bool:
    """`stands`, and each table that the wall is in leads to our chains of it: where one was emptied, another may judge
    on while flows that it has not marked wait at the latch, or begin untranslated."""
    form = host.in_force
    return stands(host) and all(
        host.glance.begin(form.variant, version, table, hooks)
        for version in _versions(form)
        for table, hooks in LED.items()
        if _has(form, version, table)
    )


def _has(form: "Form", version: Literal[4, 6], table: TableName) -> bool:
    if table == "security":
        return form.features.security
    return table != "nat" or version == 4 or form.features.nat6


def is_judged(host: "Host", form: "Form") -> bool:
    """Whether one of the tables that judge is met, in each family."""
    judging = JUDGING if form.features.security else JUDGING[:1]
    return all(any(host.glance.leads(form.variant, version, table) for table in judging) for version in _versions(form))


def close_unjudged(host: "Host", form: "Form", settled: Settled | None = None, shut: Shut | None = None) -> bool:
    """See `Backend.close_unjudged`. Idempotent; False, too, where others' changes never let it be.

    What is closed is what was seen, or nothing, but for the rules of iptables-legacy: their changes give no other
    `generation`. Whoever lays these lays frames last, and so opens what was closed too late."""
    if not form.features.frames:
        return False
    for _ in range(_ATTEMPTS):
        seen = host.glance.generation()
        if settled is not None and not settled():
            return False
        if _is_judged_anyhow(host, form) or not (host.glance.vouches() and host.glance.opens()):
            return False
        if shut is not None:
            shut()
        if host.glance.close_frames(seen):
            return True
    return False


def _is_judged_anyhow(host: "Host", form: "Form") -> bool:
    """By the other variant, too: a wall that moves from one to the other stands in both, and then in the new one."""
    if is_judged(host, form):
        return True
    other: Variant = "legacy" if form.variant == "nft" else "nft"
    judging = [(version, table) for version in _versions(form) for table in JUDGING]
    led = {version for version, table in judging if _leads(host, other, version, table)}
    return led == {*_versions(form)}


def _leads(host: "Host", variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
    return host.glance.is_made(variant, version, table) and host.glance.leads(variant, version, table)


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
