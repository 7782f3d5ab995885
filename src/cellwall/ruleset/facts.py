"""What a rule reads: the value of a field for one packet in one context, or None where the read fails.

A failed read ends the rule without a verdict, also under a negation: `!= @set` is no match for a packet
that has no such field. Facts that the context does not state are refused.
"""

from collections.abc import Callable, Mapping
from typing import Final

from cellwall.errors import Unsupported
from cellwall.ruleset.context import Context, Flow, FlowTuple
from cellwall.ruleset.dependencies import TARGET_TYPES, Check
from cellwall.ruleset.fields import FIELDS
from cellwall.ruleset.packet import ETH_IP, ETH_IPV6, Packet, has_extension
from cellwall.ruleset.scalars import prefix_length
from cellwall.ruleset.types import Compare, Field, FieldName, Scalar

Value = Scalar | frozenset[str]
"""A bit mask (`ct state`, `ct status`) is the set of its names."""
_Reader = Callable[[Packet, Context], Value | None]


def read_field(field: Field, packet: Packet, context: Context) -> Value | None:
    """The field's value after its mask."""
    spec = FIELDS[field.name]
    value: Value | None
    if spec.payload is not None:
        where = spec.payload
        value = packet.load(where.base, where.offset, where.length)
        if value is not None and where.mask is not None:
            value &= where.mask
    else:
        value = _SURROUNDINGS[field.name](packet, context)
    if field.mask is None or value is None:
        return value
    if not isinstance(value, int):
        raise Unsupported(f"a mask on {field.name}", predicate=field.name)
    return value & field.mask


def read_compared(compare: Compare, packet: Packet, context: Context) -> Value | None:
    """The value of a comparison's field.

    A prefix of whole bytes is compared by loading these bytes alone, so that a header which is cut off right
    behind them still matches.
    """
    spec, mask = FIELDS[compare.field.name], compare.field.mask
    if spec.payload is not None and mask is not None and len(compare.values) == 1:
        length = prefix_length(spec.kind, mask)
        if length and length % 8 == 0:
            where, bits = spec.payload, spec.payload.length * 8
            value = packet.load(where.base, where.offset, length // 8)
            return None if value is None else value << (bits - length)
    return read_field(compare.field, packet, context)


def holds(check: Check, packet: Packet, context: Context) -> bool:
    """Whether a hidden check of nft passes."""
    match check.fact:
        case "iiftype":
            return context.ethernet
        case "nfproto" | "protocol":
            return packet.protocol == check.value
        case "ether type":
            return packet.load("link", 12, 2) == check.value
        case "l4proto":
            return packet.transport is not None and packet.transport.protocol == check.value
        case "icmpv6 target":
            return packet.load("transport", 0, 1) in TARGET_TYPES


def _l4proto(packet: Packet, context: Context) -> int | None:
    return None if packet.transport is None else packet.transport.protocol


def _nfproto(packet: Packet, context: Context) -> str | None:
    return {ETH_IP: "ipv4", ETH_IPV6: "ipv6"}.get(packet.protocol)


def _state(packet: Packet, context: Context) -> frozenset[str]:
    if context.flow is not None:
        return frozenset((context.flow.state,))
    return frozenset(("untracked" if context.untracked else "invalid",))


def _source_type(packet: Packet, context: Context) -> str:
    return _stated(context.fib_saddr_type, "fib saddr type")


def _route_type(packet: Packet, context: Context) -> str:
    return _stated(context.fib_daddr_type, "fib daddr type")


def _stated(kind: str | None, field: FieldName) -> str:
    if kind is None:
        raise Unsupported("the context does not say the fib type", predicate=field)
    return kind


def _presence(header: int) -> _Reader:
    def read(packet: Packet, context: Context) -> int | None:
        found = has_extension(packet, header)
        return None if found is None else int(found)

    return read


def _flow(read: Callable[[Flow], Value | None]) -> _Reader:
    return lambda packet, context: None if context.flow is None else read(context.flow)


def _address(family: str, read: Callable[[FlowTuple], int], *, reply: bool = False) -> _Reader:
    def of_tuple(flow: Flow) -> int | None:
        side = flow.reply if reply else flow.original
        return read(side) if side.family == family else None

    return _flow(of_tuple)


_SURROUNDINGS: Final[Mapping[FieldName, _Reader]] = {
    "iifname": lambda packet, context: context.iifname,
    "oifname": lambda packet, context: context.oifname,
    "iif": lambda packet, context: context.iif,
    "oif": lambda packet, context: context.oif,
    "meta mark": lambda packet, context: context.mark,
    "meta nfproto": _nfproto,
    "meta l4proto": _l4proto,
    "ct state": _state,
    "ct direction": _flow(lambda flow: flow.direction),
    "ct status": _flow(lambda flow: flow.status),
    "ct mark": _flow(lambda flow: flow.mark),
    "ct label": _flow(lambda flow: flow.label),
    "ct original ip saddr": _address("ip", lambda side: side.source),
    "ct original ip daddr": _address("ip", lambda side: side.destination),
    "ct original ip6 saddr": _address("ip6", lambda side: side.source),
    "ct original ip6 daddr": _address("ip6", lambda side: side.destination),
    "ct original protocol": _flow(lambda flow: flow.original.protocol),
    "ct original proto-dst": _flow(lambda flow: flow.original.destination_port),
    "ct reply ip saddr": _address("ip", lambda side: side.source, reply=True),
    "ct reply ip daddr": _address("ip", lambda side: side.destination, reply=True),
    "ct reply ip6 saddr": _address("ip6", lambda side: side.source, reply=True),
    "ct reply ip6 daddr": _address("ip6", lambda side: side.destination, reply=True),
    "ct reply protocol": _flow(lambda flow: flow.reply.protocol),
    "ct reply proto-src": _flow(lambda flow: flow.reply.source_port),
    "ct reply proto-dst": _flow(lambda flow: flow.reply.destination_port),
    "fib saddr type": _source_type,
    "fib daddr type": _route_type,
    "exthdr hbh": _presence(0),
    "exthdr rt": _presence(43),
    "exthdr dst": _presence(60),
}
