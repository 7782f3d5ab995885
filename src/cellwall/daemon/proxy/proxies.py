"""The daemon's side of the proxy between address families: what is to be served, and by whom.

Told at the end of every turn of the wall's, whoever's it was, and it returns when the proxy goes by what changed: a
client that a policy does not admit any more is cut before the change is answered, as the wall's own flows are. Asked
before a port goes on record, so that one that cannot be served is refused, and nothing is changed.

Owns: when the process is begun, which is with the first proxied port and anew where it died, and the sockets that
listen, so that a port is bound with the daemon's rights and by nobody else. What stands on record and cannot be
listened at, as after a restart, is logged, told by `notes`, and tried again.
"""

import errno
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Lock

from cellwall.daemon.proxy.arrivals import LOOPBACK, ask_for_arrivals
from cellwall.daemon.proxy.program import Program
from cellwall.daemon.proxy.relay import Told
from cellwall.engine.site import Site
from cellwall.errors import CellwallError, Conflict, Exhausted, Unavailable, Unsupported
from cellwall.model.endpoint import Endpoint, EndpointKey, PortBinding
from cellwall.model.proxied import (
    MAX_PROXIES,
    Lists,
    Place,
    ProxyRule,
    most_connections,
    most_proxied,
    place_of,
    proxy_rules,
    refused_clients,
    unkept_bounds,
)

_log = logging.getLogger("cellwall.daemon")
_BACKLOG = 128
AGAIN, SOON = 1.0, 60.0
"""Seconds before what could not be had, a process or a port to listen at, is tried again by a turn that does not ask
for it, as each would wait for that; and for which what is not served is a reason for turns that nobody asks for."""
_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""Of what there may be more later."""


class Proxies:
    """What is proxied on one node. `close` ends it."""

    def __init__(self) -> None:
        self._state = Lock()
        self._tenants: dict[EndpointKey, str] = {}
        self._concerned: frozenset[EndpointKey | str] = frozenset()
        self._containers: frozenset[str] = frozenset()
        self._made: dict[EndpointKey, tuple[ProxyRule, ...]] = {}
        self._terms: tuple[str, tuple[int, ...]] | None = None
        self._anew = False
        self._wanted: dict[Place, ProxyRule] = {}
        self._rules: dict[Place, ProxyRule] = {}
        self._sockets: dict[Place, socket.socket] = {}
        self._ready: dict[Place, socket.socket] = {}
        self._failed: dict[Place, tuple[str, float]] = {}
        self._trouble = self._unkept = ""
        self._program: Program | None = None
        self._not_before = 0.0
        self._behind: float | None = None
        self._closed = False

    def prepare(self, site: Site, bindings: Iterable[PortBinding]) -> None:
        """Listen for these, which are about to go on record, and have the process that is to serve them. What is not
        on record at the end of this turn is let go then. Conflict where nothing can listen there, Exhausted and
        Unavailable where there is no room for it, ever or now, Unsupported where the program is missing."""
        with self._state:
            for binding in bindings:
                if self._closed:
                    raise Unavailable(f"expose.proxy: {binding}: the daemon is ending; ask again")
                if len({*self._wanted, *self._ready, place_of(binding)}) > _most():
                    raise Exhausted(f"expose.proxy: {binding}: {_enough_for()}")
                try:
                    self._begin()
                    self._make_ready(site, binding)
                except Unsupported as error:
                    raise Unsupported(f"expose.proxy: {binding}: {error}") from error
                except OSError as error:
                    raise Unavailable(f"expose.proxy: {binding}: cannot be served now: {error.strerror}") from error

    def notes(self) -> tuple[str, ...]:
        """What is on record and not served, a line each."""
        with self._state:
            unserved = [rule for each in self._made.values() for rule in each if rule.place not in self._rules]
            whys = [self._why_unserved(rule) for rule in unserved]
            return tuple(
                f"port {rule.host_port} is proxied for {rule.target}, and not served{why and ': '}{why}"
                for rule, why in zip(unserved, whys, strict=True)
            )

    def follow(self, site: Site, anew: bool, container: str | None = None) -> None:
        """Serve what is on record by now. `anew`: also of endpoints that had nothing proxied so far. Logs what fails;
        a change of the wall does not depend on it, and without a proxy nothing is served. `container`: nothing but what
        is this one's can have changed, so that a claim that comes alone does not ask the record about every port."""
        self._anew |= anew
        if container is not None and not self._anew and container not in self._containers:
            return
        with self._state:
            if self._closed or not (self._anew or self._made):
                return
            try:
                self._look(site)
                self._serve(self._wanted, site)
            except Exception as error:  # also a defect: what was done to the wall is done
                known = isinstance(error, CellwallError | OSError)
                _log.error("the proxy does not follow: %s", error, exc_info=None if known else error)
                self._trouble = (isinstance(error, OSError) and error.strerror) or str(error)
                self._end()
            if self._wanted.keys() == self._rules.keys() and not self._anew:
                self._behind = None
            elif self._behind is None:
                self._behind = time.monotonic()

    def is_behind(self) -> bool:
        """Whether there is need of a turn that nobody asked for: the process has died, or what is wanted is not served
        since a while ago. It waits for none."""
        program, since = self._program, self._behind
        if program is not None and program.dead:
            return True
        return since is not None and time.monotonic() - since < SOON

    def close(self) -> None:
        """End the proxy, and with it all that it serves: nothing begins any more. Idempotent."""
        with self._state:
            self._closed = True
            self._end()

    def _look(self, site: Site) -> None:
        """What is wanted by now. It is asked at every turn of anybody's, so rules are made of what changed alone, and
        where that is nothing, nothing is read. What fails has changed nothing, and is all looked at again."""
        terms, changed = (site.settings_text, _open_sides(site)), site.journal.changed()
        self._anew |= changed is None
        touched = self._concerned if changed is None or terms != self._terms else changed
        if not self._anew and touched.isdisjoint(self._concerned):
            return
        self._terms = None
        rules_of, made, tenants = _maker(site, terms[1]), {}, {}
        for key in [one.key for one in site.journal.proxied()] if self._anew else list(self._made):
            if key in self._made and touched.isdisjoint((key, self._tenants[key])):
                made[key], tenants[key] = self._made[key], self._tenants[key]
                continue
            row = site.journal.endpoint(key)
            if row is not None and row[1] == "attached" and (rules := rules_of(row[0])):
                made[key], tenants[key] = rules, row[0].tenant
        self._made, self._tenants = made, tenants
        self._concerned = frozenset({*tenants, *tenants.values()})
        self._containers = frozenset(key.container_id for key in made)
        self._wanted = self._chosen(site)
        self._terms, self._anew = terms, False

    def _chosen(self, site: Site) -> dict[Place, ProxyRule]:
        """What is served of all that there is: nothing past a bound, and what stands before what came later."""
        self._unkept = ""
        if self._made and (bounds := unkept_bounds(site.settings)):
            self._unkept = f"{', '.join(bounds)} would not hold for what a proxy carries"
            _log.error("no port is proxied: %s", self._unkept)
            return {}
        rules = [rule for each in self._made.values() for rule in each]
        if len(rules) > (most := _most()):
            _log.error("%d ports are proxied: %d of these are served; %s", len(rules), most, _enough_for())
            rules.sort(key=lambda rule: rule.place not in self._rules)
        return {rule.place: rule for rule in rules[:most]}

    def _serve(self, wanted: dict[Place, ProxyRule], site: Site) -> None:
        self._end_what_is_over()
        if wanted != self._rules and (self._program is not None or time.monotonic() >= self._not_before):
            self._begin()
            self._tell(wanted, site)
        while self._ready:  # what was refused after all
            _stop(self._ready.popitem()[1])

    def _end_what_is_over(self) -> None:
        if self._program is not None and (over := self._program.is_over()):
            _log.error("the proxy %s, and begins anew", over)
            self._end()

    def _why_unserved(self, rule: ProxyRule) -> str:
        why = self._failed.get(rule.place, ("",))[0] or self._unkept or self._trouble
        return why or ("" if rule.place in self._wanted else _enough_for())

    def _begin(self) -> None:
        """Have a process. One that begins is waited for, as long as for any answer: whether it does is seen by that.
        OSError, Unsupported."""
        self._end_what_is_over()
        if self._program is not None:
            return
        try:
            self._program, self._trouble = _begun(), ""
        except BaseException:
            self._not_before = time.monotonic() + AGAIN
            raise

    def _tell(self, wanted: dict[Place, ProxyRule], site: Site) -> None:
        program = self._program
        assert program is not None
        for place in (ended := self._rules.keys() - wanted.keys()):
            program.tell(Told("end", self._rules.pop(place)))
            _stop(self._sockets.pop(place))
        for place, rule in wanted.items():
            if place in self._sockets:
                if self._rules[place] is not rule and self._rules[place] != rule:
                    program.tell(Told("serve", rule))
            elif (listening := self._listen(rule, site)) is not None:
                self._sockets[place] = listening
                program.tell(Told("serve", rule), listening.fileno())
        self._failed = {place: failed for place, failed in self._failed.items() if place in wanted}
        before, self._rules = self._rules, {place: wanted[place] for place in wanted if place in self._sockets}
        if before == self._rules and not ended:  # what cannot be listened at is tried again
            return
        if not program.settle():
            _log.error("the proxy is late: until it has done what it was told, it passes nothing on")

    def _make_ready(self, site: Site, binding: PortBinding) -> None:
        """Listen there. Conflict; OSError for want of room."""
        place = place_of(binding)
        if place in self._sockets or place in self._ready:
            return
        try:
            self._ready[place] = _listening(place, site)
        except OSError as error:
            if error.errno in _ROOM:
                raise
            if error.errno == errno.EADDRINUSE and any(ours[:2] == place[:2] for ours in self._sockets):
                return  # of who was there until this turn, and gives it up at its end
            field = "bind" if error.errno == errno.EADDRNOTAVAIL else "host_port"
            raise Conflict(
                f"expose.{field}: {binding}: nothing can listen there for a proxy: {error.strerror}"
            ) from error

    def _listen(self, rule: ProxyRule, site: Site) -> socket.socket | None:
        place, now = rule.place, time.monotonic()
        ready = self._ready.pop(place, None)
        if ready is None and place in self._failed and now < self._failed[place][1]:
            return None
        try:
            listening = ready or _listening(place, site)
        except OSError as error:
            if place not in self._failed:
                _log.error("port %d is proxied for %s, and cannot be: %s", rule.host_port, rule.target, error.strerror)
            self._failed[place] = error.strerror or str(error), now + AGAIN
            return None
        self._failed.pop(place, None)
        return listening

    def _end(self) -> None:
        if self._program is not None:
            self._program.end()
            self._program = None
        for sockets in (self._sockets, self._ready):
            while sockets:
                _stop(sockets.popitem()[1])
        self._rules = {}


def _descriptors() -> int:
    """As many as this process may ever have, and the proxy's, which has its limits from it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 4 * MAX_PROXIES if most == resource.RLIM_INFINITY else most


def _most() -> int:
    return most_proxied(_descriptors())


def _enough_for() -> str:
    """What to say of the port that is one too many."""
    if _most() == MAX_PROXIES:
        return f"a node has at most {MAX_PROXIES} ports served by a proxy"
    return f"the daemon's {_descriptors()} descriptors (LimitNOFILE=) are enough for {_most()} ports served by a proxy"


def _begun() -> Program:
    program = Program()
    try:
        program.settle()
    except OSError as error:
        program.end()
        raise OSError(error.errno, "the proxy ended as it began") from error
    return program


def _maker(site: Site, sides: tuple[int, ...]) -> Callable[[Endpoint], tuple[ProxyRule, ...]]:
    """What makes the rules of an endpoint, of one look."""
    refused, most, lists = refused_clients(site.settings), most_connections(site.settings), Lists()
    return lambda endpoint: proxy_rules([endpoint], refused, most, sides, lists)


def _open_sides(site: Site) -> tuple[int, ...]:
    """The interfaces by which clients come to published ports: the uplink, and the node's own."""
    found = site.foundation()
    uplink = None if found is None else site.links.find(found.uplink)
    return () if uplink is None else (LOOPBACK, uplink.index)


def _listening(place: Place, site: Site) -> socket.socket:
    """What listens there: what holds the port for its container, or else another one. OSError."""
    held = site.holds().own_socket(place[0])
    one = _bound(place) if held is None else socket.socket(fileno=held)
    try:
        ask_for_arrivals(one)
        one.listen(_BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _bound(place: Place) -> socket.socket:
    host_port, family, bind = place
    one = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if family == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a former one may linger
        one.bind((bind, host_port))
    except BaseException:
        one.close()
        raise
    return one


def _stop(listening: socket.socket) -> None:
    """Listen no more, also where the socket holds the port for its container: duplicates go on holding it."""
    with suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()
