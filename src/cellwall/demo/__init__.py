"""The main job as a story: two tenants on one node, their servers, and what becomes of an attack.

`cellwall demo` builds a lab, attaches two tenants to a wall as any front end would, and lets one of them turn hostile.
Then the wall is taken down, and the same attempts run against a plain bridge: an attempt that fails there too would
prove nothing.
"""

from cellwall.demo.command import main

__all__ = ["main"]
