"""What the verbs need of the wall: the part of `cellwall.api.Wall` that they may use, typed without importing it.

VERSION, and every call that is refused by its text alone, never loads the engine.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from cellwall.config import Paths
from cellwall.model.addresses import Address
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.settings import Settings


class Status(Protocol):
    """What STATUS looks at."""

    @property
    def node_drift(self) -> tuple[str, ...]:
        """Where rules, bridge and kernel settings differ from what is desired, a line each."""


class WallPort(Protocol):
    """What the verbs need of the wall; `cellwall.api.Wall` is one."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""

    @property
    def paths(self) -> Paths:
        """Where the node keeps its files."""

    def up(self, *, settings: Settings | None = None) -> object:
        """Bring settings into force."""

    def attach(
        self,
        container_id: str,
        *,
        netns: str | None = None,
        ifname: str = "eth0",
        tenant: str | None = None,
        expose: Sequence[PortBinding | str] = (),
        address4: IPv4Address | None = None,
        address6: IPv6Address | None = None,
        mac: int | None = None,
    ) -> Endpoint:
        """Attach one sandbox."""

    def detach(self, container_id: str, *, ifname: str = "eth0") -> bool:
        """Detach one sandbox; False where it was not there."""

    def detach_many(self, keys: Sequence[EndpointKey]) -> int:
        """Detach many in one transaction."""

    def endpoint(self, container_id: str, *, ifname: str = "eth0") -> Endpoint:
        """One endpoint; raises NotFound."""

    def verify(self, container_id: str, *, ifname: str) -> tuple[str, ...]:
        """Where one endpoint differs from what is desired."""

    def dns(self) -> tuple[Address, ...]:
        """The resolvers that sandboxes are told."""

    def status(self) -> Status:
        """The node as a whole."""

    def settings_to_open_by(self) -> Settings:
        """Those that an attach would go by now; `settings` are these then."""
