"""What no record speaks of: links with our prefix, and namespaces in our directory, whose makers died too early.

An attach makes a namespace of the sandbox's own before it writes its row, because the row names the namespace's inode.
Whatever such a link or namespace is, it passes nothing of a sandbox's: the rules know links by their elements only.
"""

from collections.abc import Sequence

from cellwall.engine.contracts import ObservedLink
from cellwall.engine.repair.left_closed import left_closed
from cellwall.engine.site import Foundation, Site
from cellwall.names import REAPER_GROUP


def orphaned_links(site: Site, links: Sequence[ObservedLink]) -> list[ObservedLink]:
    """Links with our prefix that nobody knows; those that wait for their deletion are none."""
    known = {endpoint.host_link for endpoint in (*site.journal.endpoints(), *site.journal.draining.all())}
    known.update(port.name for port in left_closed(site, links))
    prefix = site.settings.network.veth_prefix
    return [
        link for link in links if link.name.startswith(prefix) and link.name not in known and link.group != REAPER_GROUP
    ]


def foreign_ports(site: Site, found: Foundation, links: Sequence[ObservedLink]) -> list[ObservedLink]:
    """Links of somebody else's on our bridge. They are shut (`strangers`), and left to whoever put them there."""
    prefix, known = site.settings.network.veth_prefix, {port.index for port in left_closed(site, links)}
    others = [link for link in links if link.master == found.bridge_index and link.index not in known]
    return [link for link in others if not link.name.startswith(prefix)]


def orphaned_namespaces(site: Site) -> list[str]:
    """Paths of namespaces that were made for endpoints that do not exist."""
    owned = {endpoint.netns for endpoint in site.journal.endpoints() if endpoint.owns_netns}
    return [path for path in site.namespaces.kept(site.netns_directory) if path not in owned]


def delete_orphans(site: Site) -> list[str]:
    """Delete them; what was deleted, a line each. The caller holds the writer lock, so no attach is under way."""
    links = orphaned_links(site, site.links.observe())
    for link in links:
        site.links.delete(link)
    paths = orphaned_namespaces(site)
    for path in paths:
        site.namespaces.remove(path)
    return [
        *(f"deleted the unknown link {link.name}" for link in links),
        *(f"removed the unknown namespace {path}" for path in paths),
    ]
