"""A node that was opened: what all verbs work with."""

from collections.abc import Callable, Sequence
from typing import Self

from cellwall.config import Paths
from cellwall.engine.attachments.admission import with_ports
from cellwall.engine.caller import Caller, Configured
from cellwall.engine.requests import AttachRequest, validate_request
from cellwall.engine.site import Foundation, Site
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

Place = Callable[[Site, Foundation, Sequence[AttachRequest]], tuple[Endpoint, ...]]


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

    def _place(self, requests: Sequence[AttachRequest], place: Place) -> tuple[Endpoint, ...]:
        """What `place` gives for all of these in one turn. What is wrong with any is refused before the node is made
        ready for them."""
        bindings = [binding for request in requests for binding in request.bindings]
        with self._caller.turn():
            settings = self._caller.take_those_to_open_by()
            for request in requests:
                validate_request(request, settings)
            return self._caller.open(
                bindings, lambda site, found: with_ports(site, requests, lambda settled: place(site, found, settled))
            )
