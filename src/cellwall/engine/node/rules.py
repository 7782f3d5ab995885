"""The node's rules, and the record of them: what holds them, which are live, whose flows they have yet to judge, and
that they are in doubt while they change. How they are laid is the backend's."""

from collections.abc import Sequence

import msgspec

from cellwall.compile.usage import Usage
from cellwall.engine.backend import Backend, BackendName, Laid, Laying, Wanted
from cellwall.engine.node.mechanisms import choose, remember, remove_all, remove_others
from cellwall.engine.policies.versions import enforce_new_versions, journal_new_versions
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts

_REPEATS = 2
"""Others write now and then, and a laying takes a tenth of a second."""


class LiveRules(msgspec.Struct, frozen=True):
    """What is live now, and whether anything had to be laid for it."""

    laid: Laid
    changed: bool


def setup_security_chain(site: Site, wanted: Wanted) -> LiveRules:
    """Lay B9-FORWARD and everything around it, at no moment less. Open flows are judged again where it is another
    policy. A wall that another mechanism holds stays until this one is whole, with every endpoint in it."""
    before = site.foundation()
    backend = choose(site, before)
    attached = site.journal.endpoints("attached")
    site.tell_all(attached)
    same = before is not None and before.backend == backend.name
    laying = backend.plan(wanted, attached, before.laid if before is not None and same else None)
    if laying is None:
        assert before is not None
        site.in_force.name = backend.name
        remove_others(site, backend, wanted)
        return LiveRules(before.laid, changed=False)
    remember(site, backend)
    shape = _lay(site, laying) if before is None else _lay_over(site, before, backend, laying)
    shape = shape or _lay_again(backend, wanted, attached)
    site.in_force.name = backend.name
    live = Laid(laying.rules, laying.sets, shape, wanted.usage, laying.details)
    judge_anew = attached if before is not None and (laying.judges_anew or not same) else ()
    if before is not None:
        _note(site, _doubted(site, before), live, backend.name, judge_anew=judge_anew)
    remove_others(site, backend, wanted)  # which know the versions of before only
    if judge_anew:
        enforce_new_versions(site, judge_anew if laying.fills else ())
    return LiveRules(live, changed=True)


def _lay(site: Site, laying: Laying) -> str:
    return laying.lay() if site.ledger is None else site.ledger.relaid(site, laying)


def _lay_over(site: Site, before: Foundation, backend: Backend, laying: Laying) -> str:
    """Lay it where there is a wall on record, which is in doubt from here on, and no more where nothing has changed."""
    stays = laying.keeps or before.backend != backend.name
    kept = before.laid if stays else Laid("", "", "", before.usage, before.details)
    _note(site, _doubted(site, before), kept, before.backend)
    try:
        return _lay(site, laying)
    except CellwallError:
        # What failed may have been a look at what was laid: the record stays in doubt then, for whoever comes next.
        if laying.keeps and backend.shape() == before.shape:
            _note(site, before, before.laid, before.backend)
        raise


def _lay_again(backend: Backend, wanted: Wanted, attached: Sequence[Endpoint]) -> str:
    """The shape on record must be that of what was laid. Where others wrote meanwhile all of it is laid again; if they
    write all the time it is "", which no live wall has, so that whoever compares lays it."""
    shapes = (_laid_whole(backend, wanted, attached) for _ in range(_REPEATS))
    return next(filter(None, shapes), "")


def _laid_whole(backend: Backend, wanted: Wanted, attached: Sequence[Endpoint]) -> str:
    laying = backend.plan(wanted, attached, None)
    return "" if laying is None else laying.lay()


def remove_rules(site: Site, found: Foundation | None) -> None:
    """Nothing of the wall is left, whatever stood of it, in whatever mechanism. Idempotent."""
    usage, uplink = (found.usage, found.uplink) if found else (Usage(), "")
    remove_all(site, Wanted(site.settings, NodeFacts(), usage, uplink))


def _doubted(site: Site, found: Foundation) -> Foundation:
    """A foundation that does not hold, whoever looks, and that only these settings may mend: rules that follow them
    may be live already. Until what is laid now is on record, whoever comes next finds it so, and lays it: a crash may
    leave other rules than were recorded, or what was to replace them beside them."""
    return msgspec.structs.replace(found, program="", laying=site.program, settings=site.settings_text)


def _note(
    site: Site, found: Foundation, live: Laid, backend: BackendName, *, judge_anew: Sequence[Endpoint] = ()
) -> None:
    """A crash between the laying and the end of `up` must find the rules that are live on record, and whose flows they
    have yet to judge."""
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found.with_laid(live, backend)))
        if judge_anew:
            journal_new_versions(site, judge_anew)
