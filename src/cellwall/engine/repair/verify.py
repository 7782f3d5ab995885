"""Whether one endpoint is as it was attached: on the node, in the rules, and inside its sandbox."""

from cellwall.engine.ports.expose import attached_endpoint
from cellwall.engine.repair.drift import endpoint_drift, node_drift
from cellwall.engine.site import Foundation, Site
from cellwall.errors import InvalidSpec, NotFound
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint


def verify_outside(site: Site, found: Foundation, endpoint: Endpoint, *, alone: bool = False) -> tuple[str, ...]:
    """Findings on the node, one line each, field first; empty: as desired. `alone`: of the endpoint's own, without
    those about the node. The caller holds the writer lock."""
    link = site.links.find(endpoint.host_link)
    findings = [] if alone else node_drift(site, found)
    findings += endpoint_drift(site, found, [endpoint], [] if link is None else [link]).get(endpoint.key, [])
    return (*findings, *site.backend.missing([endpoint]))


def verify_inside(site: Site, endpoint: Endpoint) -> tuple[str, ...]:
    """Findings in its namespace. The caller does not hold the writer lock: whoever is root in there has a say in how
    long it takes. NotFound where it was detached meanwhile."""
    findings = _inside(site, endpoint)
    if findings:
        attached_endpoint(site, endpoint.key)
    return tuple(findings)


def _inside(site: Site, endpoint: Endpoint) -> list[str]:
    identity = endpoint.netns_device, endpoint.netns_inode
    try:
        with site.namespaces.attached(endpoint.netns, identity) as namespace:
            if (namespace.device, namespace.inode) != identity:
                return [f"netns: {endpoint.netns}: is another namespace than was attached"]
            seen = site.links.inspect_sandbox(endpoint.key.ifname, namespace.fd)
    except (InvalidSpec, NotFound) as error:
        return [str(error)]
    if seen is None:
        return [f"ifname: {endpoint.key.ifname}: is not there inside the sandbox"]
    findings = []
    if seen.mac != endpoint.mac:
        findings.append(f"mac: {mac_text(seen.mac)}: should be {mac_text(endpoint.mac)}")
    if not seen.up:
        findings.append(f"ifname: {endpoint.key.ifname}: is down inside the sandbox")
    for address in (endpoint.address4, endpoint.address6):
        if address is not None and address not in seen.addresses:
            findings.append(f"ip: {address}: is missing inside the sandbox")
        if address is not None and address.version not in seen.default_routes:
            findings.append(
                f"routes: no IPv{address.version} default route by {endpoint.key.ifname} inside the sandbox"
            )
    return findings
