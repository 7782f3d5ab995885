"""What a tenant costs its neighbour that opens flows as fast as it can.

    python -m bench neighbour [--rounds N] [--quick] [--json]

A sandbox sends datagrams, each of a flow of its own, for as long as its neighbour carries a sample of its load; no
flood is longer than that, and no more flows than FLOWS are ever in it. Everybody is asked in turn within a round, first
beside nobody, then beside the flood, and the ratio of both is taken within the round: what is left of the neighbour's
rate. Rates are of the neighbour's own processor time, in which all its packets travel. So a figure is what its packets
pay for a flood, in locks, caches, tables and whatever else the kernel does meanwhile; not that both share processors,
which is the scheduler's to settle. A flood that stays in its sandbox tells what even that one costs.
"""

import argparse
import ctypes
import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import msgspec

from bench.figures import Machine, headline, machine, place_state, quantile, table
from bench.load import CONNECTIONS, DATAGRAMS, Load, Message, message_batch
from cellwall.api import Wall
from cellwall.attack.frames import frame, packet
from cellwall.lab import Host, Lab
from cellwall.lab.addresses import PUBLIC4
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

FLOWS = 20_000
_INSIDE = "the flood stays inside"
_BOUNDS = {
    _INSIDE: Settings(),
    "none": Settings(connections=1 << 20),
    "1,024 flows": Settings(),
    "1,024 flows, 2,000 new a second": Settings(new_connections=2000),  # the neighbour has them, too: a sample fits
}
_BATCH = 500
_libc = ctypes.CDLL(None, use_errno=True)


class Left(msgspec.Struct, frozen=True):
    """What of a neighbour's rate is left beside a flood: the median of the ratios, and where nine tenths of them lie.
    `remembered`: flows of the flooding sandbox at its end."""

    bounds: str
    what: str
    samples: int
    rate: float
    ratio: float
    ratio_p5: float
    ratio_p95: float
    remembered: int


class Report(msgspec.Struct, frozen=True):
    """Everything of one run."""

    machine: Machine
    rows: list[Left]


class Flood:
    """Datagrams of one sandbox, all of different flows; the kernel sends a batch of them without Python's lock."""

    def __init__(self, host: Host, endpoint: Endpoint, gateway_mac: int, link: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((link, 0))
        macs = mac_text(endpoint.mac), mac_text(gateway_mac)
        model = bytes(frame(*macs, packet(str(endpoint.address4), PUBLIC4[1], "udp", bytes(18), sport=0, dport=9)))
        self.sent_all = threading.Event()
        self._batches = [_messages(model, first) for first in range(1024, 1024 + FLOWS, _BATCH)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the end of the block."""
        ended = threading.Event()
        sender = threading.Thread(target=self._send, args=(ended,))
        sender.start()
        try:
            yield
        finally:
            ended.set()
            sender.join()

    def close(self) -> None:
        self._socket.close()

    def _send(self, ended: threading.Event) -> None:
        while not ended.is_set():
            for batch, _ in self._batches:
                _libc.sendmmsg(self._socket.fileno(), batch, _BATCH, 0)
                if ended.is_set():
                    return
            self.sent_all.set()


class Node:
    """A node with bounds, one that floods and its neighbour."""

    def __init__(self, bounds: str, opened: ExitStack) -> None:
        self.bounds = bounds
        self._lab = opened.enter_context(Lab())
        flooding, neighbour = self._lab.sandboxes(["flooding", "neighbour"])
        settings = _BOUNDS[bounds]
        with self._lab.node.enter(), Wall.open(root=self._lab.root, settings=settings) as wall:
            self._endpoint = wall.attach("flooding", netns=flooding.netns)
            wall.attach("neighbour", netns=neighbour.netns)
        self.flood = Flood(flooding, self._endpoint, settings.network.bridge_mac, "lo" if bounds == _INSIDE else "eth0")
        opened.callback(self.flood.close)
        sink = opened.enter_context(self._lab.internet.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind((PUBLIC4[1], 9))  # nobody answers, and nobody says that nobody is there
        self._load = Load(self._lab, neighbour, socket.AF_INET)
        opened.callback(self._load.close)

    def sample(self) -> dict[str, float]:
        """The neighbour's rates."""
        return {
            "connections": _rate(CONNECTIONS, self._load.connections),
            "datagrams": _rate(DATAGRAMS, self._load.datagrams),
        }

    def remembered(self) -> int:
        """Flows that the flooding sandbox has, which are forgotten then."""
        query = ["-f", "ipv4", "-p", "udp", "--orig-src", str(self._endpoint.address4)]
        found = len(self._lab.node.run(["conntrack", "-L", *query]).text.splitlines())
        self._lab.node.run(["conntrack", "-D", *query], check=False)
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench neighbour", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="of everybody (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds: the bench works, its figures say little")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    chosen = parser.parse_args(argv)
    report = measure(3 if chosen.quick else chosen.rounds)
    print(msgspec.json.format(msgspec.json.encode(report)).decode() if chosen.json else _text(report))
    return 0


def measure(rounds: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    with ExitStack() as opened:
        nodes = [Node(bounds, opened) for bounds in _BOUNDS]
        return Report(machine("tmpfs"), [row for node in _measured(nodes, rounds) for row in node])


def _measured(nodes: Sequence[Node], rounds: int) -> list[list[Left]]:
    quiet: dict[tuple[str, str], list[float]] = defaultdict(list)
    beside: dict[tuple[str, str], list[float]] = defaultdict(list)
    remembered: dict[str, int] = defaultdict(int)
    for turn in range(rounds):
        at = turn % len(nodes)
        for node in (*nodes[at:], *nodes[:at]):
            for what, rate in node.sample().items():
                quiet[node.bounds, what].append(rate)
            with node.flood.running():
                for what, rate in node.sample().items():
                    beside[node.bounds, what].append(rate)
            remembered[node.bounds] = max(remembered[node.bounds], node.remembered())
    return [
        [
            _left(node.bounds, what, quiet[node.bounds, what], beside[node.bounds, what], remembered[node.bounds])
            for what in ("connections", "datagrams")
        ]
        for node in nodes
    ]


def _rate(count: int, carry: Callable[[], object]) -> float:
    began = time.thread_time()
    carry()
    return count / (time.thread_time() - began)


def _left(bounds: str, what: str, quiet: Sequence[float], beside: Sequence[float], remembered: int) -> Left:
    ratios = [after / before for before, after in zip(quiet, beside, strict=True)]
    return Left(
        bounds=bounds,
        what=what,
        samples=len(ratios),
        rate=statistics.median(quiet),
        ratio=statistics.median(ratios),
        ratio_p5=quantile(ratios, 0.05),
        ratio_p95=quantile(ratios, 0.95),
        remembered=remembered,
    )


def _messages(model: bytes, first: int) -> tuple["ctypes.Array[Message]", list[bytes]]:
    """A batch of frames that differ by source port, and what has to live as long as it: no checksum, as UDP over IPv4
    may have none."""
    at = 14 + 20
    frames = [
        model[:at] + (first + number).to_bytes(2, "big") + model[at + 2 : at + 6] + bytes(2) + model[at + 8 :]
        for number in range(_BATCH)
    ]
    return message_batch(frames), frames


def _text(report: Report) -> str:
    rows = [
        [row.bounds, row.what, f"{row.rate:,.0f}", f"{row.ratio:.2f}", f"{row.ratio_p5:.2f}-{row.ratio_p95:.2f}",
         f"{row.remembered:,}"]
        for row in report.rows
    ]  # fmt: skip
    head = [
        "bounds of a sandbox",
        "of its neighbour",
        "a processor's second, alone",
        "left beside a flood",
        "90 %",
        "flows of the flood",
    ]
    note = f"a sample: {CONNECTIONS} connections or {DATAGRAMS:,} datagrams; a flood of {FLOWS:,} flows at most"
    return "\n".join([headline(report.machine), "", table(head, rows), "", note])
