"""From a packet that a rule logged to an attempt: what it was, why it was denied, and whose. Pure."""

from datetime import UTC, datetime
from typing import Protocol

from cellwall.audit.events import Attempt
from cellwall.audit.holders import Holder, Holders
from cellwall.audit.packets import Packet, decode
from cellwall.compile.reasons import Reason, parse_reason

_BRIDGE = 7
"""The family of frames (NFPROTO_BRIDGE)."""

_PINS = "PIN"
_ETHERNET = 14

_VOUCHED = frozenset({"PRE", "IN", "FWD"})
"""Layers behind the pins: what a sandbox sends comes as far with no other source than its own."""


class Logged(Protocol):
    """A packet as a rule logged it (`cellwall.adapters.events.nflog.Logged`)."""

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
    def mark(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def hardware(self) -> bytes: ...
    @property
    def payload(self) -> bytes: ...


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
        mac=_source_mac(logged).hex(":") if logged.family == _BRIDGE or reason.layer == _PINS else "",
    )


def time_text(seconds: float) -> str:
    """RFC 3339 in UTC, always with six digits behind the point: texts are in the order of times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"


def _source_mac(logged: Logged) -> bytes:
    return logged.hardware[6:12] if len(logged.hardware) == _ETHERNET else b""


def _holder(logged: Logged, reason: Reason, packet: Packet, holders: Holders) -> Holder | None:
    """By the bridge port, which cannot be forged, or the policy version, with which the wall marks a packet that it
    tells of (`lower.nft.reports`). Where there is neither, by the address of the end that is a sandbox, if something
    vouched for it: what comes by the uplink says whatever its sender likes. Where pins judge packets and the bridge
    calls nobody before (`lower.xt`), no port is known any more, but its lock let no MAC by except its own."""
    sent = reason.direction == "out"
    for index in (logged.physindev, logged.indev) if sent else (logged.physoutdev, logged.outdev):
        holder = holders.of_port(index, logged.time) if index else None
        if holder is not None:
            return holder
    if (holder := holders.of_version(logged.mark, logged.time)) is not None:
        return holder
    if sent and reason.layer == _PINS and logged.family != _BRIDGE and not logged.physindev:
        return holders.of_mac(_source_mac(logged), logged.time)
    if not sent:
        return holders.of_address(packet.destination, logged.time)
    return holders.of_address(packet.source, logged.time) if reason.layer in _VOUCHED else None
