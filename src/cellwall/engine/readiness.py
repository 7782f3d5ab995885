"""What stands before an operation begins: a foundation that holds, and nothing half done by a process that is gone.

Modules that only a first `up` or a repair needs are imported where that happens: a container runtime starts a process
for each attach.
"""

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from cellwall.engine.attachments.drain import settle_closed, settle_few
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, Conflict, KernelError
from cellwall.model.endpoint import PortBinding

T = TypeVar("T")


def make_ready(site: Site, bindings: Sequence[PortBinding] = ()) -> Foundation:
    """The foundation, laid or refreshed where it does not hold, with rules for these bindings; and whatever an
    earlier process left half done, or for later, is finished. The caller holds the writer lock."""
    found = site.current()
    if found is None:
        from cellwall.engine.node.foundation import lay_foundation

        lay_foundation(site)
        found = standing(site)
    take_backend(site, found)
    if bindings:
        from cellwall.engine.ports.expose import ensure_forms

        ensure_forms(site, found, bindings)
        found = standing(site)
    _finish_interrupted(site)
    settle_closed(site)
    return found


def ready_at_once(site: Site) -> Foundation | None:
    """The foundation, where it holds and nothing is left half done; None, and nothing is done, where `make_ready` has
    something to do that may take a while."""
    found = site.current()
    if found is None:
        return None
    interrupted, draining = site.journal.unsettled()
    if interrupted or not settle_few(site, draining):
        return None
    take_backend(site, found)
    return found


def standing(site: Site) -> Foundation:
    """The foundation on record, whether or not it still holds; Conflict on a node that is not up."""
    found = site.foundation()
    if found is None:
        raise Conflict("the node is not up")
    return found


def over_lost_tables(site: Site, found: Foundation, act: Callable[[Foundation], T]) -> T:
    """What `act` gives; where it failed because somebody had flushed our tables, or our sets, these are laid anew and
    it is done once more. Nobody compares them beforehand: whoever adds endpoints has a glance at them first."""
    try:
        return act(found)
    except KernelError as error:
        if error.errno != errno.ENOENT or site.backend.stands():
            raise
    from cellwall.engine.node.foundation import lay_foundation

    lay_foundation(site)
    _finish_interrupted(site)  # what waited for a wall
    return act(standing(site))


def make_closable(site: Site, *, in_force: bool) -> None:
    """The foundation as it was laid, whether or not it still holds: closing must work on a node whose default route is
    gone or whose configuration is wrong by now.

    But one that a process left in doubt, or that another program laid, is laid first where the site's settings are
    those `in_force`: our tables may be without a rule, or have other sets. Where that cannot be done, elements are
    deleted in the copy too, which may be all that holds.

    None is laid where there is none: a node that `up` refused, or where it died, must let go of what it has on record.
    """
    found = site.foundation()
    if found is None:
        _finish_interrupted(site)
        return
    if found.program == site.program:
        take_backend(site, found)
    elif not (in_force and _mended(site)):
        take_backend(site, found)
        site.backend.take_remains()
    _finish_interrupted(site)


def over_other_sets(site: Site, act: Callable[[], T], *, in_force: bool) -> T:
    """What `act` gives; where the kernel found that elements do not fit the sets that stand, which are another
    program's, or the wall does not stand and a withdrawal gives its endpoint another version, the wall is laid anew and
    it is done once more."""
    try:
        return act()
    except KernelError as error:
        if site.foundation() is None:
            raise Conflict("the node is not up") from error
        lost = error.errno == errno.ENOENT and not site.backend.stands()
        if not (lost or error.errno == errno.EINVAL) or not in_force:
            raise
    from cellwall.engine.node.foundation import lay_foundation

    lay_foundation(site)
    return act()


def _mended(site: Site) -> bool:
    from cellwall.engine.node.foundation import lay_foundation

    with suppress(CellwallError, OSError):  # whatever keeps it from being laid: closing goes on
        lay_foundation(site)
        return True
    return False


def leave_bare(site: Site) -> None:
    """A request that is refused changes nothing: a wall that it brought up on its way goes with it."""
    from cellwall.engine.node.foundation import remove_foundation

    if site.foundation() is not None and not site.journal.count():
        with suppress(CellwallError, OSError):
            remove_foundation(site)


def take_backend(site: Site, found: Foundation | None) -> None:
    """What endpoints change from now on is the wall of this foundation."""
    if found is not None:
        site.in_force.name = found.backend
        site.backend.take(site.settings, found.laid)


def _finish_interrupted(site: Site) -> None:
    if site.journal.interrupted():
        from cellwall.engine.repair.recover import recover

        recover(site)
