"""The node's rules, and the record of them: which are live, whose flows they have yet to judge, and that they are in
doubt while they change. How they are laid is the backend's."""

from collections.abc import Sequence

import msgspec

from cellwall.compile.usage import Usage
from cellwall.engine.backend import Laid, Wanted
from cellwall.engine.site import Foundation, Site
from cellwall.engine.versions import enforce_new_versions, journal_new_versions
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts


def setup_security_chain(site: Site, wanted: Wanted) -> bool:
    """Lay B9-FORWARD and everything around it, at no moment less; whether anything had to be laid. Open flows are
    judged again where it is another policy."""
    before = site.foundation()
    attached = site.journal.endpoints("attached")
    laying = site.backend.plan(wanted, attached, None if before is None else before.laid)
    if laying is None:
        return False
    if before is None:
        laying.lay()
        return True
    _note(site, _doubted(site, before), before.laid if laying.keeps else Laid("", "", "", before.usage))
    try:
        laying.lay()
    except CellwallError:
        if laying.keeps:
            _note(site, before, before.laid)
        raise
    live = Laid(laying.rules, laying.sets, site.backend.shape(), wanted.usage)
    judge_anew = attached if laying.judges_anew else ()
    _note(site, _doubted(site, before), live, judge_anew=judge_anew)
    if judge_anew:
        enforce_new_versions(site)
    return True


def remove_rules(site: Site, found: Foundation | None) -> None:
    """Nothing of the wall is left, whatever stood of it. Idempotent."""
    usage, uplink = (found.usage, found.uplink) if found else (Usage(), "")
    site.backend.remove(Wanted(site.settings, NodeFacts(), usage, uplink))


def _doubted(site: Site, found: Foundation) -> Foundation:
    """A foundation that does not hold, whoever looks, and that only these settings may mend: rules that follow them
    may be live already. Until what is laid now is on record, whoever comes next finds it so, and lays it: a crash may
    leave other rules than were recorded, or what was to replace them beside them."""
    return msgspec.structs.replace(found, program="", settings=site.settings_text)


def _note(site: Site, found: Foundation, live: Laid, *, judge_anew: Sequence[Endpoint] = ()) -> None:
    """A crash between the laying and the end of `up` must find the rules that are live on record, and whose flows they
    have yet to judge."""
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found.with_laid(live)))
        if judge_anew:
            journal_new_versions(site, judge_anew)
