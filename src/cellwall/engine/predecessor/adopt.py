"""Taking over a bridge that beta9's own networking left, with the containers on it. The order of what is done.

Before the wall is laid: the links get names that the rules know, the endpoints go on record as attached, and the bridge
is claimed; so the wall is laid with all of them in it, and their open flows go on. After it: ports locked, sandboxes
told the gateway, and only then do the rules go that let everything pass. A death before the bridge is claimed leaves
it as it was, and the next `up` begins again; one after it leaves a record, and the next `up` goes on. A node that
cannot be walled is refused before anything of it is taken.
"""

import logging
from collections.abc import Container

import msgspec

from cellwall.engine.attachments.attach import sandbox_plan
from cellwall.engine.attachments.detach import port_plan
from cellwall.engine.contracts import ObservedLink
from cellwall.engine.node.foundation import lay_foundation
from cellwall.engine.node.mechanisms import choose
from cellwall.engine.node.mtu import repair_mtu
from cellwall.engine.node.refusals import judge_place
from cellwall.engine.policies.kept import take_over_policies
from cellwall.engine.predecessor.containers import Adoption, addresses_of, decide, without_lists
from cellwall.engine.predecessor.former_policies import blocks
from cellwall.engine.predecessor.former_rules import removal, removals
from cellwall.engine.predecessor.remains import Predecessor
from cellwall.engine.repair.left_closed import record_closed
from cellwall.engine.repair.recover import recover
from cellwall.engine.repair.strangers import shut_strangers
from cellwall.engine.requests import UpReport
from cellwall.engine.site import Foundation, Site
from cellwall.errors import CellwallError, Conflict
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.policy import OPEN

_log = logging.getLogger("cellwall")
_RECORD = "adoption"


def bring_up(site: Site, predecessor: Predecessor) -> UpReport:
    """Lay the foundation, over what beta9 left where the bridge is its own, and finish what others began. The caller
    holds the writer lock. Idempotent."""
    _begin(site, predecessor)
    report = lay_foundation(site)
    recover(site)
    _finish(site, predecessor)
    if (found := site.foundation()) is not None:
        shut_strangers(site, found)
    return report


def _begin(site: Site, predecessor: Predecessor) -> None:
    """Where the bridge is beta9's, take it and what is on it. Any other stays, for the foundation to refuse."""
    name = site.settings.network.bridge
    if site.foundation() is not None:
        return
    try:
        site.links.find_bridge(name)
    except Conflict:
        bridge = site.links.find(name)
        if bridge is not None and bridge.kind == "bridge" and not bridge.alias:
            _take(site, predecessor, bridge)


def _finish(site: Site, predecessor: Predecessor) -> None:
    """What is left to do once the wall stands. Idempotent."""
    found = site.foundation()
    if site.journal.get(_RECORD) is None or found is None:
        return
    adopted = _recorded(site)
    for endpoint in site.journal.endpoints("attached"):
        if endpoint.key in adopted:
            _settle(site, found, endpoint)
    bridge = site.links.find(found.bridge)
    if bridge is not None:
        rules, judged = predecessor.observe(bridge).rules, _judged_addresses(site, adopted)
        stood_in = [rule for rule in rules if blocks(rule, judged)]
        # Under iptables the chain of that name is ours by now.
        replaced = removals(rules, found.bridge, found.uplink, chain=site.backend.name == "nftables")
        predecessor.remove((*replaced, *map(removal, stood_in)))
    with site.journal.transaction():
        site.journal.drop(_RECORD)


def _judged_addresses(site: Site, adopted: Container[EndpointKey]) -> set[str]:
    """Of those that are under a policy in place of beta9's rules."""
    under = [one for one in site.journal.endpoints("attached") if one.key in adopted and one.tiers.endpoint != OPEN]
    return {address for endpoint in under for address in addresses_of(endpoint)}


def _take(site: Site, predecessor: Predecessor, bridge: ObservedLink) -> None:
    remains = predecessor.observe(bridge)
    adoption = decide(remains, site.settings)
    if adoption is None:
        return
    judge_place(site, site.node.observe(), None)
    if choose(site, None).name == "iptables":
        adoption = without_lists(adoption)
    names = {port.index: port.name for port in remains.ports}
    for endpoint in adoption.endpoints:
        if names[endpoint.host_index] != endpoint.host_link:
            predecessor.rename(endpoint.host_index, endpoint.host_link)
    _journal(site, adoption)
    predecessor.claim(bridge.index)
    for endpoint in adoption.endpoints:
        _log.info("%s at %s is taken over from beta9", endpoint.key, endpoint.address4)
    for port in adoption.closed:
        _log.warning("%s stays closed: %s", port.name, port.reason)
    for warning in adoption.warnings:
        _log.warning("%s", warning)


def _journal(site: Site, adoption: Adoption) -> None:
    """In one transaction, and over what an attempt that died has left."""
    take_over_policies(site)
    with site.journal.transaction():
        site.journal.delete_endpoints(_recorded(site))
        generations = site.next_versions(len(adoption.endpoints))
        endpoints = [
            msgspec.structs.replace(endpoint, generation=generation, tenant_number=generation)
            for endpoint, generation in zip(adoption.endpoints, generations, strict=True)
        ]
        site.journal.write_endpoints(endpoints, "attached")
        record_closed(site, adoption.closed, {endpoint.host_index for endpoint in endpoints})
        site.journal.put(_RECORD, msgspec.json.encode([endpoint.key for endpoint in endpoints]))


def _recorded(site: Site) -> set[EndpointKey]:
    return set(msgspec.json.decode(site.journal.get(_RECORD) or b"[]", type=list[EndpointKey]))


def _settle(site: Site, found: Foundation, endpoint: Endpoint) -> None:
    link = site.links.find(endpoint.host_link)
    if link is None or link.index != endpoint.host_index:
        return  # it ended meanwhile, and reconcile detaches it
    site.links.relock_port(port_plan(found, endpoint))
    repair_mtu(site, found, endpoint, link)
    try:
        with site.namespaces.opened(endpoint.netns) as namespace:
            plan = msgspec.structs.replace(sandbox_plan(site, endpoint), mac=endpoint.mac)
            site.links.configure_sandbox(plan, namespace.fd)
    except (CellwallError, OSError) as error:  # whoever is root in there may have made it impossible
        _log.warning("%s keeps the addresses, routes and MAC that it has: %s", endpoint.key, error)
    site.links.open_port(endpoint.host_index)
