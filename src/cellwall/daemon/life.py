"""The daemon's life: from the writer lock to an orderly end.

It answers first, and takes over what another run left behind that: the socket is there before the node is looked at,
and whoever calls meanwhile waits in the writer's queue behind the look. The lock and the record of the mode come before
the socket, so that there is never a second writer, also where this one is killed.

Owns: that order, signals, and what a service manager is told. What is done about a call is the application's; what is
repaired, and when, is the watch's, which runs in a thread of its own by the same wall.
"""

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial

import msgspec
from aiohttp.web import Application

from cellwall.adapters.service_manager import ServiceManager
from cellwall.api import Wall
from cellwall.busy_poll import BusyPoll
from cellwall.config import Loaded, Paths, Serving, drop_mode_record
from cellwall.daemon.audit.thread import Auditor, FilesAndJournal, audited
from cellwall.daemon.authority import Authority, Granted
from cellwall.daemon.bounds import Bounds
from cellwall.daemon.fdstore.owner_socket import OwnerSocket
from cellwall.daemon.fdstore.reserved_ports import give_back, hold_reserved
from cellwall.daemon.http.application import CniAnswer, application
from cellwall.daemon.http.descriptors import with_room
from cellwall.daemon.http.fast_path import FastPath
from cellwall.daemon.http.listening import Listener
from cellwall.daemon.http.peers import granted, group_number
from cellwall.daemon.http.polling import PollingSelector
from cellwall.daemon.http.sockets import NAME, handed_over, let_in, listening
from cellwall.daemon.metrics.events import Events
from cellwall.daemon.metrics.scraping import listening_at, scraping
from cellwall.daemon.metrics.serving import Metrics
from cellwall.daemon.node import Node
from cellwall.daemon.proxy.proxies import Proxies
from cellwall.daemon.turns.watchdog import pet
from cellwall.daemon.watched import StartWatch, resting, watched
from cellwall.errors import CellwallError, Dismissed, InvalidSpec
from cellwall.model.pool import PoolSize
from cellwall.model.scraped import parse_scraped
from cellwall.watch.attention import THREAD_TURN, Attention

_log = logging.getLogger("cellwall.daemon")
_SHOWN = 20
_AGAIN = 1.0
"""Seconds before a node that could not be taken over is tried again."""
_ALLOCATIONS = 10_000
"""Objects made, less those freed, after which garbage is looked for among them. With Python's own 2,000 that was every
few claims, for 0.3 ms, and now and then for several: of 60,000 objects a handful was garbage. A round of all calls
about an endpoint leaves some fifty, 4 kB."""
_NOW_AND_THEN, _SOONER = 60.0, 2.0
"""Seconds after which what could not be done about the node is tried again, and after which it is asked whether that
should be sooner."""


class Terms(msgspec.Struct, frozen=True):
    """Who may connect, and what groups may ask for: `Serving` in numbers."""

    group: int | None
    granted: tuple[Granted, ...]


def terms_of(serving: Serving) -> Terms:
    """What is configured, by the groups that there are now; InvalidSpec."""
    if serving.allow and not serving.group:
        _log.warning("daemon.allow grants what nobody can ask for: daemon.group says who may connect")
    return Terms(group_number(serving.group, "daemon.group") if serving.group else None, granted(serving.allow))


def serve(
    paths: Paths,
    read: Callable[[], Loaded],
    environ: MutableMapping[str, str],
    *,
    cni: Callable[[Wall], CniAnswer] | None = None,
    bounds: Bounds | None = None,
) -> None:
    """Serve the node of the calling thread until SIGTERM or SIGINT. `read` reads the configuration; `cni` makes what
    answers the plugin's calls by the daemon's wall.

    Raises InvalidSpec where the configuration does not say that a daemon writes, Conflict where another one does or the
    socket's place is taken, Dismissed where cellwall was uninstalled meanwhile.
    """
    came = _noting_reloads()
    serving = _daemons_own(read().serving)
    terms, bounds = terms_of(serving), with_room(bounds or Bounds())
    _set_interpreter()
    manager = ServiceManager(environ)
    with closing(manager), ExitStack() as opened:
        wall, owner, proxies = opened.enter_context(_writing(paths, read, manager))
        sock = opened.enter_context(_socket(manager, paths, terms.group))
        beside = (opened.enter_context(_open(paths, read, reading=True)) for _ in range(4))
        to_answer, to_compare, to_sample, to_close = beside
        authority = Authority(terms.granted)
        metrics = Metrics(paths, wall, to_sample, bounds, most=serving.metrics_tenants)
        attention = opened.enter_context(closing(Attention()))
        events = metrics.events
        node = Node(wall, to_answer, bounds, coming=resting(attention), told=events.wrote, size=_size_of(serving))
        metrics.look_at(node, owner)
        made = application(node, authority, bounds, cni(wall) if cni else None, metrics)
        answering, selector = _answering(made, bounds, authority, node, events, serving)
        listeners = [(answering, sock), *_scraped(serving, metrics, bounds, opened)]
        take_over, reread = partial(_take_over, owner, wall, metrics), Reread(paths, read, authority, node, terms.group)
        life = Life(manager, node, take_over, reread, partial(_now_and_then, owner, wall), proxies.is_behind)
        node.proxies, node.auditor = proxies, _auditor(wall, to_answer, paths, serving, opened)
        watch = watched(wall, to_compare, to_close, events, lambda: node.writer.at_work, attention)
        with watch as start_watch, asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(life.run(listeners, start_watch, came))


def _noting_reloads() -> list[int]:
    """What has come of SIGHUP since, for who answers it once there is somebody: it would end the process until then."""
    came: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
    return came


def _daemons_own(serving: Serving) -> Serving:
    """What says that a daemon writes; InvalidSpec."""
    if serving.mode != "daemon":
        raise InvalidSpec("node.mode", serving.mode, "must be daemon before a daemon may write on this node")
    return serving


def _answering(
    made: Application, bounds: Bounds, authority: Authority, node: Node, events: Events, serving: Serving
) -> tuple[Listener, PollingSelector]:
    """Who answers at the socket, and what the event loop waits with for whom it has answered."""
    selector = PollingSelector(BusyPoll(serving.busy_poll / 1e6))
    fast = FastPath(node.attachments.claim_at_once, authority, events.answered)
    return Listener(made, bounds, authority, silence=selector.answered, heard=selector.heard, fast=fast), selector


def _auditor(wall: Wall, to_answer: Wall, paths: Paths, serving: Serving, opened: ExitStack) -> Auditor:
    """What records events, until `opened` ends."""
    event_log = opened.enter_context(closing(FilesAndJournal(paths.in_log(), serving)))
    return opened.enter_context(audited(wall, event_log, to_answer.present_endpoints))


def _set_interpreter() -> None:
    """Threads take short turns, and garbage is looked for rarely: what is loaded by now stays, and is looked at no
    more; and what calls leave behind frees itself, but for a few objects in a thousand."""
    sys.setswitchinterval(THREAD_TURN)
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])


@contextmanager
def _writing(
    paths: Paths, read: Callable[[], Loaded], manager: ServiceManager
) -> Iterator[tuple[Wall, OwnerSocket, Proxies]]:
    """The wall of the one who writes, with the lock, and what is this process's beside it: the socket that owns our
    tables, the ports on record, and what is proxied."""
    with _open(paths, read, serving=True) as wall, closing(Proxies()) as proxies:
        owner = OwnerSocket(manager)
        hold_reserved(wall, manager)
        wall.run_proxies(proxies)
        try:
            yield wall, owner, proxies
        finally:
            _leave_record(paths, read, owner)


def _scraped(
    serving: Serving, metrics: Metrics, bounds: Bounds, opened: ExitStack
) -> list[tuple[Listener, socket.socket]]:
    """Who answers at the port for figures, where there is one."""
    at = listening_at(parse_scraped(serving.metrics, "daemon.metrics")) if serving.metrics else None
    return [(scraping(metrics, bounds), opened.enter_context(at))] if at else []


def _take_over(owner: OwnerSocket, wall: Wall, metrics: Metrics) -> tuple[str, ...]:
    owner.own(wall)
    repaired = wall.resume()
    metrics.events.taken_over(len(repaired))
    return repaired


def _now_and_then(owner: OwnerSocket, wall: Wall) -> None:
    owner.own_again(wall)
    give_back(wall)
    gc.collect()  # what was in use whenever garbage was looked for


class Reread:
    """What is configured, brought into force anew by a call: all of it, or CellwallError and nothing."""

    def __init__(
        self, paths: Paths, read: Callable[[], Loaded], authority: Authority, node: Node, group: int | None
    ) -> None:
        self._paths = paths
        self._read = read
        self._authority = authority
        self._node = node
        self._group = group

    def __call__(self) -> None:
        serving = self._read().serving
        now = terms_of(serving)
        try:
            let_in(self._paths.socket, now.group)
        except CellwallError:
            with suppress(CellwallError):
                let_in(self._paths.socket, self._group)
            raise
        self._group = now.group
        self._authority.regrant(now.granted)
        self._node.resize_pool(_size_of(serving))


def _size_of(serving: Serving) -> PoolSize:
    return PoolSize(serving.pool_size, serving.pool_burst)


class Life:
    """What goes on beside the calls while the daemon runs."""

    def __init__(
        self,
        manager: ServiceManager,
        node: Node,
        take_over: Callable[[], tuple[str, ...]],
        reread: Callable[[], None],
        now_and_then: Callable[[], None],
        sooner: Callable[[], bool] = lambda: False,
    ) -> None:
        self._manager = manager
        self._node = node
        self._act = take_over
        self._reread = reread
        self._now_and_then = now_and_then
        self._sooner = sooner
        self._state = "takes the node over"

    async def run(
        self,
        listeners: Sequence[tuple[Listener, socket.socket]],
        start_watch: StartWatch,
        came: Collection[int] = (),
    ) -> None:
        """Until a signal, or what ends the watch; raises the latter. The first listener is what the others are beside:
        it begins first and ends last. `came`: of SIGHUP before."""
        loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finish)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._node.start()
        if came:
            self._read_anew()
        behind = [self._behind(self._take_over(start_watch)), self._behind(pet(self._manager, self._node.writer))]
        await asyncio.sleep(0)  # the takeover is first in the writer's queue
        try:
            for listener, sock in listeners:
                await listener.open(sock)
            _log.info("listening")
            await self._end
        finally:
            self._say("ends", STOPPING=1)
            for task in behind:
                task.cancel()
            for listener, _ in reversed(listeners):
                await listener.close()

    async def _take_over(self, start_watch: StartWatch) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                repaired = await self._node.writer.do(self._act)
                break
            except Dismissed as error:
                self._finish(error)
                return
            except (CellwallError, ExceptionGroup, OSError) as error:
                if self._end.done():
                    return
                _log.error("not taken over: %s", error)
                self._say(f"not taken over: {error}", READY=1)
                await asyncio.sleep(_AGAIN)
        for line in repaired[:_SHOWN]:
            _log.warning("taken over: %s", line)
        if len(repaired) > _SHOWN:
            _log.warning("taken over: and %d more", len(repaired) - _SHOWN)

        def failed(error: Exception) -> None:
            with suppress(RuntimeError):  # the daemon has ended meanwhile
                loop.call_soon_threadsafe(self._finish, error)

        start_watch(failed)
        self._say("serves", READY=1)
        while True:
            await self._pause()
            with suppress(CellwallError, OSError):  # what it is about fails in the calls and the watch as well
                await self._node.writer.do(self._now_and_then)

    async def _pause(self) -> None:
        end = time.monotonic() + _NOW_AND_THEN
        await asyncio.sleep(_SOONER)
        while time.monotonic() < end and not self._sooner():
            await asyncio.sleep(_SOONER)

    def _behind(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Work beside the calls. A defect in it is the end: nobody else would notice that it is not done."""
        task = asyncio.get_running_loop().create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self._finish(error)

        task.add_done_callback(ended)
        return task

    def _finish(self, error: Exception | None = None) -> None:
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    def _reload(self) -> None:
        self._manager.reloading()
        self._read_anew()
        self._say(self._state, READY=1)

    def _read_anew(self) -> None:
        try:
            self._reread()
            self._node.unread = ""
            _log.info("who may connect, and ask for what, is read anew")
        except Exception as error:  # also a defect: the manager waits for an answer
            self._node.unread = f"who may connect, and ask for what, stays as it was: {error}"
            _log.error("%s", self._node.unread, exc_info=None if isinstance(error, CellwallError) else error)

    def _say(self, state: str, **said: object) -> None:
        self._state = state
        words = f"{state}; {self._node.unread}" if self._node.unread else state
        self._manager.tell(**said, STATUS=" ".join(words.split()))


def _open(paths: Paths, read: Callable[[], Loaded], *, serving: bool = False, reading: bool = False) -> Wall:
    return Wall.open(root=paths.base, settings=lambda: read().settings, closing=True, serving=serving, reading=reading)


def _leave_record(paths: Paths, read: Callable[[], Loaded], owner: OwnerSocket) -> None:
    """Under the lock: where the configuration leaves the node to everybody by now, an orderly end does."""
    try:
        mode = read().serving.mode
    except CellwallError:
        return  # nobody can say: as it was
    if mode == "inprocess":
        drop_mode_record(paths)
        owner.leave()


@contextmanager
def _socket(manager: ServiceManager, paths: Paths, group: int | None) -> Iterator[socket.socket]:
    given = next((each for each in manager.given if each.name == NAME), None)
    with handed_over(given.fd, paths.socket, group) if given else listening(paths.socket, group) as sock:
        yield sock
