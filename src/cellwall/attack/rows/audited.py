"""B11: floods that are to take others' denials out of the log, or one's own.

The victim does one thing that is denied, in the middle of a flood of denied packets, and who listens reads afterwards.
He is through when the log has not told of the victim's. How much may wait to be read is bounded, as for everybody who
listens: without budgets the flood alone fills it.
"""

import select
from collections.abc import Iterator
from functools import partial
from itertools import count
from time import monotonic, sleep

from cellwall.adapters.events.nflog import Logged, PacketLog
from cellwall.attack.frames import packet
from cellwall.attack.mechanism import variant_of
from cellwall.attack.probe import Episode, Layer, Place, Shot, layers
from cellwall.attack.rows.errors import about_a_neighbour
from cellwall.attack.rows.routed import OUTSIDE, by_gateway, from_outside, victims
from cellwall.attack.rows.shapes import FAMILIES, Shots, wall_of
from cellwall.attack.world import World
from cellwall.errors import LabError
from cellwall.names import TABLE

_QUEUE = 1 << 19
"""Bytes of the socket, of which the kernel makes twice as many: about 4,000 packets."""
_FLOOD = 6000
_PRIVATE = {4: "10.66.0.1", 6: "fc00:66::1"}
_GATHERED = 0.1
"""Seconds after which the kernel has told of whatever it gathered."""
_FORGED = {4: "8.8.4.4", 6: "2a00:1450::44"}


_PATIENCE = 5.0
_REFILLED = 1.0
"""Seconds after which a budget of iptables has room for some packets, whatever was denied before."""
_QUOTED = 7190
"""A port that no other probe has a flow to."""


_UNUSED = "".join(
    f"flush set {family} {TABLE} {name}\n"
    for family, name in (("inet", "toldtenants"), ("inet", "toldout"), ("inet", "toldin"), ("bridge", "toldports"))
)
"""Budgets as they are after a silence: whoever is the victim here has done other things that were denied."""


def _audited() -> Iterator[Episode]:
    for family in FAMILIES:
        floor, forged = partial(_to_the_floor, family=family), partial(_forged, family=family)
        opening, errors = about_a_neighbour(family, _QUOTED)
        rows: tuple[tuple[str, str, Layer, Shots, Shots], ...] = (
            ("floor", "with what the floor denies", "FWD", _nothing, floor("attacker")),
            ("forged", "with forged sources", "PIN", _nothing, forged("attacker")),
            ("outside", "from outside, with what is sent to the other itself", "FWD", _nothing, _direct(family)),
            ("errors", "with errors about a flow of the other's", "FWD", opening, errors),
        )
        for name, what, layer, before, flood in rows:
            attempt, sentinel = (floor, forged) if layer == "FWD" else (forged, floor)
            yield Episode(
                id=f"B11-{name}-v{family}",
                row="B11",
                title=f"the log of denials is flooded {what}, and another's are missing, IPv{family}",
                layers=layers(layer, "LOG"),
                together=True,
                play=partial(_blinded, layer, before, flood, attempt("victim"), sentinel("victim")),
                families=frozenset({family}),
                wall_only=True,
            )


def _to_the_floor(place: Place, *, family: int) -> Shots:
    def body(w: World, token: bytes) -> object:
        source = (w.attacker if place == "attacker" else w.victim).ip(family)
        return packet(source, _PRIVATE[family], "udp", token)

    return by_gateway(body, origin=place)


def _forged(place: Place, *, family: int) -> Shots:
    return by_gateway(lambda w, token: packet(_FORGED[family], _PRIVATE[family], "udp", token), origin=place)


def _direct(family: int) -> Shots:
    """A neighbour of the node's routes straight to the victim."""
    target = victims(family)
    return from_outside("lan", lambda w, token: packet(OUTSIDE["lan"][family], target(w), "udp", token))


def _nothing(w: World, token: bytes) -> tuple[Shot, ...]:
    return ()


def _blinded(
    layer: Layer, before: Shots, flood: Shots, attempt: Shots, sentinel: Shots, w: World, token: bytes
) -> bool:
    """Whether the log has not told what the victim did, as denied by that layer."""
    (frame,) = flood(w, b"<flood>")
    w.fire(before(w, b"<before>"))
    _refill(w)
    with w.node.enter(), PacketLog(wall_of(w).settings.audit.group, queue=_QUEUE) as log:
        w.inject(frame.origin, [frame.frame] * _FLOOD)
        w.fire(attempt(w, token))
        w.inject(frame.origin, [frame.frame] * _FLOOD)
        told = _all_told(w, log, sentinel)
    return not any(token in one.payload and one.prefix.startswith(f"{layer} deny out") for one in told)


def _refill(w: World) -> None:
    if variant_of(w) is None:
        w.node.run(["nft", "-f", "-"], input=_UNUSED.encode())
    else:  # nobody can empty a table of hashlimit
        sleep(_REFILLED)


def _all_told(w: World, log: PacketLog, sentinel: Shots) -> list[Logged]:
    """What was told until something was that is denied by another layer, which is tried again where it was lost: the
    kernel gathers what it tells."""
    told: list[Logged] = []
    deadline = monotonic() + _PATIENCE
    for number in count():
        last = b"<told-%d>" % number
        w.fire(sentinel(w, last))
        while select.select([log], [], [], _GATHERED)[0]:
            told += log.read().packets
        if any(last in one.payload for one in told):
            return told
        if monotonic() > deadline:
            raise LabError("nothing is told of what is denied")
    return told


PROBES: tuple[Episode, ...] = tuple(_audited())
