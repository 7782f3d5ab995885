"""What the doctor reads off a host: values, no opinions."""

from collections.abc import Mapping
from typing import Literal

import msgspec

Presence = Literal["loaded", "available", "missing"]


class Route(msgspec.Struct, frozen=True):
    """One route of the main table; `learned` from a router advertisement."""

    interface: str
    prefix: str
    learned: bool = False


class Listener(msgspec.Struct, frozen=True):
    """A socket that waits for others: a listening TCP socket or an unconnected UDP one."""

    protocol: str
    address: str
    port: int


class Observation(msgspec.Struct, frozen=True):
    """One look at a host.

    `missing_capabilities` of those that the wall needs; `nft` the version of the program, None where there is none;
    `features` maps a feature to "" where it works and to what the kernel said where it does not, and is empty where
    nothing could be tried; `foreign_drops` are base chains of others that drop by default, `foreign_marks` chains of
    others that write marks which the wall reads; both as `family table chain`.
    """

    kernel: tuple[int, int]
    missing_capabilities: tuple[str, ...] = ()
    nft: tuple[int, ...] | None = None
    features: Mapping[str, str] = {}
    bridge_netfilter: Presence = "loaded"
    ipv6: bool = True
    sysctls: Mapping[str, str] = {}
    interfaces: frozenset[str] = frozenset()
    routes: tuple[Route, ...] = ()
    listeners: tuple[Listener, ...] = ()
    foreign_drops: tuple[str, ...] = ()
    foreign_marks: tuple[str, ...] = ()
    legacy_tables: tuple[str, ...] = ()

    def default_interface(self, version: int) -> str:
        """The interface of the default route of a family, or ""."""
        wanted = "0.0.0.0/0" if version == 4 else "::/0"
        return next((route.interface for route in self.routes if route.prefix == wanted), "")
