"""Reconcile: make live what the journal says, exactly the difference; status: only tell it.

Beyond what `recover` does at every operation: rules, bridge, kernel settings, elements, bridge ports, orphaned links
and namespaces, endpoints that nobody is behind any more, addresses that drained.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain

import msgspec

from cellwall.engine.attachments.dead import abandoned_endpoints, detach_vanished, evict_abandoned
from cellwall.engine.attachments.detach import detach_endpoints, port_plan
from cellwall.engine.attachments.drain import collect_drained
from cellwall.engine.contracts import ObservedLink
from cellwall.engine.figures import unnoted_notes
from cellwall.engine.node.foundation import lay_foundation
from cellwall.engine.node.mtu import repair_mtu
from cellwall.engine.node.owning import unowned_notes
from cellwall.engine.policies.kept import try_to_keep_policies, unkept_policies
from cellwall.engine.policies.versions import repair_endpoints
from cellwall.engine.ports.bind_addresses import unreached_bindings
from cellwall.engine.ports.captures import captured_listeners
from cellwall.engine.readiness import take_backend
from cellwall.engine.repair.drift import endpoint_drift, lost, node_drift, port_drift, rule_drift, seen_drift
from cellwall.engine.repair.left_closed import closed_warnings
from cellwall.engine.repair.orphans import delete_orphans, foreign_ports, orphaned_links, orphaned_namespaces
from cellwall.engine.repair.recover import recover
from cellwall.engine.repair.shared_users import shared_users
from cellwall.engine.repair.strangers import open_strangers, shut_strangers
from cellwall.engine.requests import Reconciled, Status
from cellwall.engine.site import Foundation, Site
from cellwall.errors import Dismissed, KernelError, printable
from cellwall.model.endpoint import Endpoint


def reconcile(site: Site, seen: Sequence[str] | None = None) -> Reconciled:
    """Repair; the caller holds the writer lock. A second call right after finds nothing. `seen`: what a comparison of
    the node found just now, which is not made again."""
    before = site.foundation()
    repaired = list(seen or ()) if before is None or seen is not None else seen_drift(site, before)
    report = lay_foundation(site)
    found = site.foundation()
    assert found is not None
    if report.changed and not repaired:
        repaired.append("the node was not up" if before is None else "the foundation was not as configured")
    repaired += recover(site)
    repaired += [_unkept(tenant) for tenant in try_to_keep_policies(site)]
    repaired += repair_endpoints(site)
    repaired += evict_abandoned(site)
    repaired += [f"detached {gone.key}: its namespace or link is gone" for gone in detach_vanished(site)]
    repaired += _repair_ports(site, found)
    repaired += delete_orphans(site)
    collect_drained(site)
    repaired += shut_strangers(site, found)  # also a port of ours under another name, which no drained endpoint has now
    return Reconciled(tuple(repaired))


def repair(site: Site, found: Foundation, *, unseen: bool) -> tuple[str, ...]:
    """`reconcile` where there is something to repair, for who does it over and over: `found` is the foundation of now,
    `unseen` spares the comparison, as does a wall of which a flush took anything away, before it or meanwhile. A
    process that lives long must not lay its own version over a newer one's."""
    if not found.is_of(site.program):
        raise Dismissed(f"version {found.program} of the program laid the wall: this one has had its day")
    closed = site.backend.close_unjudged(found.laid)  # first of all: that is open until it is repaired
    seen: tuple[str, ...] | None = None
    owned = site.backend.is_owned()
    if not unseen and site.backend.is_entire() and site.current() is not None:
        steps = [*drift_while_entire(site, found)]
        if not any(step.drift for step in steps):
            site.in_force.compared |= owned
            return ()
        seen = None if steps[-1].flushed else tuple(steps[0].drift)
    closed |= site.backend.close_unjudged(found.laid)  # what was taken away while it was compared
    return (*(["closed: what judges was gone"] if closed else []), *reconcile(site, seen).repaired)


def resume(site: Site) -> tuple[str, ...]:
    """What a process that keeps the node begins with: whatever the one before it, of any version, had begun is finished
    or undone, and what differs is repaired."""
    anew = ["the foundation was another program's, or not this node's by now"] if site.current() is None else []
    if anew:
        lay_foundation(site)
    found = site.foundation()
    assert found is not None
    take_backend(site, found)
    return (*anew, *recover(site), *repair(site, found, unseen=False))


def close_unjudged(site: Site, found: Foundation) -> bool:
    """What `repair` begins with, alone and without the writer lock. A laying, of whatever version, has the wall on
    record as in doubt before its first change, and leaves at no moment what vouches without what judges: what is closed
    is of a wall that this version laid or lays, in the form that was `found`, or nothing is. The bridge is shut first,
    which waits for nobody's rules, and let go where it comes out that the wall was laid meanwhile."""

    def settled() -> bool:
        now = site.foundation()
        return now is not None and now.is_known_to(site.program) and _form(now) == _form(found)

    done: list[bool] = []

    def shut() -> None:
        if found.latched != "no" and not done:
            with suppress(KernelError):  # the bridge is gone
                site.links.shut_latch(found.bridge_index)
                done.append(True)

    closed = site.mechanism(found.backend).close_unjudged(found.laid, settled=settled, shut=shut)
    if done and not closed:
        site.links.ensure_latch(found.bridge_index, site.settings.mark, frames=found.latched == "both ways")
    return closed


def _form(found: Foundation) -> tuple[str, str]:
    return found.backend, found.details


def _unkept(tenant: str) -> str:
    return f"the policy of {tenant} would be another after a boot"


def _stranger_warnings(
    site: Site, found: Foundation, links: Sequence[ObservedLink], speaking: Container[int]
) -> Iterator[str]:
    for link in foreign_ports(site, found, links):
        quiet = "" if link.index in speaking else "; it speaks to nobody"
        yield f"{printable(link.name)} is on the bridge, put there by somebody else{quiet}"


def status(site: Site) -> Status:
    """The difference between desired and live, without touching either."""
    found = site.foundation()
    drift: list[str] = []
    of_node: list[str] = []
    warnings: Sequence[str] = ()
    if found is not None:
        of_node = node_drift(site, found)
        present = _observe(site, found)
        warnings = _live_warnings(site, found, present)
        drift += (*of_node, *rule_drift(site, found), *chain.from_iterable(_live_drift(site, found, present)))
    elif site.journal.count():
        drift.append("endpoints are on record, and no wall was laid that holds them")
    drift += _unrecorded(site)
    return Status(
        up=found is not None,
        endpoints=site.journal.count() - site.journal.pooled_count(),
        ready=site.journal.pooled_count(),
        pending=len(site.journal.draining.addresses()),
        drift=tuple(drift),
        node_drift=tuple(of_node),
        warnings=tuple(warnings),
        notes=(*shared_users(site, _claimed(site)), *unowned_notes(site, found), *unnoted_notes(site, found)),
        mechanism="" if found is None else str(site.mechanism(found.backend).holder(found.laid)),
    )


class Compared(msgspec.Struct, frozen=True):
    """A step of a comparison. `flushed`: it is the last one, and its drift is what a flush took away."""

    drift: Sequence[str]
    flushed: bool = False


def drift_while_entire(site: Site, found: Foundation) -> Iterator[Compared]:
    """What `status` calls drift, step by step and the node's first, for who would repair it: without the names of rules
    that were changed. It ends where a flush took anything away by the end of a step, and says that alone: sandboxes are
    cut off from then on, and of a thousand a comparison takes some hundred milliseconds."""
    for lines in _steps(site, found):
        if gone := lost(site):
            yield Compared(gone, flushed=True)
            return
        yield Compared(lines)


def _steps(site: Site, found: Foundation) -> Iterator[Sequence[str]]:
    yield node_drift(site, found)
    yield from _live_drift(site, found, _observe(site, found))
    yield [*_unrecorded(site)]


class _Present(msgspec.Struct, frozen=True):
    """What is compared, of endpoints and links. `speaking`: `open_strangers`."""

    attached: Sequence[Endpoint]
    links: Sequence[ObservedLink]
    speaking: Mapping[int, str]


def _observe(site: Site, found: Foundation) -> _Present:
    return _Present(site.journal.endpoints("attached"), site.links.observe(), open_strangers(site, found))


def _live_drift(site: Site, found: Foundation, present: _Present) -> Iterator[Sequence[str]]:
    """What differs of endpoints and links, in steps."""
    try:
        yield site.backend.drift(present.attached)
    except KernelError as error:
        yield [f"sets cannot be read: {error}"]
    yield [*chain.from_iterable(endpoint_drift(site, found, present.attached, present.links).values())]
    yield [f"unknown link {link.name}" for link in orphaned_links(site, present.links)]
    yield [*present.speaking.values()]


def _live_warnings(site: Site, found: Foundation, present: _Present) -> list[str]:
    """What an operator should know."""
    current = site.current() is not None
    return [
        *([] if current else ["the node's addresses, routes or configuration changed since `up`"]),
        *found.gaps,
        *found.overlaps,
        *captured_listeners(site, found, present.attached),
        *unreached_bindings(site, present.attached),
        *_stranger_warnings(site, found, present.links, present.speaking),
        *closed_warnings(site, present.links),
    ]


def _unrecorded(site: Site) -> Iterator[str]:
    """What is not as the record has it, whether or not a wall was laid."""
    yield from (f"{endpoint.key}: the process that ran it is gone" for endpoint in abandoned_endpoints(site))
    yield from (f"unknown namespace {path}" for path in orphaned_namespaces(site))
    if site.journal.unfinished():
        yield "an operation was interrupted"
    yield from map(_unkept, unkept_policies(site))


def _claimed(site: Site) -> list[Endpoint]:
    """Those that somebody has."""
    return [endpoint for endpoint in site.journal.endpoints("attached") if not endpoint.key.pooled]


def _repair_ports(site: Site, found: Foundation) -> list[str]:
    attached = site.journal.endpoints("attached")
    links = {link.name: link for link in site.links.observe()}
    drift = endpoint_drift(site, found, attached, links.values())
    for endpoint in attached:
        if endpoint.key not in drift:
            continue
        if endpoint.key.pooled:  # nobody has it, so nobody misses it: another one is made sooner than it is trusted
            detach_endpoints(site, [endpoint.key])
            continue
        detached = bool(port_drift(found, endpoint, links.get(endpoint.host_link)))
        if detached:
            site.links.enslave(endpoint.host_index, found.bridge_index)
        site.links.relock_port(port_plan(found, endpoint))
        repair_mtu(site, found, endpoint, links.get(endpoint.host_link))
        if detached:
            site.links.open_port(endpoint.host_index)
    return [*chain.from_iterable(drift.values())]
