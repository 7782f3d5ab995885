"""A node that was opened: what all verbs work with."""

from collections.abc import Callable
from typing import Self

from cellwall.config import Paths
from cellwall.engine.caller import Caller, Configured
from cellwall.engine.site import Site
from cellwall.model.settings import Settings


class Opened:
    """The adapters of one node under one caller, until they are closed."""

    def __init__(self, paths: Paths, site: Site, close: Callable[[], None], configured: Configured) -> None:
        self.paths = paths
        self._caller = Caller(site, configured, paths.in_run())
        self._release = close

    @property
    def settings(self) -> Settings:
        """The settings that this wall goes by: those in force, as of its last operation."""
        return self._caller.site.settings

    def close(self) -> None:
        """Delete the links that detaches left behind, release sockets and journal. Idempotent."""
        try:
            self._caller.leave()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _site(self) -> Site:
        return self._caller.site
