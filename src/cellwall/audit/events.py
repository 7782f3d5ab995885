"""Events: what is recorded of an attempt, of attempts that could not be recorded one by one, and of a recorder's begin.

They are the lines of the event files, a JSON object each, and what `cellwall log --json` and `GET /v1/log` give. A
field keeps its name and meaning, new ones may be added; what is empty is left out:

    {"kind": "attempt", "time": "2026-01-31T12:00:00.000001Z", "judgement": "deny", "direction": "out", "layer": "FWD",
     "reason": "the floor", "tenant": "acme", "container": "web", "interface": "eth0", "generation": 1352167070,
     "protocol": "tcp", "source": "192.168.0.2", "source_port": 40000, "destination": "169.254.169.254",
     "destination_port": 80}

Pure.
"""

from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from cellwall.audit.holders import Holder, Holders
from cellwall.audit.packets import Packet, decode
from cellwall.compile.reasons import Reason, parse_reason

_BRIDGE = 7
"""The family of frames (NFPROTO_BRIDGE)."""

_VOUCHED = frozenset({"PRE", "IN", "FWD"})
"""Layers behind the pins: what a sandbox sends comes as far with no other source than its own."""

Cause = Literal["rate", "queue", "disk"]
"""Why attempts were not recorded: there were too many of a tenant's, they came faster than they could be read, or the
file could not be written."""


class Logged(Protocol):
    """A packet as a rule logged it (`cellwall.adapters.nflog.Logged`)."""

    @property
    def prefix(self) -> str: ...
    @property
    def family(self) -> int: ...
    @property
    def protocol(self) -> int: ...
    @property
    def indev(self) -> int: ...
    @property
    def outdev(self) -> int: ...
    @property
    def physindev(self) -> int: ...
    @property
    def physoutdev(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def hardware(self) -> bytes: ...
    @property
    def payload(self) -> bytes: ...


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="attempt"):
    """One packet that was denied or, where `judgement` is `watch`, would have been. `direction`: `out` is what the
    container sent, `in` what was sent to it. `layer` and `reason` are the rule's own words. `generation`: the policy
    version that was in force for the container. Without a container it is known of none whose the packet was.

    `source`, `destination`, ports and `icmp` are what the packet says, which for `spoofed …` is the point; `mac`: of
    frames, the source that they name. `protocol`: by name, else its number, or an ethertype.
    """

    time: str
    judgement: Literal["deny", "watch"]
    direction: Literal["out", "in"]
    layer: str
    reason: str
    tenant: str = ""
    container: str = ""
    interface: str = ""
    generation: int = 0
    protocol: str = ""
    source: str = ""
    source_port: int | None = None
    destination: str = ""
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: bool = False
    mac: str = ""


class Unrecorded(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="unrecorded"):
    """So many attempts until then, since the last such event of theirs, were not recorded one by one. Without a tenant
    it is not known whose they were, or they were nobody's."""

    time: str
    count: int
    cause: Cause
    tenant: str = ""
    container: str = ""
    interface: str = ""


class Began(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="began"):
    """A daemon began to record: what was tried before, and after the last event ahead of this one, nobody did."""

    time: str
    program: str = ""


Event = Attempt | Unrecorded | Began

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def line_of(event: Event) -> bytes:
    """The event as a line, its end included."""
    return _encoder.encode(event) + b"\n"


def event_of(line: bytes) -> Event:
    """The event of such a line; ValueError for what is none: a line that a crash tore, or another version's."""
    return _decoder.decode(line)


def attempt_of(logged: Logged, holders: Holders, read: float) -> Attempt | None:
    """What a logged packet tells; None where no rule of ours logged it. `read`: the time of reading, for a packet that
    the kernel gave none."""
    reason = parse_reason(logged.prefix)
    if reason is None:
        return None
    packet = decode(logged.protocol, logged.payload)
    holder = _holder(logged, reason, packet, holders)
    source_port, destination_port = packet.ports or (None, None)
    icmp_type, icmp_code = packet.icmp or (None, None)
    return Attempt(
        time=time_text(logged.time or read),
        judgement=reason.judgement,
        direction=reason.direction,
        layer=reason.layer,
        reason=reason.why,
        tenant=holder.tenant if holder else "",
        container=holder.container if holder else "",
        interface=holder.interface if holder else "",
        generation=holder.generation if holder else 0,
        protocol=packet.protocol,
        source=packet.source,
        source_port=source_port,
        destination=packet.destination,
        destination_port=destination_port,
        icmp_type=icmp_type,
        icmp_code=icmp_code,
        fragment=packet.fragment,
        mac=logged.hardware[6:12].hex(":") if logged.family == _BRIDGE and len(logged.hardware) == 14 else "",
    )


def time_text(seconds: float) -> str:
    """RFC 3339 in UTC, always with six digits behind the point: texts are in the order of times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _holder(logged: Logged, reason: Reason, packet: Packet, holders: Holders) -> Holder | None:
    """By the bridge port, which cannot be forged; where there is none, by the address of the end that is a sandbox, if
    something vouched for it: what comes by the uplink says whatever its sender likes."""
    sent = reason.direction == "out"
    for index in (logged.physindev, logged.indev) if sent else (logged.physoutdev, logged.outdev):
        holder = holders.of_port(index, logged.time) if index else None
        if holder is not None:
            return holder
    if not sent:
        return holders.of_address(packet.destination, logged.time)
    return holders.of_address(packet.source, logged.time) if reason.layer in _VOUCHED else None
