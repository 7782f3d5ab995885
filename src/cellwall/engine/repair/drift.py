"""What differs between desired and live, a line each, and changes nothing: of the node, and of endpoints.

Dumps only: what one endpoint costs to look at, a thousand cost but for the reading.
"""

from collections.abc import Iterable, Sequence

from cellwall.engine.attachments.detach import port_plan
from cellwall.engine.backend import Wanted
from cellwall.engine.contracts import ObservedLink
from cellwall.engine.node.kernel_settings import original_facts, settings_drift
from cellwall.engine.node.neighbours import accepts_drift
from cellwall.engine.site import Foundation, Site
from cellwall.model.endpoint import Endpoint, EndpointKey

FLUSHED = "our rules were flushed"
CHANGED = "our rules were changed"


def node_drift(site: Site, found: Foundation) -> list[str]:
    """Of rules, bridge and kernel settings: what laying the foundation again repairs."""
    lines = _rules_drift(site, found)
    if not site.has_network_of(found):
        return lines  # of another configuration: laying the foundation refuses or removes it
    bridge = site.settings.network.bridge
    differences = site.links.bridge_differences(site.settings.network, ipv6=found.ipv6, mtu=found.mtu)
    if not found.unfiltered:
        differences += site.links.checksum_differences(found.bridge_index)
    if found.latched != "no":
        frames = found.latched == "both ways"
        differences += site.links.latch_differences(found.bridge_index, site.settings.mark, frames=frames)
    lines += [f"bridge {bridge} {difference}" for difference in differences]
    return [*lines, *settings_drift(site, found), *accepts_drift(site, ipv6=found.ipv6)]


def seen_drift(site: Site, found: Foundation) -> list[str]:
    """`node_drift` for who lays the foundation next. Where the wall was flushed, or a part of it, that is all that it
    says: sandboxes are cut off until it is laid, and to look for what else differs would have them wait for as long
    again."""
    return lost(site) or node_drift(site, found)


def lost(site: Site) -> list[str]:
    """What a flush, or one of a part, took away, in one line; nothing where the wall is entire. Microseconds, as a rule
    (`Backend.is_entire`)."""
    if site.backend.is_entire():
        return []
    return [CHANGED if site.backend.stands() else FLUSHED]


def rule_drift(site: Site, found: Foundation) -> tuple[str, ...]:
    """Of rules that were changed, which; nothing where none were, or where they are missing as a whole."""
    if site.backend.shape() in ("", found.shape):
        return ()
    facts = original_facts(site, site.node.observe())
    return site.backend.differences(Wanted(site.settings, facts, found.usage, found.uplink))


def endpoint_drift(
    site: Site, found: Foundation, endpoints: Sequence[Endpoint], links: Iterable[ObservedLink]
) -> dict[EndpointKey, list[str]]:
    """Of the host links of endpoints; those without a difference are not in it."""
    differences = site.links.port_differences([port_plan(found, endpoint) for endpoint in endpoints])
    by_name = {link.name: link for link in links}
    drift: dict[EndpointKey, list[str]] = {}
    for endpoint in endpoints:
        lines = port_drift(found, endpoint, by_name.get(endpoint.host_link))
        if not lines:  # else nothing of it can be as it was
            wrong = differences.get(endpoint.host_index, ())
            lines = [f"link {endpoint.host_link} of {endpoint.key}: {line}" for line in wrong]
        if lines:
            drift[endpoint.key] = lines
    return drift


def port_drift(found: Foundation, endpoint: Endpoint, link: ObservedLink | None) -> list[str]:
    """What is wrong with the host link itself."""
    if link is None or link.index != endpoint.host_index:
        return [f"link {endpoint.host_link} of {endpoint.key} is gone"]
    lines = []
    if link.master != found.bridge_index:
        lines.append(f"link {endpoint.host_link} of {endpoint.key} is not on the bridge")
    if not link.up or link.dormant:
        state = "dormant" if link.up else "down"
        lines.append(f"link {endpoint.host_link} of {endpoint.key} is {state}")
    if link.mtu != found.mtu:
        lines.append(f"link {endpoint.host_link} of {endpoint.key} has MTU {link.mtu}, not {found.mtu}")
    return lines


def _rules_drift(site: Site, found: Foundation) -> list[str]:
    shape = site.backend.shape()
    if not shape:
        return ["our tables are missing"]
    if shape != found.shape:
        return [CHANGED]
    return [] if site.backend.is_kept() else ["our tables are anybody's to write"]
