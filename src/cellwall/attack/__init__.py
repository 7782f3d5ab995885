"""The hostile tenant: everything in the catalogue of attacks, tried against a wall, and the controls that say that
trying means something.

A front end of the product, and a consumer of its seams only: nothing outside this package knows a probe.
"""

from cellwall.attack.command import main

__all__ = ["main"]
