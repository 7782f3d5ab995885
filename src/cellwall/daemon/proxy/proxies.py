"""The daemon's side of the proxy between address families: what is to be served, and by whom.

Told at the end of every turn of the wall's, whoever's it was, and it returns when the proxy goes by what changed: a
client that a policy does not admit any more is cut before the change is answered, as the wall's own flows are.

Owns: when the process is begun, which is with the first proxied port and anew where it died, and the sockets that
listen, so that a port is bound with the daemon's rights and by nobody else. What cannot be listened at is logged, and
tried again.
"""

import logging
import socket
from contextlib import suppress
from threading import Lock

from cellwall.daemon.proxy.arrivals import LOOPBACK, ask_for_arrivals
from cellwall.daemon.proxy.program import Program
from cellwall.daemon.proxy.relay import Told
from cellwall.engine.site import Site
from cellwall.errors import CellwallError
from cellwall.model.endpoint import EndpointKey
from cellwall.model.proxied import MAX_PROXIES, Lists, ProxyRule, proxy_rules, unkept_bounds

_log = logging.getLogger("cellwall.daemon")
_BACKLOG = 128

Place = tuple[int, int, str]


class Proxies:
    """What is proxied on one node. `close` ends it."""

    def __init__(self) -> None:
        self._state = Lock()
        self._stamps: dict[EndpointKey, int] = {}
        self._made: dict[EndpointKey, tuple[ProxyRule, ...]] = {}
        self._terms: tuple[str, tuple[int, ...]] = ("", ())
        self._wanted: dict[Place, ProxyRule] = {}
        self._rules: dict[Place, ProxyRule] = {}
        self._sockets: dict[Place, socket.socket] = {}
        self._failed: set[Place] = set()
        self._program: Program | None = None

    def follow(self, site: Site, anew: bool) -> None:
        """Serve what is on record by now. `anew`: also of endpoints that had nothing proxied so far. Logs what fails;
        a change of the wall does not depend on it, and without a proxy nothing is served."""
        with self._state:
            if not (anew or self._stamps):
                return
            try:
                self._look(site, anew)
                self._serve(self._wanted, site)
            except Exception as error:  # also a defect: what was done to the wall is done
                known = isinstance(error, CellwallError | OSError)
                _log.error("the proxy does not follow: %s", error, exc_info=None if known else error)
                self._end()

    def is_dead(self) -> bool:
        """Whether there is need of a turn, at which the process begins anew. It waits for none."""
        program = self._program
        return program is not None and program.dead

    def close(self) -> None:
        """End the proxy, and with it all that it serves. Idempotent."""
        with self._state:
            self._end()

    def _look(self, site: Site, anew: bool) -> None:
        """What is wanted by now. It is asked at every turn of anybody's, so rules are made of what changed alone."""
        terms = (site.settings_text, _open_sides(site))
        keys = [one.key for one in site.journal.proxied()] if anew else list(self._stamps)
        stamps = {key: stamp for key in keys if (stamp := site.journal.stamp(key))}
        if stamps == self._stamps and terms == self._terms:
            return
        same = self._stamps if terms == self._terms else {}
        made = _rules(site, [key for key, stamp in stamps.items() if same.get(key) != stamp], terms[1])
        everything = {key: made[key] if key in made else self._made[key] for key in stamps}
        self._made = {key: rules for key, rules in everything.items() if rules}
        self._stamps, self._terms = {key: stamps[key] for key in self._made}, terms
        self._wanted = self._chosen(site)

    def _chosen(self, site: Site) -> dict[Place, ProxyRule]:
        """What is served of all that there is: nothing past a bound, and what stands before what came later."""
        if self._made and (bounds := unkept_bounds(site.settings)):
            _log.error("no port is proxied: %s would not hold for what a proxy carries", ", ".join(bounds))
            return {}
        rules = [rule for each in self._made.values() for rule in each]
        if len(rules) > MAX_PROXIES:
            _log.error("%d ports are proxied: %d of these are served", len(rules), MAX_PROXIES)
            rules.sort(key=lambda rule: rule.place not in self._rules)
        return {rule.place: rule for rule in rules[:MAX_PROXIES]}

    def _serve(self, wanted: dict[Place, ProxyRule], site: Site) -> None:
        if self._program is not None and (over := self._program.is_over()):
            _log.error("the proxy %s, and begins anew", over)
            self._end()
        if wanted == self._rules:
            return
        if self._program is None:
            self._program = Program()
        program = self._program
        for place in self._rules.keys() - wanted.keys():
            program.tell(Told("end", self._rules.pop(place)))
            _stop(self._sockets.pop(place))
        for place, rule in wanted.items():
            if place in self._sockets:
                if self._rules[place] is not rule and self._rules[place] != rule:
                    program.tell(Told("serve", rule))
            elif (listening := self._listen(rule, site)) is not None:
                self._sockets[place] = listening
                program.tell(Told("serve", rule), listening.fileno())
        self._rules = {place: rule for place, rule in wanted.items() if place in self._sockets}
        if not program.settle():
            _log.error("the proxy is late: until it has done what it was told, it passes nothing on")

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

    def _end(self) -> None:
        if self._program is not None:
            self._program.end()
            self._program = None
        while self._sockets:
            _stop(self._sockets.popitem()[1])
        self._rules = {}


def _rules(site: Site, keys: list[EndpointKey], sides: tuple[int, ...]) -> dict[EndpointKey, tuple[ProxyRule, ...]]:
    network, connections = site.settings.network, site.settings.connections
    networks, lists = (network.subnet4, network.subnet6), Lists()
    rows = [row for key in keys if (row := site.journal.endpoint(key)) is not None]
    return {one.key: proxy_rules([one], networks, connections, sides, lists) for one, _ in rows}


def _open_sides(site: Site) -> tuple[int, ...]:
    """The interfaces by which clients come to published ports: the uplink, and the node's own."""
    found = site.foundation()
    uplink = None if found is None else site.links.find(found.uplink)
    return () if uplink is None else (LOOPBACK, uplink.index)


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
