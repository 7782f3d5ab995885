"""Which mechanism could hold the wall here, and what it would not hold to the letter.

What iptables enforces otherwise than nftables, and what it lacks where a part of it is missing, is data of its
lowering.
"""

from collections.abc import Iterator

import msgspec

from cellwall.doctor.finding import Finding
from cellwall.doctor.observation import IptablesForm, Observation
from cellwall.lower.xt.limits import NARROWER, SUBSTITUTES, WITHOUT
from cellwall.model.settings import Settings


def would_hold(host: Observation, settings: Settings) -> str:
    """The mechanism that `up` would choose on a node where none is in force; "" where none could hold the wall, and
    where nothing could be tried."""
    names = ("nftables", "iptables") if settings.backend == "auto" else (settings.backend,)
    return next((name for name in names if host.refusals.get(name) == ""), "")


def mechanisms(host: Observation, settings: Settings) -> Iterator[Finding]:
    """About `node.backend`."""
    chosen = would_hold(host, settings)
    if settings.backend != "auto" and host.refusals.get(settings.backend):
        yield Finding(
            "error",
            "node.backend",
            f"{settings.backend}: {host.refusals[settings.backend]}",
            "there is no wall: `up` and attach refuse",
            "install what is missing, or set node.backend to auto",
        )
    if chosen == "iptables" and settings.backend == "auto":
        yield Finding(
            "warning",
            "node.backend",
            f"nftables: {host.refusals['nftables']}",
            "iptables holds the wall: an attach takes longer, and a flush by others opens more",
            "install nftables, and a kernel with nf_tables",
        )
    if chosen == "iptables" and host.iptables is not None:
        yield from _limits(host.iptables)


def _named_substitutes() -> Iterator[tuple[str, str]]:
    return ((part.__name__, text) for part, text in SUBSTITUTES.items())


def _limits(form: IptablesForm) -> Iterator[Finding]:
    yield Finding(
        "note",
        f"iptables ({form.variant})",
        f"{len(NARROWER) + len(SUBSTITUTES)} parts of the wall are enforced otherwise than by nftables",
        "; ".join(f"{name}: {text}" for name, text in (*NARROWER.items(), *_named_substitutes())),
        "none needed",
    )
    for name, lost in WITHOUT.items():
        if not msgspec.structs.asdict(form.features)[name]:
            yield Finding(
                "warning",
                f"iptables ({form.variant})",
                f"this host has no `{name}`",
                lost,
                "install ebtables, or a kernel with that part",
            )
