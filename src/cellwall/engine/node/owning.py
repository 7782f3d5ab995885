"""Our tables as one process's alone, for who lives long: what flushes all rules then passes them over.

Where it cannot be (an old kernel, a wall in iptables), the wall is as it is without a daemon: repaired when somebody
takes it away, and latched until then.
"""

from cellwall.compile.assemble import uplink_of
from cellwall.compile.usage import Usage
from cellwall.engine.nftables.desired import desired_ruleset
from cellwall.engine.node.kernel_settings import original_facts
from cellwall.engine.site import Foundation, Site


def own_rules(site: Site, descriptor: int | None = None) -> str:
    """From now on our tables are this process's alone to write, for as long as a descriptor of its socket is open.
    "" where it is so, else why not. Tables that were laid by nft are drift from now on, which laying them repairs. What
    was taken out of tables that a former owner left is looked for by each change until a repair.
    `descriptor`: the socket of an owner before, to go on with. Idempotent."""
    found = site.foundation()
    if descriptor is not None or not site.rules.is_owned():
        site.in_force.compared = found is None  # what is laid from then on is laid by its owner
    if descriptor is not None and site.rules.go_on(descriptor):
        lacks = ""  # whatever is missing by now, our tables take nothing but by this socket
    else:
        lacks = site.mechanism("nftables").refusal(site.settings)
    if lacks:
        site.rules.unowned = lacks
        return lacks
    facts = original_facts(site, site.node.observe())
    usage, uplink = (found.usage, found.uplink) if found else (Usage(), uplink_of(site.settings, facts) or "lo")
    return site.rules.own(desired_ruleset(site.settings, facts, usage, uplink))


def unowned_notes(site: Site, found: Foundation | None) -> tuple[str, ...]:
    """That our tables have no owner although they were to have one, a line."""
    if found is None or found.backend != "nftables" or not site.rules.unowned:
        return ()
    return (f"no flush of rules passes our tables over: {site.rules.unowned}",)
