"""The pool of ready sandboxes: who they are until a container claims one, and how many there should be. Pure."""

import msgspec

from cellwall.model.endpoint import POOLED, Endpoint, EndpointKey


class PoolSize(msgspec.Struct, frozen=True):
    """How many sandboxes stand ready: `size`, and as many more as were asked for of late, up to `burst`. Without a size
    there is no pool."""

    size: int = 0
    burst: int = 0

    def target(self, recent: int) -> int:
        """How many should stand ready where so many were asked for of late."""
        return self.size + min(self.burst, recent) if self.size else 0


class PoolFigures(msgspec.Struct, frozen=True):
    """`ready` ones stand there now; `claimed` were given to a container, and `missed` are containers that found none
    and were attached as any, both since the process began."""

    ready: int = 0
    claimed: int = 0
    missed: int = 0


def pooled_key(number: int) -> EndpointKey:
    """The key of the sandbox of that number; later ones sort after earlier ones."""
    return EndpointKey(f"{POOLED}{number:08x}")


def was_pooled(endpoint: Endpoint) -> bool:
    """It was ready before its container asked: its namespace still has the name."""
    return endpoint.owns_netns and endpoint.netns.rpartition("/")[2].startswith(POOLED) and not endpoint.key.pooled


def room(free: int, wanted: int, ready: int = 0) -> int:
    """How many of so many may be made where so many places are free and so many stand ready: a pool leaves half of what
    nobody has to others, however often it is filled."""
    return max(0, min(wanted, (free + ready) // 2 - ready))
