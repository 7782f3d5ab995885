"""What a daemon has on record after each of its answers: endpoints, their ports, and the ports that are reserved."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

FIRST, LAST = 61000, 61007
RESERVABLE = frozenset(range(FIRST, LAST + 1))
"""The ports that are reserved, and given to who asks for any: so few that they run out."""

Entry = tuple[str, frozenset[str]]
"""What the model knows of an endpoint: its tenant and its ports."""

Holder = tuple[str, str]
"""A container, and its tenant or "": whom ports are reserved for."""

Bodies = Sequence[Mapping[str, Any]]
"""Attaches of different containers, each with `expose`."""


class Model:
    """What has been answered, as dictionaries."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Entry] = {}
        self.reserved: dict[Holder, frozenset[int]] = {}
        self.dead: set[str] = set()
        """Whose sandbox is gone, which nobody has noticed yet."""

    def attach_statuses(self, bodies: Bodies) -> set[int]:
        """What these may be answered with, all of them or none."""
        places = [place for body in bodies for place in self._asked_places(body)]
        if len(places) != len({*places}):
            return {409, 422}
        known = [body for body in bodies if body["container"] in self.living()]
        fresh = [body for body in bodies if body not in known]
        if not all(map(self._is_same, known)):
            return {409}
        after, named = self._copy(), named_ports(bodies)
        after.make_room(fresh)
        if not all(after.may_publish(holder_of(body), place) for body in fresh for place in named_places(body)):
            return {409}
        missing = [anywhere(body["expose"]).total() - len(after.waiting(holder_of(body)) - named) for body in fresh]
        done, short = {201 if fresh else 200}, sum(max(0, number) for number in missing)
        if short > len(self.free() - named):
            return {409, *done} if self.dead else {409}  # the ports of a dead one may have been free in time
        return done

    def attached(self, bodies: Bodies, documents: Sequence[dict[str, Any]]) -> None:
        """These were answered to them."""
        named = named_ports(bodies)
        self.make_room([body for body in bodies if body["container"] not in self.living()])
        for body, document in zip(bodies, documents, strict=True):
            tenant, ports = entry(document)
            if body["container"] in self.living():
                assert self.endpoints[body["container"]] == (tenant, ports)
                continue
            wanted = body["expose"]
            assert tenant == (body.get("tenant") or "") and ports >= {*filter(is_named, wanted)}
            self._given((body["container"], tenant), anywhere(wanted), ports - {*wanted}, named)
            self.endpoints[body["container"]] = tenant, ports

    def detached(self, name: str) -> bool:
        """Whether there was one; what was reserved for it goes with it."""
        self.dead.discard(name)
        return self._closed(name, coming=())

    def make_room(self, bodies: Bodies) -> None:
        """The dead that are in the way of these are detached."""
        for body in bodies:
            self.evict(body["container"], coming=[holder_of(body)])
        for body in bodies:
            for place in named_places(body):
                self.evict(self.publisher(place), coming=())

    def evict(self, name: str, coming: Collection[Holder]) -> None:
        """It is detached if it is dead, and maybe comes again."""
        if name in self.dead:
            self.dead.discard(name)
            self._closed(name, coming)

    def noticed(self, listed: Collection[str], reserved: Mapping[Holder, frozenset[int]]) -> None:
        """Of the dead these are left: some are detached by what was refused, or came into their ports' way."""
        for name in self.dead - {*listed}:
            holder = name, self.endpoints[name][0]
            self.evict(name, coming=[holder] if self.reserved.get(holder) == reserved.get(holder) else ())

    def expose_status(self, name: str, binding: str) -> int:
        """What it is answered with."""
        if name not in self.endpoints:
            return 404
        tenant, held = self.endpoints[name]
        if not is_named(binding):
            known = any(tail_of(one) == tail_of(binding) for one in held if port_of(one) in RESERVABLE)
            return 200 if known or self.waiting((name, tenant)) or self.free() else 409
        if binding in held:
            return 200
        after = self._copy()
        place = port_of(binding), kind_of(binding)
        after.evict(after.publisher(place), coming=())
        if name not in after.endpoints:
            return 404
        return 200 if after.may_publish((name, tenant), place) else 409

    def exposed(self, name: str, binding: str, document: dict[str, Any]) -> None:
        """This was answered to it."""
        self.evict(self.publisher((port_of(binding), kind_of(binding))) if is_named(binding) else "", coming=())
        (tenant, held), (_, ports) = self.endpoints[name], entry(document)
        assert ports >= held
        if is_named(binding):
            assert ports == held | {binding}
        elif ports == held:
            assert any(tail_of(one) == tail_of(binding) and port_of(one) in RESERVABLE for one in held)
        else:
            self._given((name, tenant), anywhere([binding]), ports - held, frozenset())
        self.endpoints[name] = tenant, ports

    def unexposed(self, name: str, binding: str) -> None:
        tenant, held = self.endpoints[name]
        self.endpoints[name] = tenant, held - {binding}

    def reserve_status(self, holder: Holder, count: int) -> int:
        """What it is answered with: ports are reserved for one tenant's container of a name, unless those of another
        came with its attach."""
        if holder not in self.reserved and any(name == holder[0] for name, _ in self.reserved):
            return 409
        return 200 if count - len(self.reserved.get(holder, ())) <= len(self.free()) else 409

    def reserved_now(self, holder: Holder, count: int, document: dict[str, Any]) -> None:
        """This was answered: what it had is among it, and no more of that than was asked for."""
        ports, before = frozenset(document["ports"]), self.reserved.get(holder, frozenset())
        assert (document["container"], document["tenant"]) == holder
        assert len(document["ports"]) == len(ports) == count
        assert ports <= before or (before <= ports and ports - before <= self.free())
        self.reserved[holder] = ports

    def released(self, name: str) -> int:
        """How many ports are given back."""
        gone = [holder for holder in self.reserved if holder[0] == name]
        return sum(len(self.reserved.pop(holder)) for holder in gone)

    def published(self) -> set[tuple[int, str]]:
        """The ports that are led to somebody, and their protocols."""
        return {(port_of(one), kind_of(one)) for _, held in self.endpoints.values() for one in held}

    def may_publish(self, holder: Holder, place: tuple[int, str]) -> bool:
        """It is nobody's, or reserved for this one."""
        return not self.publisher(place) and self.whose(place[0]) in (None, holder)

    def publisher(self, place: tuple[int, str]) -> str:
        """Whom a port of a protocol is led to, or ""."""
        led = (name for name, (_, held) in self.endpoints.items() if place in {(port_of(b), kind_of(b)) for b in held})
        return next(led, "")

    def living(self) -> set[str]:
        """Those that somebody is behind."""
        return {*self.endpoints} - self.dead

    def held(self) -> frozenset[int]:
        """The ports that are reserved for anybody."""
        return frozenset(chain.from_iterable(self.reserved.values()))

    def free(self) -> frozenset[int]:
        """Those that are nobody's."""
        return RESERVABLE - self.held() - {port for port, _ in self.published()}

    def whose(self, port: int) -> Holder | None:
        """Whom it is reserved for."""
        return next((holder for holder, ports in self.reserved.items() if port in ports), None)

    def waiting(self, holder: Holder) -> frozenset[int]:
        """What is reserved for it and not published."""
        return self.reserved.get(holder, frozenset()) - {port for port, _ in self.published()}

    def _copy(self) -> "Model":
        made = Model()
        made.endpoints, made.reserved, made.dead = {**self.endpoints}, {**self.reserved}, {*self.dead}
        return made

    def _closed(self, name: str, coming: Collection[Holder]) -> bool:
        if name not in self.endpoints:
            return False
        holder = name, self.endpoints.pop(name)[0]
        if holder not in coming:
            self.reserved.pop(holder, None)
        return True

    def _asked_places(self, body: Mapping[str, Any]) -> set[tuple[int, str]]:
        """What it names, and what it may be given as it has it already."""
        named = {*named_places(body)}
        if body["container"] not in self.living() or not anywhere(body["expose"]):
            return named
        return named | {(port_of(one), kind_of(one)) for one in self.endpoints[body["container"]][1]}

    def _is_same(self, body: Mapping[str, Any]) -> bool:
        """Whether an endpoint that is there is what is asked for."""
        (tenant, held), wanted = self.endpoints[body["container"]], body["expose"]
        if body.get("tenant") not in (None, tenant):
            return False
        others = held - {*wanted}
        apart = Counter(map(tail_of, others))
        return not wanted or (held >= {*filter(is_named, wanted)} and apart == anywhere(wanted) and reservable(others))

    def _given(self, holder: Holder, wanted: Counter[str], given: Collection[str], named: Collection[int]) -> None:
        """Any free ports, `wanted` by what they lead to: its own first, then some that are nobody's."""
        ports = {port_of(binding) for binding in given}
        assert Counter(map(tail_of, given)) == wanted and len(ports) == len(given)
        own = self.waiting(holder) - {*named}
        assert ports <= own or own <= ports, "what is reserved for it comes first"
        assert ports - own <= self.free() - {*named}
        if ports:
            self.reserved[holder] = self.reserved.get(holder, frozenset()) | ports


def entry(document: Mapping[str, Any]) -> Entry:
    """The model's of an endpoint's document."""
    exposed = [f"{one['host_port']}:{one['port']}/{one['protocol']}" for one in document["exposed"]]
    assert len({*exposed}) == len(exposed)
    return document["tenant"], frozenset(exposed)


def holder_of(body: Mapping[str, Any]) -> Holder:
    """Whom its ports are reserved for."""
    return body["container"], body.get("tenant") or ""


def is_named(binding: str) -> bool:
    """It names its host port."""
    return not binding.startswith("auto:")


def port_of(binding: str) -> int:
    """Its host port."""
    return int(binding.partition(":")[0])


def kind_of(binding: str) -> str:
    """Its protocol."""
    return binding.partition("/")[2]


def tail_of(binding: str) -> str:
    """Where it leads."""
    return binding.partition(":")[2]


def named_places(body: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The host ports that it names, and their protocols."""
    return [(port_of(one), kind_of(one)) for one in body["expose"] if is_named(one)]


def named_ports(bodies: Bodies) -> frozenset[int]:
    """All host ports that these name."""
    return frozenset(port for body in bodies for port, _ in named_places(body))


def anywhere(bindings: Sequence[str]) -> Counter[str]:
    """Where those lead that would have any host port."""
    return Counter(tail_of(one) for one in bindings if not is_named(one))


def reservable(bindings: Collection[str]) -> bool:
    """Their host ports are some that are given to who asks for any."""
    return all(port_of(one) in RESERVABLE for one in bindings)
