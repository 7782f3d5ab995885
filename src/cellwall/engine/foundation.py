"""`up`, `down`, `uninstall`: what stands on the node before any endpoint does.

Order, so that no moment is open: rules first (they match the names of links that do not exist yet), then the
bridge, then forwarding, then bridge-nf-call. A setting's former value is journalled before it is changed and is
what `uninstall` puts back.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_network

import msgspec

from cellwall.compile.assemble import ipv6_enabled, uplink_of
from cellwall.compile.resolvers import choose_resolvers
from cellwall.compile.usage import Usage, usage_of
from cellwall.engine import kernel_settings as kernel
from cellwall.engine.desired import desired_ruleset, digests, with_endpoints
from cellwall.engine.requests import UpReport
from cellwall.engine.site import Foundation, Site
from cellwall.engine.versions import enforce_new_versions, journal_new_versions
from cellwall.errors import CellwallError, Conflict, InvalidSpec, Unsupported
from cellwall.lower.nft.sets import schema_of
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.names import SPARE_TABLE
from cellwall.ruleset.render import render_refresh, render_removal, render_replacement
from cellwall.ruleset.select import renamed, without_chains
from cellwall.ruleset.types import Ruleset

_log = logging.getLogger("cellwall")
_NOT_BRIDGED = "br_netfilter is not available: bridge-nf-call-iptables stays off; the pins carry layer 2 alone"


def lay_foundation(site: Site, extra: Usage | None = None) -> UpReport:
    """Bring the node to what the configuration says; the caller holds the writer lock. Idempotent. Where it fails on a
    node that was not up, it leaves the node as it was.

    `extra`: forms of exposure that rules must exist for although no binding uses them yet.
    """
    before = site.foundation()
    facts = kernel.original_facts(site, site.node.observe())
    uplink = _uplink(site, facts, before)
    _refuse_overlaps(site, facts, before)
    site.links.find_bridge(site.settings.network.bridge)  # whose it is, before the first rule: the bridge comes later
    if before is not None and before.network != network_digest(site):
        _leave_former_network(site)
        before, facts = None, kernel.original_facts(site, site.node.observe())
    usage = usage_of(binding for endpoint in site.journal.endpoints("attached") for binding in endpoint.bindings)
    usage = usage.union(extra or Usage()).union(before.usage if before else Usage())
    try:
        return _lay(site, facts, usage, uplink, before)
    except (CellwallError, OSError):
        if before is None:
            with suppress(CellwallError, OSError):  # what cannot go now is found and taken over by the next `up`
                remove_foundation(site)
        raise


def _lay(site: Site, facts: NodeFacts, usage: Usage, uplink: str, before: Foundation | None) -> UpReport:
    ipv6 = ipv6_enabled(site.settings, facts)
    loaded = setup_security_chain(site, facts, usage, uplink)
    mtu = site.settings.network.mtu or facts.uplink_mtu
    bridge_index = site.links.ensure_bridge(site.settings.network, ipv6=ipv6, mtu=mtu)
    fingerprint = site.node.fingerprint()
    again = kernel.original_facts(site, site.node.observe())
    loaded = setup_security_chain(site, again, usage, uplink) or loaded
    changed = kernel.apply_settings(site, uplink, ipv6=ipv6)
    bridged = kernel.enable_bridge_netfilter(site)
    rules, sets = digests(desired_ruleset(site.settings, again, usage, uplink))
    found = Foundation(
        fingerprint=fingerprint,
        settings=site.settings_digest,
        network=network_digest(site),
        bridge=site.settings.network.bridge,
        program=site.program,
        uplink=uplink,
        bridge_index=bridge_index,
        mtu=mtu,
        ipv6=ipv6,
        usage=usage,
        rules=rules,
        sets=sets,
        shape=site.rules.shape(),
        bridge_netfilter=bridged,
    )
    dns, origin = choose_resolvers(site.settings, again, ipv6=ipv6)
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found))
        site.journal.put("dns", msgspec.json.encode([str(address) for address in dns]))
    warnings = _warnings(site, again, found, origin)
    for warning in warnings:  # here, because an attach that lays the foundation has nobody else to tell
        _log.warning("%s", warning)
    return UpReport(loaded or changed or before != found, uplink, ipv6, dns, warnings)


def setup_security_chain(site: Site, facts: NodeFacts, usage: Usage, uplink: str) -> bool:
    """Load B9-FORWARD and everything around it, at no moment less; whether anything had to be loaded.

    Live rules that are exactly what the last `up` left are refreshed, their sets kept and new ones added, in one
    transaction; anything else is replaced whole, with the elements of every attached endpoint. Open flows are judged
    again by the new rules, but for such as differ in the forms of exposure alone.
    """
    ruleset = desired_ruleset(site.settings, facts, usage, uplink)
    rules, sets = digests(ruleset)
    before = site.foundation()
    shape = site.rules.shape()
    intact = before is not None and shape != "" and shape == before.shape
    site.rules.schema = schema_of(usage)
    if before is not None and intact and before.rules == rules:
        return False
    attached = site.journal.endpoints("attached")
    filled = with_endpoints(ruleset, attached)
    if before is None:
        _replace_rules(site, filled, under_endpoints=bool(attached))
        return True
    former = digests(desired_ruleset(site.settings, facts, before.usage, uplink))
    judge_anew = attached if not intact or before.rules != former[0] else ()
    if intact and before.sets == former[1] and _has_sets_of(before, attached):
        _doubt_rules(site, before)
        try:
            site.rules.load(render_refresh(filled))
        except CellwallError:
            _note_rules(site, before, before.rules, before.sets, before.usage, shape=before.shape)
            raise
    else:
        _doubt_rules(site, msgspec.structs.replace(before, rules="", sets="", shape=""))
        _replace_rules(site, filled, under_endpoints=bool(attached))
    _note_rules(site, _doubted(site, before), rules, sets, usage, judge_anew=judge_anew)
    if judge_anew:
        enforce_new_versions(site)
    return True


def _has_sets_of(before: Foundation, attached: Sequence[Endpoint]) -> bool:
    """No endpoint has an element in a set that is missing."""
    used = usage_of(binding for endpoint in attached for binding in endpoint.bindings)
    return before.usage.union(used) == before.usage


def _replace_rules(site: Site, ruleset: Ruleset, *, under_endpoints: bool) -> None:
    """Our tables anew, whatever stands under their name. Under endpoints a copy stands beside them meanwhile, and
    sets are full before the first rule looks anything up in them.

    One transaction is not enough. The kernel puts a new base chain before the old one, so a packet that meets the end
    of the transaction between the two finds both empty; and an interval set that is made in a transaction is filled
    after the rules of the same transaction came into force (linux/net/netfilter/nf_tables_api.c, nf_tables_commit).
    A flow that found the floor empty is stamped as accepted, and goes on: 38,927 of 379,698 denied datagrams
    passed during 40 replacements in one transaction each.
    """
    copy = renamed(ruleset, SPARE_TABLE)
    if not under_endpoints:
        site.rules.load(render_removal(copy) + render_replacement(ruleset))
        return
    for tables in (copy, ruleset):
        site.rules.load(render_replacement(without_chains(tables)))
        site.rules.load(render_refresh(tables))
    site.rules.load(render_removal(copy))


def enable_bridge_netfilter(site: Site) -> bool:
    """Let bridged frames traverse the IP hooks too, once the pins are in; False, with a warning, where the kernel
    has no br_netfilter. Nothing relies on it: the pins and the isolated ports carry layer 2."""
    if kernel.enable_bridge_netfilter(site):
        return True
    _log.warning("%s", _NOT_BRIDGED)
    return False


def remove_foundation(site: Site) -> None:
    """Rules, bridge and settings as they were before the first `up`; the caller has detached everything."""
    found = site.foundation()
    network = site.settings.network
    site.links.delete_bridge(msgspec.structs.replace(network, bridge=found.bridge) if found else network)
    kernel.restore_settings(site)
    facts = NodeFacts(boot_id="")
    ruleset = desired_ruleset(site.settings, facts, found.usage if found else Usage(), found.uplink if found else "")
    site.rules.load(render_removal(ruleset) + render_removal(renamed(ruleset, SPARE_TABLE)))
    with site.journal.transaction():
        site.journal.drop("foundation")


def network_digest(site: Site) -> str:
    """Of everything about the network that endpoints carry in their addresses and names."""
    return sha256(repr(site.settings.network).encode()).hexdigest()[:32]


def _leave_former_network(site: Site) -> None:
    """A network whose own parameters changed cannot be refreshed: the addresses of its endpoints would lie. Without
    endpoints it is removed, to be laid anew; not before everything else was judged, so that a configuration that is
    refused leaves the wall of the one before."""
    if site.journal.count():
        raise Conflict("network: its configuration changed while endpoints are attached; detach them first")
    remove_foundation(site)


def _doubted(site: Site, found: Foundation) -> Foundation:
    """A foundation that does not hold, whoever looks, and that only these settings may mend: rules that follow them
    may be live already."""
    return msgspec.structs.replace(found, program="", settings=site.settings_digest)


def _doubt_rules(site: Site, found: Foundation) -> None:
    """Until what is loaded now is on record, whoever comes next finds a foundation that does not hold, and lays it: a
    crash may leave other rules than were recorded, or the copy beside them."""
    _note_rules(site, _doubted(site, found), found.rules, found.sets, found.usage, shape=found.shape)


def _note_rules(
    site: Site,
    before: Foundation,
    rules: str,
    sets: str,
    usage: Usage,
    *,
    shape: str | None = None,
    judge_anew: Sequence[Endpoint] = (),
) -> None:
    """A crash between loading and the end of `up` must find the rules that are live on record, and whose flows they
    have yet to judge."""
    live = site.rules.shape() if shape is None else shape
    found = msgspec.structs.replace(before, rules=rules, sets=sets, usage=usage, shape=live)
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found))
        if judge_anew:
            journal_new_versions(site, judge_anew)


def _uplink(site: Site, facts: NodeFacts, before: Foundation | None) -> str:
    uplink = uplink_of(site.settings, facts)
    if not uplink and before is not None:
        return before.uplink  # the default route is gone: nothing leaves by another interface meanwhile
    if not uplink:
        raise Unsupported("node.interface: the node has no default route, and no interface is configured")
    if uplink == site.settings.network.bridge:
        raise InvalidSpec("node.interface", uplink, "is the bridge of the network")
    if site.links.find(uplink) is None:
        raise InvalidSpec("node.interface", uplink, "does not exist")
    return uplink


def _refuse_overlaps(site: Site, facts: NodeFacts, before: Foundation | None) -> None:
    network = site.settings.network
    ours = {network.bridge, before.bridge if before else network.bridge}
    for route in facts.on_link:
        other = ip_network(route.prefix, strict=False)
        own = network.subnet4 if other.version == 4 else network.subnet6
        if route.interface not in ours and other.prefixlen and own.overlaps(other):
            field = f"network.subnet{other.version}"
            raise Conflict(f"{field}: {own}: overlaps {other} on interface {route.interface}")


def _warnings(site: Site, facts: NodeFacts, found: Foundation, origin: str) -> tuple[str, ...]:
    warnings = []
    if not found.bridge_netfilter:
        warnings.append(_NOT_BRIDGED)
    if not found.ipv6 and site.settings.ipv6 != "off":
        reason = "cannot translate it" if facts.features.ipv6 else "has it disabled"
        warnings.append(f"no IPv6 in sandboxes: the kernel {reason}")
    if not uplink_of(site.settings, facts):
        warnings.append(f"the default route is gone; {found.uplink} stays the only way out")
    if origin != "network.dns" and not origin.startswith("the node"):
        warnings.append(f"sandboxes are told {origin}")
    return tuple(warnings)
