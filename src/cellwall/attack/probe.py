"""What a probe is: one attack, and how its success is told.

Success is never the sender's word. A `Volley` carries a token of its own and is through when the token was seen where
it must not arrive; an `Episode` looks at a state of the victim (a neighbour entry, a forwarding entry, a path MTU)
or needs several steps, and says itself.

`layers` are those that stop the probe, each of them alone; without all of them the identical frames succeed. Where
`together` is set they stop it only as a whole, and without any single one of them the frames succeed. A probe
whose success the kernel rules out whatever the wall does names the reason in `kernel`, and must not succeed with every
layer gone; one that only the control plane stops has the layer CTL and brings a control of its own.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2s
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

if TYPE_CHECKING:
    from cellwall.attack.world import World

Layer = Literal[
    "PIN", "RAW", "PRE", "IN", "OUT", "FWD", "NAT", "LOG", "PORT", "FDB", "NB", "SYS", "CSUM", "LATCH", "CTL"
]
LAYERS: tuple[Layer, ...] = get_args(Layer)
RULES = frozenset[Layer]({"PIN", "RAW", "PRE", "IN", "OUT", "FWD", "NAT", "LOG"})
"""The layers that are rules; CTL is the program, the others are settings of links and of the kernel."""

Place = Literal["attacker", "victim", "node", "bridge", "daemon", "internet", "lan", "infra", "other", "guest"]
"""Where frames come from and tokens are looked for. `node`: a socket of the node got it; `bridge`: the bridge handed
it to the node, whatever became of it there; `daemon`: a link-layer protocol's socket got it; `guest`: a bridge port
that somebody else put on the bridge."""

Open = Literal["stp"]
"""Settings that no layer of the wall owns and that a node may have in another state than the lab's."""


class Shot(msgspec.Struct, frozen=True):
    """One raw frame and who sends it."""

    origin: Place
    frame: bytes


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """The head of every probe. `families`: what must be there for it to make sense. `gentle`: it cannot disturb
    anybody on a live node, whose addresses it takes from the world. `needs`: the name of an address around the node
    that there must be. `wall_only`: it drives the control plane of cellwall."""

    id: str
    row: str
    title: str
    layers: frozenset[Layer]
    opens: frozenset[Open] = frozenset()
    together: bool = False
    kernel: str = ""
    families: frozenset[int] = frozenset()
    gentle: bool = False
    needs: str = ""
    wall_only: bool = False

    @property
    def token(self) -> bytes:
        """Unique to the probe, and the same in every run: controls send identical frames."""
        return b"<" + blake2s(self.id.encode(), digest_size=9).hexdigest().encode() + b">"

    @property
    def controlled(self) -> bool:
        """Whether it must succeed when its layers are removed."""
        return not self.kernel and "CTL" not in self.layers


class Volley(Probe, frozen=True, kw_only=True):
    """Frames, sent together with those of other volleys; through when the token arrives at one of `at`."""

    shots: Callable[["World", bytes], Iterable[Shot]]
    at: tuple[Place, ...]


class Episode(Probe, frozen=True, kw_only=True):
    """Steps and a look at what they changed; True: the attack succeeded."""

    play: Callable[["World", bytes], bool]


def layers(*names: Layer) -> frozenset[Layer]:
    """A set of layers, typed."""
    return frozenset(names)
