"""What a clause is lowered for, and the packet marks that one rule leaves for another.

nft reads a flow's original tuple in either direction; iptables reads the packet. So a `View` says which way the packet
travels in its flow, and source and destination are exchanged for replies.

Policy versions: ipsets map an address to its endpoint's version, as the packet's mark (`-j SET --map-mark`, in the
mangle table only), and `CONNMARK --restore-mark` xors the flow's stamp into it: 0 is a live flow (`marks`).
"""

from typing import Literal

import msgspec

from cellwall.compile import wall as w
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.tables import TableName
from cellwall.model.settings import Audit

Direction = Literal["original", "reply"]
End = Literal["src", "dst"]
"""By which address of a packet a set is asked, as ipset writes it."""
Words = tuple[str, ...]

LIVE, NOBODY = 0x80000000, 0x80000001
"""Marks: the packet's flow is live; there is no endpoint on the bridge's side of it. Anything below is its version."""
PASSED, OWN = 0xC0000000, 0xA0000000
"""With the node's mark: accepted in `filter`; sent by the node itself. The node's mark alone is left when the packet
goes out."""
PINNED = 0x20000000
"""A bit beside the node's mark: `raw` judged this packet of a sandbox. Until `mangle` gives it a version."""
NODE_MARKS = 0x1FFFFFFE
"""The bits that may be the node's mark: the others tell these values apart."""
JUDGED = 0xC0000000
"""One of these bits is in every mark that `mangle` gives a packet of a sandbox: in LIVE, NOBODY and each version."""


class View(msgspec.Struct, frozen=True):
    """What a clause is lowered for. `reports`: how what is denied is told of, None: it is counted alone."""

    scene: w.Scene
    features: XtFeatures
    version: Literal[4, 6]
    table: TableName
    direction: Direction = "original"
    reports: Audit | None = None

    @property
    def towards(self) -> tuple[End, End]:
        """Where the flow's original (source, destination) are in the packet."""
        return ("src", "dst") if self.direction == "original" else ("dst", "src")

    @property
    def bits(self) -> str:
        """The bits of a mark that say something here: all but the node's own, which others may set on their way."""
        return f"{0xFFFFFFFF & ~self.scene.mark:#x}"

    def only(self, value: int) -> str:
        """A mark to compare with, the node's bit left out."""
        return f"{value & ~self.scene.mark:#x}/{self.bits}"

    @property
    def icmp(self) -> str:
        """The protocol's name."""
        return "icmp" if self.version == 4 else "ipv6-icmp"

    @property
    def subnet(self) -> str:
        """The network of the family."""
        return str(self.scene.subnet4 if self.version == 4 else self.scene.subnet6)
