"""The thread that records what sandboxes tried, beside the writer: listens to the kernel's log of denied packets for as
long as the daemon runs, and goes by the settings in force. Without a log, as the kernel has none or another program
listens to the group, the wall is as whole as with one; it is tried again now and then.
"""

import logging
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from threading import Thread

from cellwall import __version__
from cellwall.adapters.events.files import Appended, EventFiles
from cellwall.adapters.events.journald import Journal
from cellwall.adapters.events.nflog import Heard, PacketLog
from cellwall.adapters.iptables.counted_sets import read_denied_by_address
from cellwall.adapters.netlink.nfnetlink import open_netfilter_socket
from cellwall.adapters.nftables.denials import read_denied
from cellwall.api import Wall
from cellwall.audit.events import Event, line_of
from cellwall.audit.shown import journal_entry
from cellwall.audit.tally import Tallied
from cellwall.config import Serving
from cellwall.daemon.audit.recorder import EventLog, Feed, Recorder
from cellwall.errors import CellwallError, KernelError
from cellwall.model.endpoint import Endpoint
from cellwall.model.figures import Denied
from cellwall.model.settings import Audit

_log = logging.getLogger("cellwall.daemon")

_LOOK = 0.5
"""Seconds after which it is looked, where nothing is logged, for other settings and what is to be said of losses."""

_AGAIN = 10.0
"""Seconds until it is tried again to listen."""

_MOST = 4096

_SHARED = 4
"""One of so many event files is for what stays of those that go."""

_GATHERED = 0.1
"""Seconds after which the kernel has handed over what it gathers (`cellwall.adapters.events.nflog`), for who reads no
more."""


class FilesAndJournal:
    """The event files of a node and, if so configured, systemd's journal beside them."""

    def __init__(self, directory: str, serving: Serving) -> None:
        size, shared = serving.file_size << 20, -(-serving.files // _SHARED) if serving.files > 1 else 0
        self._files = EventFiles(directory, size=size, count=serving.files - shared, shares=shared * size)
        self._journal = Journal() if serving.journal else None

    def append(self, events: Sequence[Event]) -> Appended:
        """See `recorder.EventLog`. The journal is no record: what it does not take is in the files."""
        if self._journal is not None:
            self._journal.tell(journal_entry(event) for event in events)
        return self._files.append([line_of(event) for event in events])

    def close(self) -> None:
        """Idempotent."""
        self._files.close()
        if self._journal is not None:
            self._journal.close()


class Auditor:
    """What is recorded, for the thread of `audited` to carry on and for others to ask. `settings`: those in force."""

    def __init__(self, recorder: Recorder, settings: Callable[[], Audit]) -> None:
        self._recorder = recorder
        self._settings = settings
        self._deaf = ""

    @property
    def tallied(self) -> Tallied:
        """How much was recorded, and how much was not."""
        return self._recorder.tally.tallied()

    @property
    def trouble(self) -> str:
        """Why nothing is recorded just now, "" where it is; a node that is to log nothing has no trouble."""
        return self._deaf or self._recorder.trouble

    def notes(self, mechanism: str) -> tuple[str, ...]:
        """What somebody who looks at the node should know of the record, a line each. `mechanism`: what holds the
        wall."""
        lines = [f"what sandboxes try is not recorded: {self.trouble}"] if self.trouble else []
        if mechanism.startswith("iptables") and self._settings().log:
            lines.append("of forged sources and frames iptables tells so many a second of all sandboxes together")
        missed = sum(self.tallied.unrecorded.values())
        if missed:
            lines.append(f"{missed} attempts were not recorded one by one since the daemon began (`cellwall log`)")
        return tuple(lines)

    def run(self, stop: int) -> None:
        """Until the descriptor is readable, whatever fails meanwhile."""
        while True:
            try:
                return self._record(stop)
            except Exception as error:
                _log.exception("the record of what sandboxes try failed, and begins anew")
                self._deaf = f"the record failed, and begins anew: {error}"
            if select.select([stop], [], [], _AGAIN)[0]:
                return None

    def _record(self, stop: int) -> None:
        while True:
            wanted = self._settings()
            log = _listening(wanted, self._tell)
            if log is not None:
                with closing(log):
                    self._recorder.begin(__version__)
                    over = self._listen(log, wanted, stop)
            else:
                over = self._wait(wanted, stop)
            if over:
                return

    def _listen(self, log: PacketLog, wanted: Audit, stop: int) -> bool:
        """True where it is over, False where other settings are in force."""
        poll = select.poll()
        for fd in (log.fileno(), stop):
            poll.register(fd, select.POLLIN)
        while True:
            over = any(fd == stop for fd, _ in poll.poll(_LOOK * 1000))
            last = over or self._settings() != wanted
            if last:
                time.sleep(_GATHERED)
            heard = log.read(_MOST)
            drained = len(heard.packets) < _MOST
            self._recorder.step(heard, drained=drained, last=last)
            if last:
                return over

    def _wait(self, wanted: Audit, stop: int) -> bool:
        waited = 0.0
        while waited < _AGAIN and self._settings() == wanted:
            if select.select([stop], [], [], _LOOK)[0]:
                return True
            self._recorder.step(Heard(()), drained=True)
            waited += _LOOK
        return False

    def _tell(self, deaf: str) -> None:
        if deaf and deaf != self._deaf:
            _log.warning("what sandboxes try is not recorded: %s", deaf)
        self._deaf = deaf


def _listening(wanted: Audit, tell: Callable[[str], None]) -> PacketLog | None:
    log, deaf = None, ""
    if wanted.log:
        try:
            log = PacketLog(wanted.group)
        except CellwallError as error:
            deaf = str(error)
    tell(deaf)
    return log


@contextmanager
def audited(wall: Wall, log: EventLog, refill: Callable[[], Iterable[Endpoint]]) -> Iterator[Auditor]:
    """An auditor at work in a thread of the node's network namespace, who follows what this wall does; it is over at
    the end of the block. `refill`: all endpoints there are, read beside the writer."""
    feed, netfilter = Feed(), open_netfilter_socket()

    def denied() -> Denied | None:
        try:
            # Where nothing counts yet, as before the wall is up, nothing was counted before what comes.
            return read_denied(netfilter) or read_denied_by_address(netfilter) or Denied({}, {}, {})
        except KernelError as error:
            _log.warning("%s", error)
            return None

    auditor = Auditor(Recorder(feed, log, refill, denied), lambda: wall.settings.audit)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    wall.follow(feed)

    thread = Thread(target=auditor.run, args=(reading,), name="cellwall-auditor")
    thread.start()
    try:
        yield auditor
    finally:
        os.close(writing)  # which makes the other end readable
        thread.join()
        wall.follow(None)
        os.close(reading)
        netfilter.close()
