"""Many in one transaction, each on a fresh node; the kernel's own count of its rule sets says in how many."""

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from bench.transactions import generation
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.api import AttachRequest, Wall
from cellwall.lab import Lab
from cellwall.model.endpoint import PortBinding

_FIRST_PORT = 30001  # beyond the ports that masqueraded flows use


class Bulk(msgspec.Struct, frozen=True):
    """What one call did for `count` of them, and how many transactions of nf_tables that took."""

    what: str
    count: int
    milliseconds: float
    transactions: int


def measure_bulk(count: int) -> Iterator[Bulk]:
    """Attach and detach `count` without and with a published port each, and publish a range of ports of one."""
    yield from _attach("attachments", [()] * count)
    published = [(PortBinding("tcp", _FIRST_PORT + number, 80),) for number in range(count)]
    yield from _attach("attachments with a published port each", published)
    with Lab() as lab, lab.node.enter(), Wall.open(root=lab.root) as wall:
        wall.attach("one", netns=lab.sandbox("one").netns, expose=[PortBinding("udp", _FIRST_PORT, 80)])
        # Host and container ports differ, so each port is an element of the map, in both families.
        wide = PortBinding("tcp", _FIRST_PORT, 1000, host_port_last=_FIRST_PORT + count - 1)
        yield _timed("exposures of one container", count, lambda: wall.expose("one", wide))


def _attach(what: str, bindings: Sequence[tuple[PortBinding, ...]]) -> Iterator[Bulk]:
    with Lab() as lab:
        hosts = lab.sandboxes([f"bulk{number}" for number in range(len(bindings) + 2)])
        last = hosts.pop()
        with lab.node.enter(), Wall.open(root=lab.root) as wall:
            # The first use of a form of exposure loads its rules, which is part of no attachment.
            first = (PortBinding("tcp", _FIRST_PORT - 1, 80),) if bindings[0] else ()
            wall.attach("first", netns=hosts.pop().netns, expose=first)
            requests = [
                AttachRequest(host.name, netns=str(host.netns), bindings=own)
                for host, own in zip(hosts, bindings, strict=True)
            ]
            yield _timed(what, len(requests), lambda: wall.attach_many(requests))
            yield _timed("their detachments", len(requests), lambda: wall.detach_many([r.key for r in requests]))
            # The operation after a detach does what the detach left: links are shut and, many by now, deleted.
            yield _timed("the attach after them", 1, lambda: wall.attach("last", netns=last.netns))


def _timed(what: str, count: int, act: Callable[[], object]) -> Bulk:
    """Called inside the node's namespace."""
    with open_netfilter_socket() as netfilter:
        before = generation(netfilter)
        began = time.perf_counter()
        act()
        seconds = time.perf_counter() - began
        return Bulk(what, count, round(seconds * 1000, 1), generation(netfilter) - before)
