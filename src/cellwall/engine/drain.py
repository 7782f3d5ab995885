"""Draining leases: an address is free again when its link is gone and its flows are purged.

Until then nothing depends on it: a flow that a former endpoint's policy version decided is dropped by the orphan
rule, whoever holds the address. Purging is what gives clients of a re-published port a fresh start. It scans the
conntrack table once per policy version, and deleting links takes the kernel tens of milliseconds, so both wait until
enough has gathered, or somebody needs the addresses.
"""

from cellwall.engine.site import Site

_WORTH_A_PURGE = 32
_WORTH_A_REAP = 64


def collect_drained(site: Site, *, everything: bool = False) -> int:
    """Free what has drained; returns how many addresses came free. `everything`: now, whatever it costs."""
    draining = site.journal.draining()
    if not everything and len(draining) < _WORTH_A_PURGE:
        return 0
    if everything or len(draining) >= _WORTH_A_REAP:
        site.links.reap()
    gone = [
        endpoint
        for endpoint in draining
        if (link := site.links.find(endpoint.host_link)) is None or link.index != endpoint.host_index
    ]
    if not gone:
        return 0
    site.rules.purge_flows(
        generation for endpoint in gone for generation in (*endpoint.past_generations, endpoint.generation)
    )
    with site.journal.transaction():
        site.journal.delete_draining(endpoint.address4 for endpoint in gone)
    return len(gone)
