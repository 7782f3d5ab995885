"""Flows of a sandbox that are open, and whether they go on."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cellwall.lab.host import Host
from world import Stream, World

TRANSPORTS = (False, True)
"""Whether it is UDP."""


@contextmanager
def flows(host: Host, addresses: Iterable[str], port: int = 80) -> Iterator[list[Stream]]:
    """One flow of each transport to each of these addresses."""
    with ExitStack() as stack:
        yield [stack.enter_context(Stream(host, to, port, udp=udp)) for to in addresses for udp in TRANSPORTS]


def alive(world: World, streams: Sequence[Stream], timeout: float = 1.0) -> list[bool]:
    """Which of them carry a question there and the answer back."""
    return [stream.ask(world.token(), timeout) for stream in streams]
