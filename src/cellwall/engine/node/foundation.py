"""`up`, `down`, `uninstall`: what stands on the node before any endpoint does.

Order, so that no moment is open: rules first (they match the names of links that do not exist yet), then the
bridge and its filters, then forwarding, then bridge-nf-call. A setting's former value is journalled before it is
changed and is what `uninstall` puts back.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from cellwall.compile.assemble import ipv6_enabled, uplink_of
from cellwall.compile.resolvers import choose_resolvers
from cellwall.compile.usage import Usage, usage_of_endpoints
from cellwall.engine.attachments.room import give_back
from cellwall.engine.backend import Wanted
from cellwall.engine.node import kernel_settings as kernel
from cellwall.engine.node.mtu import resize_endpoints
from cellwall.engine.node.neighbours import place_accepts, remove_accepts
from cellwall.engine.node.refusals import judge_node, lonely_warnings, overlaps, refuse_attached
from cellwall.engine.node.rules import remove_rules, setup_security_chain
from cellwall.engine.policies.forms import forms_to_lay
from cellwall.engine.policies.kept import take_over_policies
from cellwall.engine.ports.captures import captured_services
from cellwall.engine.ports.former_flows import end_unknown_flows
from cellwall.engine.readiness import make_closable
from cellwall.engine.requests import UpReport
from cellwall.engine.site import Foundation, Latched, Site
from cellwall.errors import CellwallError
from cellwall.model.addresses import Address
from cellwall.model.facts import NodeFacts

_log = logging.getLogger("cellwall")
_NOT_BRIDGED = "br_netfilter is not available: bridge-nf-call-iptables stays off; the pins carry layer 2 alone"


def lay_foundation(site: Site, extra: Usage | None = None) -> UpReport:
    """Bring the node to what the configuration says; the caller holds the writer lock. Idempotent. Where it fails on a
    node that was not up, it leaves the node as it was.

    `extra`: forms that rules must exist for although no binding and no policy on record uses them yet.
    """
    before = site.foundation()
    if before is not None:
        site.mechanism(before.backend).close_unjudged(before.laid, ours=before.is_of(site.program))
    facts = kernel.original_facts(site, site.node.observe())
    uplink = judge_node(site, facts, before)
    if before is not None and not site.has_network_of(before):
        # A network whose own parameters changed cannot be refreshed: it is removed and laid anew. Not before everything
        # was judged, so that a configuration that is refused leaves the wall of the one before, and what stands ready.
        _leave_network(site)
        remove_foundation(site)
        before, facts = None, kernel.original_facts(site, site.node.observe())
    take_over_policies(site)
    needed = usage_of_endpoints(site.journal.endpoints("attached"))
    usage = forms_to_lay(needed.union(extra or Usage()), before, site.settings)
    try:
        return _lay(site, facts, usage, uplink, before)
    except (CellwallError, OSError):
        if before is None and not site.journal.count():
            with suppress(CellwallError, OSError):  # what cannot go now is found and taken over by the next `up`
                remove_foundation(site)
        raise


def _leave_network(site: Site) -> None:
    """What is of the network of before, and nobody's: what dead processes had begun, and sandboxes that stand ready."""
    make_closable(site, in_force=False)  # by the sets that stand; no rules anew for what goes
    refuse_attached(site)  # once more: what a dead process had begun may be a container's now
    give_back(site, site.journal.pooled_count())


def _lay(site: Site, facts: NodeFacts, usage: Usage, uplink: str, before: Foundation | None) -> UpReport:
    first = setup_security_chain(site, Wanted(site.settings, facts, usage, uplink))
    ipv6 = ipv6_enabled(site.settings, facts, carried=site.backend.carries_ipv6(facts, first.laid))
    mtu = site.link_mtu(uplink, before)
    bridge_index = _lay_bridge(site, before, mtu, ipv6=ipv6)
    unfiltered, latched = _filter_bridge(site, bridge_index, frames=site.backend.marks_frames(first.laid))
    fingerprint = site.node.fingerprint()
    again = kernel.original_facts(site, site.node.observe())
    # Most often the bridge was there, and what was laid a moment ago is not compared once more.
    rules = first if again == facts else setup_security_chain(site, Wanted(site.settings, again, usage, uplink))
    if before is None:
        end_unknown_flows(site)
    changed = kernel.apply_settings(site, uplink, ipv6=ipv6)
    placed, denials = place_accepts(site, uplink, ipv6=ipv6)
    found = Foundation(
        fingerprint=fingerprint,
        settings=site.settings_text,
        bridge=site.settings.network.bridge,
        program=site.program,
        uplink=uplink,
        bridge_index=bridge_index,
        mtu=mtu,
        ipv6=ipv6,
        usage=usage,
        backend=site.backend.name,
        rules=rules.laid.rules,
        sets=rules.laid.sets,
        shape=rules.laid.shape,
        details=rules.laid.details,
        bridge_netfilter=kernel.enable_bridge_netfilter(site),
        latched=latched,
        unfiltered=unfiltered,
        overlaps=overlaps(site, again),
        network_fields=site.settings.network.fields(),
    )
    dns, warnings = _conclude(site, found, before, again, denials)
    anything = first.changed or rules.changed or changed or placed or before != found
    return UpReport(anything, uplink, ipv6, dns, warnings, str(site.backend.holder(found.laid)))


def _conclude(
    site: Site, found: Foundation, before: Foundation | None, facts: NodeFacts, denials: Sequence[str]
) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """Tell and record what stands now. Returns the resolvers of sandboxes, and the warnings."""
    dns, origin = choose_resolvers(site.settings, facts, ipv6=found.ipv6)
    warnings = (*_warnings(site, facts, found, origin), *found.overlaps, *denials)
    _tell(site, before, warnings)
    with site.journal.transaction():
        site.journal.put("foundation", msgspec.json.encode(found))
        site.journal.put("dns", msgspec.json.encode([str(address) for address in dns]))
        site.journal.put("told", msgspec.json.encode(warnings))
    return dns, warnings


def _lay_bridge(site: Site, before: Foundation | None, mtu: int, *, ipv6: bool) -> int:
    """The bridge, and the links of all that are attached where the MTU is another than it was. The bridge sends to
    them and is wider last."""
    resized = site.journal.endpoints("attached") if before is not None and before.mtu != mtu else ()
    wider = before is not None and before.mtu < mtu
    if wider:
        resize_endpoints(site, resized, mtu, wider=True)
    index = site.links.ensure_bridge(site.settings.network, ipv6=ipv6, mtu=mtu)
    if not wider:
        resize_endpoints(site, resized, mtu, wider=False)
    return index


def _filter_bridge(site: Site, index: int, *, frames: bool) -> tuple[str, Latched]:
    """What stands beside the rules: why checksums are not filtered, and how the bridge is latched."""
    unfiltered = site.links.ensure_checksum_filter(index)
    stands = site.links.ensure_latch(index, site.settings.mark, frames=frames)
    return unfiltered, ("both ways" if frames else "inwards") if stands else "no"


def _tell(site: Site, before: Foundation | None, warnings: Sequence[str]) -> None:
    """Each warning when it arises, and not at every operation that refreshes the foundation. Here, because an attach
    that lays it has nobody else to tell."""
    told = msgspec.json.decode(site.journal.get("told") or b"[]", type=list[str]) if before else []
    for warning in warnings:
        if warning not in told:
            _log.warning("%s", warning)


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
    remove_rules(site, found)
    remove_accepts(site)
    with site.journal.transaction():
        site.journal.drop("foundation")


def _warnings(site: Site, facts: NodeFacts, found: Foundation, origin: str) -> tuple[str, ...]:
    warnings = []
    if not found.bridge_netfilter:
        warnings.append(_NOT_BRIDGED)
    warnings += found.gaps
    if not found.ipv6 and site.settings.ipv6 != "off":
        unable = f"{site.backend.name} cannot filter and translate it"
        reason = unable if facts.features.ipv6 else "the kernel has it disabled"
        warnings.append(f"no IPv6 in sandboxes: {reason}")
    if site.settings.audit.log and not facts.features.packet_log and site.backend.name == "nftables":
        warnings.append("what is denied is counted and nobody is told of it: the kernel has no nfnetlink_log")
    if not uplink_of(site.settings, facts):
        warnings.append(f"the default route is gone; {found.uplink} stays the only way out")
    warnings += lonely_warnings(found.uplink, facts, site.settings.protect)
    if origin != "network.dns" and not origin.startswith("the node"):
        warnings.append(f"sandboxes are told {origin}")
    if site.settings.services:
        warnings += captured_services(site, site.journal.endpoints("attached"))
    return tuple(warnings)
