"""Host ports that are kept for a container before anything is published by them. Pure.

Who starts a container often has to say beforehand by which ports it will be reached. Such a port is held on the node by
a bound socket, so that no program of the node takes it meanwhile, and is nobody else's to publish.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cellwall.errors import Exhausted, InvalidSpec
from cellwall.model.identifiers import parse_container_id, parse_tenant

MAX_RESERVED = 1024
MAX_OF_MEMBERS = MAX_RESERVED * 3 // 4
MAX_OF_TENANT = 256
MAX_OF_CONTAINER = 64
"""Ports that are reserved at once: on a node, by all others than root together, for containers of one tenant, for one
container."""

DEFAULT_LEASE = 600.0
LONGEST_LEASE = 86400.0
"""Seconds that ports wait for their container; once it is attached they are its for as long as it is."""

Span = tuple[int, int]
"""First and last of some ports."""


class ReservedPort(msgspec.Struct, frozen=True):
    """One port on record. `until`: on the monotonic clock, which all processes share. `inode`: of the UDP socket that
    holds it, by which a look at the node's sockets tells it from a program's. `user`: the uid of who asked for it,
    where that was not root. `exact`: `tenant` "" is a container without one; in what earlier versions wrote, any."""

    port: int
    container: str
    tenant: str
    until: float
    inode: int = 0
    user: int | None = None
    exact: bool = False

    def is_for(self, container: str, tenant: str) -> bool:
        """Whether this container, of this tenant or ("") of none, may publish it."""
        return self.container == container and (self.tenant == tenant or (not self.exact and not self.tenant))


class Reservation(msgspec.Struct, frozen=True):
    """The ports that are kept for one container. `tenant` "": one that is no tenant's. `seconds`: how long they go on
    waiting for it, where it is not attached yet."""

    container: str
    tenant: str
    ports: tuple[int, ...]
    seconds: float


def validate_reservation(container: str, tenant: str | None, count: int, seconds: float) -> None:
    """Raise InvalidSpec for what nobody can have reserved."""
    parse_container_id(container)
    if tenant is not None:
        parse_tenant(tenant)
    validate_count(count)
    validate_lease(seconds)


def validate_count(count: int) -> None:
    """Raise InvalidSpec for a number of ports that no container may have reserved."""
    if not 1 <= count <= MAX_OF_CONTAINER:
        raise InvalidSpec("count", count, f"must be 1 to {MAX_OF_CONTAINER} ports")


def validate_lease(seconds: float) -> None:
    """Raise InvalidSpec for a time that nothing is reserved for."""
    if not 0 < seconds <= LONGEST_LEASE:  # which is False for what is no number
        raise InvalidSpec("seconds", seconds, f"must be more than 0, and at most {LONGEST_LEASE:g}")


def most_reserved(descriptors: int) -> int:
    """How many ports a daemon holds that may have so many descriptors, two of which each takes: by a quarter of these,
    as one that has none left neither tells of the wall nor repairs it."""
    return min(MAX_RESERVED, descriptors // 8)


def refuse_too_many(
    others: Sequence[ReservedPort],
    kept: Sequence[ReservedPort],
    tenant: str,
    user: int | None,
    count: int,
    most: int = MAX_RESERVED,
) -> None:
    """Raise Exhausted where `count` ports for a container of this tenant, of which it has those that are `kept`, are
    too many beside the `others`. `user`: who asks for them, where that is not root. `most`: as many as can be held."""

    def refuse(whose: str, number: int, wanted: int, most: int) -> None:
        if number + wanted > most:
            raise Exhausted(f"count: {count}: {whose} {number} ports reserved, of {most} at most")

    if len(others) + count > most:
        why = "" if most == MAX_RESERVED else " that there are descriptors for (LimitNOFILE=)"
        raise Exhausted(f"count: {count}: {len(others)} ports are reserved already, of {most} at most{why}")
    if tenant:
        refuse(f"tenant {tenant} has", sum(row.tenant == tenant for row in others), count, MAX_OF_TENANT)
    if user is None:
        return
    standing, new = [*others, *kept], count - len(kept)
    refuse("others than root have", sum(row.user is not None for row in standing), new, MAX_OF_MEMBERS)


def candidates(wanted: Span, spared: Iterable[Span], start: int) -> Iterator[int]:
    """The ports of a range that lie in none of the others, each once, from `start` on and round: who gives out the
    lowest one first gives the port of whoever has just gone, whose clients still ask for it."""
    low, high = wanted
    apart = sorted(spared)
    count = high - low + 1
    for offset in range(count):
        port = low + (start + offset) % count
        if not any(first <= port <= last for first, last in apart):
            yield port


def parse_spans(text: str) -> tuple[Span, ...]:
    """The ranges of a kernel setting: `32768\\t60999`, or `8080,9000-9010`; what is no range is left out."""
    if "," not in text and "-" not in text and len(words := text.split()) == 2 and all(w.isdigit() for w in words):
        return ((int(words[0]), int(words[1])),)
    spans = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            spans.append((int(first), int(last) if dash else int(first)))
    return tuple(spans)
