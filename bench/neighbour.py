"""What a tenant costs its neighbour that floods: what is left of the neighbour's rates and throughput.

    python -m bench neighbour [--rounds N] [--quick] [--json]

A sandbox sends datagrams, each of a flow of its own, for as long as its neighbour carries a sample of its load; no
flood is longer than that, and no more flows than FLOWS are ever in it. Everybody is asked in turn within a round, first
beside nobody, then beside the flood, and the ratio of both is taken within the round.

Rates are of the neighbour's own processor time, in which all its packets travel: what they pay for a flood, in locks,
caches, tables and whatever else the kernel does meanwhile; by the clock see `rivals`. Throughput is by the clock, of
one TCP flow over an uplink of UPLINK bytes a second that the flood shares: of full packets, of no more flows than one
may have. That a flood and its neighbour share a processor no rule settles: who sends has it before any rule sees a
packet.
"""

import ctypes
import os
import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal, NoReturn

import msgspec

from bench.figures import Machine, headline, machine, place_state, quantile, table
from bench.front import parser_for, tell
from bench.load import CONNECTIONS, DATAGRAMS, Load, Message, message_batch
from cellwall.api import Wall
from cellwall.attack.frames import frame, packet
from cellwall.lab import Host, Lab
from cellwall.lab.addresses import PUBLIC4, PUBLIC6
from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.settings import Settings

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
FLOWS = 20_000
UPLINK = 40_000_000
_INSIDE = "the flood stays inside"
RECOMMENDED = "as recommended"
_SETTINGS = {
    _INSIDE: Settings(),
    "none": Settings(connections=1 << 20, tenant_connections=0),
    "1,024 flows": Settings(),
    # The neighbour has them, too: its samples fit.
    RECOMMENDED: Settings(tenant_new_connections=2000, tenant_packets=40_000, tenant_bytes=UPLINK // 4),
}
_NARROW = ("none", "1,024 flows", RECOMMENDED)
_BATCH = 500
_FULL = 1400
_SAMPLE = 2.0  # seconds of a throughput
_libc = ctypes.CDLL(None, use_errno=True)


class Left(msgspec.Struct, frozen=True):
    """What of a neighbour's rate is left beside a flood: the median of the ratios, and where nine tenths of them lie.
    `remembered`: flows of the flooding sandbox at its end."""

    family: Family
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
    """Datagrams of one sandbox, all of different flows; the kernel sends a batch of them without Python's lock, on the
    last processor."""

    def __init__(
        self, host: Host, endpoint: Endpoint, gateway_mac: int, link: str, family: Family, *, narrow: bool
    ) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((link, 0))
        flows, size = (_BATCH, _FULL) if narrow else (FLOWS, 18)
        macs = mac_text(endpoint.mac), mac_text(gateway_mac)
        own, to = (str(endpoint.address4), PUBLIC4[1]) if family == 4 else (str(endpoint.address6), PUBLIC6[1])
        model = bytes(frame(*macs, packet(own, to, "udp", bytes(size), sport=0, dport=9)))
        self.sent_all = threading.Event()
        self._batches = [_messages(model, first, family) for first in range(1024, 1024 + flows, _BATCH)]

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

    def send_forever(self) -> NoReturn:
        """For a process that somebody else ends; on whichever processor it is."""
        while True:
            for batch, _ in self._batches:
                _libc.sendmmsg(self._socket.fileno(), batch, _BATCH, 0)

    def close(self) -> None:
        self._socket.close()

    def _send(self, ended: threading.Event) -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of this thread
        while not ended.is_set():
            for batch, _ in self._batches:
                _libc.sendmmsg(self._socket.fileno(), batch, _BATCH, 0)
                if ended.is_set():
                    return
            self.sent_all.set()


class Node:
    """A node with bounds (`settings` where none of the usual ones are meant), one that floods and its neighbour.
    `narrow`: its uplink carries UPLINK bytes a second, and the flood is of full packets, of few flows."""

    def __init__(
        self,
        bounds: str,
        opened: ExitStack,
        family: Family = 4,
        *,
        narrow: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self.bounds, self.family = bounds, family
        self._lab = opened.enter_context(Lab())
        flooding, neighbour = self._lab.sandboxes(["flooding", "neighbour"])
        settings = settings or _SETTINGS[bounds]
        with self._lab.node.enter(), Wall.open(root=self._lab.root, settings=settings) as wall:
            self._endpoint = wall.attach("flooding", netns=flooding.netns)
            wall.attach("neighbour", netns=neighbour.netns)
        if narrow:
            limit = ["rate", f"{UPLINK}bps", "burst", "256kb", "latency", "20ms"]
            self._lab.node.run(["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *limit])
        gateway = settings.network.bridge_mac
        self.inner = Flood(flooding, self._endpoint, gateway, "lo", family, narrow=narrow)
        outer = Flood(flooding, self._endpoint, gateway, "eth0", family, narrow=narrow)
        for flood in (self.inner, outer):
            opened.callback(flood.close)
        self.flood = self.inner if bounds == _INSIDE else outer
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        sink = opened.enter_context(self._lab.internet.socket(kind, socket.SOCK_DGRAM))
        sink.bind((PUBLIC4[1] if family == 4 else PUBLIC6[1], 9))  # nobody answers, nor says that nobody is there
        self.load = Load(self._lab, neighbour, kind)
        opened.callback(self.load.close)
        self._transfer = Transfer(self._lab, neighbour, family, opened) if narrow else None

    def sample(self) -> dict[str, float]:
        """The neighbour's rates."""
        if self._transfer is not None:
            return {"throughput": self._transfer.rate()}
        found = {}
        for what, count, carry in (
            ("connections", CONNECTIONS, self.load.connections),
            ("datagrams", DATAGRAMS, self.load.datagrams),
        ):
            found[what] = count / _worked(carry)
        return found

    def remembered(self) -> int:
        """Flows that the flooding sandbox has, which are forgotten then."""
        own = self._endpoint.address4 if self.family == 4 else self._endpoint.address6
        query = ["-f", f"ipv{self.family}", "-p", "udp", "--orig-src", str(own)]
        found = len(self._lab.node.run(["conntrack", "-L", *query]).text.splitlines())
        self._lab.node.run(["conntrack", "-D", *query], check=False)
        return found


class Transfer:
    """One TCP flow of the neighbour's that never ends: what of it arrives."""

    def __init__(self, lab: Lab, neighbour: Host, family: Family, opened: ExitStack) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        address = PUBLIC4[1] if family == 4 else PUBLIC6[1]
        self._ended, self._received = threading.Event(), 0
        with lab.internet.socket(kind, socket.SOCK_STREAM) as listener:
            listener.bind((address, 9))
            listener.listen(1)
            sender = opened.enter_context(neighbour.socket(kind, socket.SOCK_STREAM))
            sender.connect((address, 9))
            receiver = opened.enter_context(listener.accept()[0])
        for sock in (sender, receiver):
            sock.settimeout(0.2)
        threads = [
            threading.Thread(target=work, args=(sock,)) for work, sock in ((self._send, sender), (self._take, receiver))
        ]
        for thread in threads:
            opened.callback(thread.join)
            thread.start()
        opened.callback(self._ended.set)

    def rate(self) -> float:
        """Bytes a second, over the next sample."""
        before, began = self._received, time.perf_counter()
        time.sleep(_SAMPLE)
        return (self._received - before) / (time.perf_counter() - began)

    def _send(self, sock: socket.socket) -> None:
        data = bytes(1 << 17)
        while not self._ended.is_set():
            with suppress(TimeoutError):
                sock.send(data)

    def _take(self, sock: socket.socket) -> None:
        room = bytearray(1 << 20)
        while not self._ended.is_set():
            with suppress(TimeoutError):
                self._received += sock.recv_into(room)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = parser_for("neighbour", __doc__, quick="3 rounds")
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="of everybody (%(default)s)")
    chosen = parser.parse_args(argv)
    return tell(measure(3 if chosen.quick else chosen.rounds), _text, as_json=chosen.json)


def measure(rounds: int) -> Report:
    """The whole run; it leaves nothing behind."""
    place_state("tmpfs")
    processors = os.sched_getaffinity(0)
    rows: list[Left] = []
    try:
        for family in FAMILIES:
            with ExitStack() as opened:
                os.sched_setaffinity(0, {min(processors)})
                nodes = [Node(bounds, opened, family) for bounds in _SETTINGS]
                rows += _measured(nodes, rounds)
            os.sched_setaffinity(0, processors)
            for bounds in _NARROW:  # each alone: a transfer that nobody looks at costs the others as much
                with ExitStack() as opened:
                    rows += _measured([Node(bounds, opened, family, narrow=True)], max(3, rounds // 4))
    finally:
        os.sched_setaffinity(0, processors)
    return Report(machine("tmpfs"), rows)


def _measured(nodes: Sequence[Node], rounds: int) -> list[Left]:
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
        _left(node, what, quiet[node.bounds, what], beside[node.bounds, what], remembered[node.bounds])
        for node in nodes
        for bounds, what in quiet
        if bounds == node.bounds
    ]


def _worked(carry: Callable[[], object]) -> float:
    """Seconds of processor time."""
    began = time.thread_time()
    carry()
    return time.thread_time() - began


def _left(node: Node, what: str, quiet: Sequence[float], beside: Sequence[float], remembered: int) -> Left:
    ratios = [after / before for before, after in zip(quiet, beside, strict=True)]
    return Left(
        family=node.family,
        bounds=node.bounds,
        what=what,
        samples=len(ratios),
        rate=statistics.median(quiet),
        ratio=statistics.median(ratios),
        ratio_p5=quantile(ratios, 0.05),
        ratio_p95=quantile(ratios, 0.95),
        remembered=remembered,
    )


def _messages(model: bytes, first: int, family: Family) -> tuple["ctypes.Array[Message]", list[bytes]]:
    """A batch of frames that differ by source port, and what has to live as long as it. UDP over IPv4 may have no
    checksum; over IPv6 the payload makes up for the difference."""
    at = 14 + (20 if family == 4 else 40)
    frames = []
    for number in range(first, first + _BATCH):
        one = bytearray(model)
        one[at : at + 2] = number.to_bytes(2, "big")
        if family == 4:
            one[at + 6 : at + 8] = bytes(2)
        else:
            one[at + 8 : at + 10] = (0xFFFF - number).to_bytes(2, "big")
        frames.append(bytes(one))
    return message_batch(frames), frames


def _text(report: Report) -> str:
    rows = [
        [f"IPv{row.family}", row.bounds, row.what, f"{row.rate:,.0f}", f"{row.ratio:.2f}",
         f"{row.ratio_p5:.2f}-{row.ratio_p95:.2f}", f"{row.remembered:,}"]
        for row in report.rows
    ]  # fmt: skip
    head = [
        "",
        "bounds of a sandbox",
        "of its neighbour",
        "a second, alone",
        "left beside a flood",
        "90 %",
        "flows of the flood",
    ]
    note = f"a sample: {CONNECTIONS} connections or {DATAGRAMS:,} datagrams; a flood of {FLOWS:,} flows at most"
    return "\n".join([headline(report.machine), "", table(head, rows), "", note])
