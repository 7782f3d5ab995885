"""The daemon's side of the proxy between address families: what is to be served, and by whom.

Told at the end of every turn of the wall's, whoever's it was, and it returns when the proxy goes by what changed: a
client that a policy does not admit any more is cut before the change is answered, as the wall's own flows are.

Owns: the process, which is begun with the first proxied port and anew where it died, and the sockets that listen, so
that a port is bound with the daemon's rights and by nobody else. What cannot be listened at is logged, and tried again.
"""

import errno
import logging
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Lock

import msgspec

from cellwall.adapters import process
from cellwall.daemon.arrivals import LOOPBACK, ask_for_arrivals
from cellwall.daemon.relay import Told
from cellwall.engine.site import Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import Endpoint, EndpointKey
from cellwall.model.proxied import MAX_PROXIES, ProxyRule, proxy_rules

_log = logging.getLogger("cellwall.daemon")
_ANSWER = 5.0
"""Seconds for the proxy to do what it was told; one that does not is ended, with its connections."""
_BACKLOG = 128
_LARGEST = 1 << 20

Place = tuple[int, int, str]


class Proxies:
    """What is proxied on one node. `close` ends it."""

    def __init__(self) -> None:
        self._state = Lock()
        self._known: set[EndpointKey] = set()
        self._rules: dict[Place, ProxyRule] = {}
        self._sockets: dict[Place, socket.socket] = {}
        self._failed: set[Place] = set()
        self._told: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._number = 0

    def follow(self, site: Site, anew: bool) -> None:
        """Serve what is on record by now. `anew`: also of endpoints that had nothing proxied so far. Logs what fails;
        a change of the wall does not depend on it, and without a proxy nothing is served."""
        with self._state:
            if not (anew or self._known):
                return
            try:
                self._serve(self._wanted(site, anew), site)
            except Exception as error:  # also a defect: what was done to the wall is done
                known = isinstance(error, CellwallError | OSError)
                _log.error("the proxy does not follow: %s", error, exc_info=None if known else error)
                self._end()

    def close(self) -> None:
        """End the proxy, and with it all that it serves. Idempotent."""
        with self._state:
            self._end()

    def _wanted(self, site: Site, anew: bool) -> dict[Place, ProxyRule]:
        endpoints = [one for one in _endpoints(site, None if anew else self._known) if _proxied(one)]
        self._known = {one.key for one in endpoints}
        network = site.settings.network
        networks = (network.subnet4, network.subnet6)
        rules = proxy_rules(endpoints, networks, site.settings.connections, _open_sides(site))
        if len(rules) > MAX_PROXIES:
            _log.error("%d ports are proxied: of these the first %d are served", len(rules), MAX_PROXIES)
        return {rule.place: rule for rule in rules[:MAX_PROXIES]}

    def _serve(self, wanted: dict[Place, ProxyRule], site: Site) -> None:
        if self._program is not None and self._program.poll() is not None:
            _log.error("the proxy has died (%s), and begins anew", self._program.returncode)
            self._end()
        if wanted == self._rules:
            return
        self._begin()
        for place in self._rules.keys() - wanted.keys():
            self._tell(Told("end", self._rules.pop(place)))
            _stop(self._sockets.pop(place))
        for place, rule in wanted.items():
            if place in self._sockets:
                if self._rules[place] != rule:
                    self._tell(Told("serve", rule))
            elif (listening := self._listen(rule, site)) is not None:
                self._sockets[place] = listening
                self._tell(Told("serve", rule), listening.fileno())
        self._rules = {place: rule for place, rule in wanted.items() if place in self._sockets}
        self._await()

    def _listen(self, rule: ProxyRule, site: Site) -> socket.socket | None:
        try:
            held = site.holds().own_socket(rule.host_port)
            listening = _bound(rule) if held is None else socket.socket(fileno=held)
            ask_for_arrivals(listening)
            listening.listen(_BACKLOG)
        except OSError as error:
            if rule.place not in self._failed:
                _log.error("port %d is proxied for %s, and cannot be: %s", rule.host_port, rule.target, error.strerror)
            self._failed.add(rule.place)
            return None
        self._failed.discard(rule.place)
        return listening

    def _begin(self) -> None:
        if self._told is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
            ours.settimeout(_ANSWER)
            self._told = ours
            self._program = process.start([sys.executable, "-m", "cellwall.daemon.relay"], stdin=theirs.fileno())

    def _tell(self, told: Told, *fds: int) -> None:
        assert self._told is not None
        socket.send_fds(self._told, [msgspec.json.encode(told)], fds)

    def _await(self) -> None:
        assert self._told is not None
        self._number += 1
        self._tell(Told("done", number=self._number))
        if self._told.recv(32) != str(self._number).encode():
            raise OSError(errno.EPIPE, "the proxy has ended")

    def _end(self) -> None:
        if self._told is not None:
            self._told.close()
            self._told = None
        if self._program is not None:
            process.end([self._program])
            self._program = None
        while self._sockets:
            _stop(self._sockets.popitem()[1])
        self._rules = {}


def _endpoints(site: Site, known: set[EndpointKey] | None) -> list[Endpoint]:
    if known is None:
        return list(site.journal.endpoints("attached"))
    rows = [row for key in sorted(known) if (row := site.journal.endpoint(key)) is not None]
    return [endpoint for endpoint, phase in rows if phase == "attached"]


def _open_sides(site: Site) -> tuple[int, ...]:
    """The interfaces by which clients come to published ports: the uplink, and the node's own."""
    found = site.foundation()
    uplink = None if found is None else site.links.find(found.uplink)
    return () if uplink is None else (LOOPBACK, uplink.index)


def _proxied(endpoint: Endpoint) -> bool:
    return any(binding.proxy for binding in endpoint.bindings)


def _bound(rule: ProxyRule) -> socket.socket:
    family = socket.AF_INET6 if rule.family == 6 else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if rule.family == 6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a former one may linger
        one.bind((rule.bind, rule.host_port))
    except BaseException:
        one.close()
        raise
    return one


def _stop(listening: socket.socket) -> None:
    """Listen no more, also where the socket holds the port for its container: duplicates go on holding it."""
    with suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()
