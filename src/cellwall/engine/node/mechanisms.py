"""Which mechanism holds the wall of a node, and which others still have something of it.

A wall that is moved from one to another stands in both for a while, and a packet must pass both. What a mechanism was
ever told is on record from before its first rule until its last is gone.
"""

from collections.abc import Collection

import msgspec

from cellwall.engine.backend import Backend, BackendName, Wanted
from cellwall.engine.site import Foundation, Site
from cellwall.errors import Unsupported

_NAMES: tuple[BackendName, ...] = ("nftables", "iptables")
_USUAL: tuple[BackendName, ...] = ("nftables",)


def choose(site: Site, before: Foundation | None) -> Backend:
    """The mechanism that the settings ask for; where they leave it open the one in force, if this host still has it,
    else the first that it has. Unsupported where there is none, with what each lacks."""
    reasons = []
    for name in _candidates(site, before):
        backend = site.mechanism(name)
        reason = backend.refusal(site.settings)
        if not reason:
            return backend
        reasons.append(f"{name}: {reason}")
    raise Unsupported("; ".join(reasons))


def _candidates(site: Site, before: Foundation | None) -> tuple[BackendName, ...]:
    if site.settings.backend != "auto":
        return (site.settings.backend,)
    return _NAMES if before is None else (before.backend, *(name for name in _NAMES if name != before.backend))


def remember(site: Site, backend: Backend) -> None:
    """Something of the wall may be there from now on."""
    names = _recorded(site)
    if backend.name not in names:
        _record(site, (*names, backend.name))


def remove_others(site: Site, backend: Backend, wanted: Wanted) -> None:
    """Only this mechanism has anything of the wall. Idempotent."""
    others = [name for name in _recorded(site) if name != backend.name]
    for name in others:
        site.mechanism(name).remove(wanted, beside=True)
    if others:
        _record(site, (backend.name,))


def remove_all(site: Site, wanted: Wanted) -> None:
    """No mechanism has anything of the wall. Idempotent."""
    for name in _recorded(site) or _USUAL:
        site.mechanism(name).remove(wanted)
    _record(site, ())


def _recorded(site: Site) -> tuple[BackendName, ...]:
    body = site.journal.get("mechanisms")
    if body is None:  # of a program that knew one
        return _USUAL if site.foundation() is not None else ()
    return msgspec.json.decode(body, type=tuple[BackendName, ...])


def _record(site: Site, names: Collection[BackendName]) -> None:
    with site.journal.transaction():
        if names:
            site.journal.put("mechanisms", msgspec.json.encode(names))
        else:
            site.journal.drop("mechanisms")
