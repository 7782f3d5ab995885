"""Ports on our bridge that are no endpoint's: somebody else's, and those that nobody can be told to own.

Owns: that nothing is bridged between them. The rules know our own ports by their names and drop what is bridged from or
to one; a bridge has no name that a rule could ask for on every kernel, so of two strangers it is the ports themselves
that must not lead to each other.
"""

import logging

from cellwall.engine.site import Foundation, Site
from cellwall.errors import printable

_log = logging.getLogger("cellwall")


def open_strangers(site: Site, found: Foundation) -> dict[int, str]:
    """Those that are not shut, a line each, by index."""
    own = (*site.journal.endpoints(), *site.journal.draining.all())
    known = frozenset(endpoint.host_index for endpoint in own)
    names = site.links.open_strangers(found.bridge_index, known)
    return {index: f"{printable(name)}, a port that is no endpoint's, is not shut" for index, name in names.items()}


def shut_strangers(site: Site, found: Foundation) -> list[str]:
    """Shut them; a line each. Where one is gone meanwhile, or taken off the bridge, that is well. Idempotent."""
    lines = open_strangers(site, found)
    for index, line in lines.items():
        site.links.shut_port(found.bridge_index, index)
        _log.info("shut: %s", line)
    return [*lines.values()]
