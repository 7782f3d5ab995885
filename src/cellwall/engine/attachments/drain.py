"""Draining leases: an address is free again when its link is gone and its flows are purged.

Until then nothing depends on it: a flow that a former endpoint's policy version decided is dropped by the orphan
rule, whoever holds the address. Purging is what gives clients of a re-published port a fresh start.

A detach leaves three kinds of work behind, each the dearer: its link is shut and put into the reaper group by the next
operation; once enough has gathered, or somebody needs the addresses, retired links are deleted by group, which takes
the kernel tens of milliseconds, and flows are purged, which walks the conntrack table once per block of policy
versions.
"""

from collections.abc import Iterable, Sequence

from cellwall.engine.attachments.dead import vanished
from cellwall.engine.attachments.detach import port_on
from cellwall.engine.site import Site
from cellwall.model.endpoint import Endpoint

_FEW = 4
"""Links that are shut on the way: each takes 0.1 ms."""
_GATHERED = 128
"""Draining leases that are worth collecting; one operation in as many pays for it."""


def settle_closed(site: Site) -> None:
    """What detaches left behind and cannot wait any longer; the caller holds the writer lock. That links are retired is
    on record with the caller's next transaction."""
    _retire(site, site.journal.draining.unretired())
    if len(site.journal.draining.addresses()) >= _GATHERED:
        collect_drained(site)


def settle_few(site: Site, gathered: int) -> bool:
    """`settle_closed`, where so many leases drain; False, and nothing is done, where that may take a while."""
    closed = site.journal.draining.unretired() if gathered else ()
    if len(closed) > _FEW or gathered >= _GATHERED:
        return False
    _retire(site, closed)
    return True


def retire_closed(site: Site) -> None:
    """Shut the links of closed endpoints and put them into the reaper group. Nothing passes them since the detach,
    but that was the rules alone; from here on it holds without any rule."""
    closed = site.journal.draining.unretired()
    if closed:
        _retire(site, closed)
        with site.journal.transaction():
            pass  # which has it on record


def _retire(site: Site, closed: Sequence[Endpoint]) -> None:
    if closed:
        shut_links(site, closed)
        site.journal.draining.mark_retired(endpoint.address4 for endpoint in closed)


def shut_links(site: Site, endpoints: Iterable[Endpoint]) -> None:
    """Shut the links of these and put them into the reaper group. Without a bridge there is nothing to retire them
    from, and they are deleted. Idempotent."""
    found = site.foundation()
    bridge = None if found is not None else site.links.find(site.settings.network.bridge)
    index = found.bridge_index if found is not None else (0 if bridge is None else bridge.index)
    for endpoint in endpoints:
        if index:
            site.links.retire(port_on(index, endpoint), endpoint.host_link)
        elif (link := site.links.find(endpoint.host_link)) is not None and link.index == endpoint.host_index:
            site.links.delete(link)


def collect_drained(site: Site) -> int:
    """Delete retired links and free the addresses of those that are gone, now, whatever it costs; returns how many
    came free."""
    retire_closed(site)
    draining = site.journal.draining.all()
    if not draining:
        return 0
    site.links.reap()
    gone = [endpoint for endpoint in draining if vanished(site, endpoint)]
    if not gone:
        return 0
    site.flows.purge_flows(
        generation for endpoint in gone for generation in (*endpoint.past_generations, endpoint.generation)
    )
    with site.journal.transaction():
        site.journal.draining.remove(endpoint.address4 for endpoint in gone)
    return len(gone)
