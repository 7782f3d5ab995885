"""Whose a bridge port and an address are, and whose they were when a packet was logged that is read only now.

A packet is read after it was logged, and may be somebody's who has gone by then: an address has had another holder
since, a policy another generation. So each key has the states that it was in, as far back as packets may still come
from. Which of them a packet belongs to is told by the time that the kernel stamped on it, where no clock was set in
between; where that cannot tell one container from another the packet is nobody's. It is never the next holder's.

An address has its next holder only after the link of the last one is gone (`cellwall.engine.attachments.drain`), and a
change is told here before the first packet of a holder can pass, so states are in the order of the packets. Pure.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, Literal, TypeVar

import msgspec

from cellwall.model.addresses import mac_text
from cellwall.model.endpoint import Endpoint
from cellwall.model.versions import STEM

K = TypeVar("K", bound=Hashable)

_STEP = 0.005
"""Seconds by which the two clocks may drift apart meanwhile without one having been set: slewing is 0.5 ms a second."""

_STATES = 16
"""Of one key that packets may still come from."""

Lasting = tuple[Literal["port", "version"], int]
"""What is not given to another for long: the index of a link, of which there are 2^31, and the stem of policy versions,
of which there are 2 million."""

_FORMER = 16384
"""Of those that are gone, whose packets may still come."""

_LINGER = 60.0
"""Seconds for which they are their former holder's: its link goes with one of the next operations."""


class Moment(msgspec.Struct, frozen=True):
    """A moment by the clock that packets are stamped with, and by one that nobody sets; in seconds."""

    wall: float
    steady: float

    @property
    def apart(self) -> float:
        """What setting the clock changes, and else hardly anything does."""
        return self.wall - self.steady


class Holder(msgspec.Struct, frozen=True):
    """Who has a port or an address, and under which policy version."""

    container: str
    interface: str
    tenant: str
    generation: int

    def is_same(self, other: "Holder | None") -> bool:
        """The same attachment's, whatever its policy."""
        return other is not None and (self.container, self.interface, self.tenant) == (
            other.container,
            other.interface,
            other.tenant,
        )


class _State(msgspec.Struct, frozen=True):
    since: Moment
    holder: Holder | None


class _Table(Generic[K]):
    """The states of each key, the oldest first; the first of them stands for all that was before the second."""

    def __init__(self) -> None:
        self._states: dict[K, list[_State]] = {}
        self._recent: deque[tuple[float, K]] = deque()

    def put(self, key: K, since: Moment, holder: Holder | None) -> None:
        if holder is None and key not in self._states:
            return
        states = self._states.setdefault(key, [_State(since, None)])
        last = states[-1].holder
        if last == holder:
            return
        if len(states) >= _STATES and holder is not None and holder.is_same(last):
            states[-1] = _State(states[-1].since, holder)
            return
        states.append(_State(since, holder))
        self._recent.append((since.steady, key))

    def at(self, key: K, stamp: float) -> Holder | None:
        """`stamp` 0: no time tells."""
        states = self._states.get(key)
        if states is None:
            return None
        if len(states) == 1:
            return states[0].holder
        if not stamp:
            return _same(states)
        later = (state.holder for state in reversed(states[1:]) if stamp >= state.since.wall)
        return next(later, states[0].holder)

    def settle(self, steady: float) -> None:
        while self._recent and self._recent[0][0] <= steady:
            _, key = self._recent.popleft()
            states = self._states.get(key, [])
            while len(states) > 1 and states[1].since.steady <= steady:
                del states[0]
            if len(states) == 1 and states[0].holder is None:
                del self._states[key]

    def drop(self, key: K) -> None:
        self._states.pop(key, None)

    def held(self) -> list[K]:
        return [key for key, states in self._states.items() if states[-1].holder is not None]

    def __len__(self) -> int:
        return len(self._states)


class Holders:
    """Who has what, told of every change in the order of changes. Not for more than one thread."""

    def __init__(self) -> None:
        self._lasting: _Table[Lasting] = _Table()
        self._addresses: _Table[str] = _Table()
        self._former: deque[tuple[float, Lasting]] = deque()
        self._present: set[Lasting] = set()
        self._seen: Moment | None = None
        self._was_set = float("-inf")
        self._settled = float("-inf")

    def notice(self, now: Moment) -> None:
        """For who looks at the clocks often: between two looks, a clock that is set and set back is not seen."""
        if self._seen is not None and abs(now.apart - self._seen.apart) > _STEP:
            self._was_set = max(now.steady, self._seen.steady)
        self._seen = now

    def change(self, at: Moment, before: Iterable[Endpoint], after: Iterable[Endpoint]) -> None:
        """Before any packet passes by what comes, and after the last that passes by what goes is logged or yet to be
        refused: a port stays its former holder's."""
        self.notice(at)
        after = tuple(after)
        kept = {key for endpoint in after for key in (*_addresses(endpoint), *_lasting(endpoint))}
        for endpoint in before:
            for address in _addresses(endpoint):
                if address not in kept:
                    self._addresses.put(address, at, None)
            self._leave(at, [key for key in _lasting(endpoint) if key not in kept])
        for endpoint in after:
            holder = holder_of(endpoint)
            for address in _addresses(endpoint):
                self._addresses.put(address, at, holder)
            for key in _lasting(endpoint):
                self._lasting.put(key, at, holder)
                self._present.add(key)

    def fill(self, at: Moment, endpoints: Iterable[Endpoint]) -> None:
        """These are all that there are."""
        endpoints = tuple(endpoints)
        addresses = {address for endpoint in endpoints for address in _addresses(endpoint)}
        for address in self._addresses.held():
            if address not in addresses:
                self._addresses.put(address, at, None)
        lasting = {key for endpoint in endpoints for key in _lasting(endpoint)}
        self._leave(at, [key for key in self._present if key not in lasting])
        self.change(at, (), endpoints)

    def settle(self, at: Moment) -> None:
        """All packets are read that were logged before; what only they could ask for is forgotten."""
        self._settled = at.steady
        self._addresses.settle(at.steady)
        self._lasting.settle(at.steady)
        while self._former and (self._former[0][0] <= at.steady - _LINGER or len(self._former) > _FORMER):
            _, key = self._former.popleft()
            if key not in self._present:
                self._lasting.drop(key)

    def _leave(self, at: Moment, keys: Iterable[Lasting]) -> None:
        for key in keys:
            self._present.discard(key)
            self._former.append((at.steady, key))

    def of_port(self, index: int, stamp: float) -> Holder | None:
        """Whose link that is, by which a packet came that was stamped then; 0: it was not."""
        return self._lasting.at(("port", index), self._trusted(stamp))

    def of_version(self, version: int, stamp: float) -> Holder | None:
        """Whose policy version that is, and that it is in force."""
        holder = self._lasting.at(("version", version & STEM), self._trusted(stamp))
        return None if holder is None else msgspec.structs.replace(holder, generation=version)

    def of_address(self, address: str, stamp: float) -> Holder | None:
        """Whose address that was. Only for addresses that something vouched for."""
        return self._addresses.at(address, self._trusted(stamp))

    def of_mac(self, mac: bytes, stamp: float) -> Holder | None:
        """Whose MAC that was. Only for frames that came by a locked bridge port, or by one of another's MAC."""
        return self._addresses.at(mac.hex(":"), self._trusted(stamp))

    def _trusted(self, stamp: float) -> float:
        """No time tells where a clock was set since the first packet was stamped that may still come."""
        return 0.0 if self._was_set > self._settled else stamp

    def __len__(self) -> int:
        """Keys that are kept, for who watches that they do not pile up."""
        return len(self._lasting) + len(self._addresses)


def holder_of(endpoint: Endpoint) -> Holder:
    """The endpoint as a holder. One that stands ready is nobody's: what it is on record as no caller can ask for."""
    if endpoint.key.pooled:
        return Holder("", "", "", endpoint.generation)
    return Holder(endpoint.key.container_id, endpoint.key.ifname, endpoint.tenant, endpoint.generation)


def _addresses(endpoint: Endpoint) -> list[str]:
    addresses = [str(one) for one in (endpoint.address4, endpoint.address6) if one is not None]
    return [*addresses, mac_text(endpoint.mac)]


def _lasting(endpoint: Endpoint) -> list[Lasting]:
    return [("port", endpoint.host_index), ("version", endpoint.generation & STEM)]


def _same(states: list[_State]) -> Holder | None:
    """Where no time tells: the holder, if there is but one, by the latest of its policies. What stood ready before is
    none: else whoever claims one sandbox after the other floods for nobody each time, until counters are looked at."""
    holders = [state.holder for state in states if state.holder is not None and state.holder.container]
    if not holders or not all(holders[-1].is_same(one) for one in holders):
        return None
    return holders[-1]
