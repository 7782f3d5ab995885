"""One rule against one packet: which statements pass, what they change, how the rule ends."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from cellwall.errors import NotFound, Unsupported
from cellwall.ruleset.context import Context
from cellwall.ruleset.dependencies import hidden_checks
from cellwall.ruleset.elements import Content
from cellwall.ruleset.facts import Value, holds, read_compared, read_field
from cellwall.ruleset.packet import ETH_IP, ETH_IPV6, Packet, with_destination
from cellwall.ruleset.types import (
    ClampSegments,
    ClearMark,
    ClearPriority,
    Compare,
    Counter,
    Dnat,
    Field,
    ForgottenWithin,
    LabelFlow,
    LogPacket,
    Lookup,
    MarkPacket,
    MarkPacketFrom,
    Masquerade,
    Meter,
    RateWithin,
    Reject,
    Rule,
    Scalar,
    SetTimeouts,
    StampFlow,
    Statement,
    TableFamily,
    Tally,
    UnmarkPacket,
    UnstampFlow,
    Verdict,
)


class Translation(msgspec.Struct, frozen=True):
    """An address translation that a rule decided: a new destination (`port` None: unchanged), or the output
    interface's address as the source, into ports `low`..`high` where given."""

    kind: Literal["dnat", "masquerade"]
    address: int | None = None
    port: int | None = None
    low: int = 0
    high: int = 0


Ending = Verdict | Reject | Translation


class Run:
    """A packet on its way through rules: the two things that rules change, and the keys that they put into sets."""

    def __init__(self, packet: Packet, context: Context) -> None:
        self.packet = packet
        self.context = context
        self.noted: set[tuple[str, tuple[Scalar, ...]]] = set()

    def read(self, fields: Sequence[Field]) -> tuple[Scalar, ...] | None:
        """The key that `fields` make, or None where one of them cannot be read."""
        key: list[Scalar] = []
        for field in fields:
            value = read_field(field, self.packet, self.context)
            if value is None:
                return None
            if isinstance(value, frozenset):
                raise Unsupported(f"{field.name} in a key", predicate=field.name)
            key.append(value)
        return tuple(key)

    def set_mark(self, mark: int) -> None:
        """Of the packet."""
        self.context = msgspec.structs.replace(self.context, mark=mark)

    def set_flow_mark(self, mark: int) -> None:
        # A packet without a conntrack entry is not stamped, and its rule goes on all the same.
        if self.context.flow is not None:
            flow = msgspec.structs.replace(self.context.flow, mark=mark)
            self.context = msgspec.structs.replace(self.context, flow=flow)

    def label_flow(self, bits: int) -> None:
        if self.context.flow is not None:
            flow = msgspec.structs.replace(self.context.flow, label=self.context.flow.label | bits)
            self.context = msgspec.structs.replace(self.context, flow=flow)

    def translate(self, change: Translation) -> None:
        """The packet and its flow after a DNAT; a masquerade changes nothing that a later rule could read."""
        flow = self.context.flow
        if change.kind != "dnat" or change.address is None or flow is None:
            return
        port = change.port if change.port is not None else flow.reply.source_port
        reply = msgspec.structs.replace(flow.reply, source=change.address, source_port=port)
        if reply != flow.reply:
            self.packet = with_destination(self.packet, change.address, change.port)
            status = flow.status | {"dnat"}
            flow = msgspec.structs.replace(flow, reply=reply, status=status)
            self.context = msgspec.structs.replace(self.context, flow=flow)


def run_rule(rule: Rule, family: TableFamily, contents: Mapping[str, Content], run: Run) -> tuple[bool, Ending | None]:
    """Whether the rule was passed to its end, and the verdict it ended with."""
    checks = hidden_checks(family, rule)
    for hidden, statement in zip(checks, rule.statements, strict=True):
        if not all(holds(check, run.packet, run.context) for check in hidden):
            return False, None
        outcome = _execute(statement, contents, run)
        if not isinstance(outcome, bool):
            return True, outcome
        if not outcome:
            return False, None
    return True, None


def _execute(statement: Statement, contents: Mapping[str, Content], run: Run) -> Ending | bool:
    match statement:
        case Compare():
            return _compare(statement, read_compared(statement, run.packet, run.context))
        case Lookup():
            return _lookup(statement, contents, run)
        case Counter() | SetTimeouts() | ClearPriority() | ClampSegments() | LogPacket():
            return True
        case ForgottenWithin():
            return _is_forgotten_within(statement.seconds, run)
        case MarkPacket():
            run.set_mark(run.context.mark | statement.bits)
            return True
        case UnmarkPacket():
            run.set_mark(run.context.mark & ~statement.bits)
            return True
        case ClearMark():
            run.set_mark(0)
            return True
        case MarkPacketFrom():
            return _apply_found(statement, contents, run, run.set_mark)
        case StampFlow():
            return _apply_found(statement, contents, run, run.set_flow_mark)
        case LabelFlow():
            return _apply_found(statement, contents, run, run.label_flow)
        case UnstampFlow():
            run.set_flow_mark(0)
            return True
        case Meter():
            return _meter(statement, run)
        case Tally():
            return _note(statement, run)
        case Verdict() | Reject():
            return statement
        case Dnat():
            return _dnat(statement, contents, run)
        case Masquerade():
            return Translation("masquerade", low=statement.low, high=statement.high)
        case _:
            raise Unsupported(f"statement {type(statement).__name__}", predicate=type(statement).__name__)


def _apply_found(
    statement: MarkPacketFrom | StampFlow | LabelFlow,
    contents: Mapping[str, Content],
    run: Run,
    apply: Callable[[int], None],
) -> bool:
    """Where the map has the key: a rule ends at a statement whose look-up finds nothing."""
    found = _find(statement.fields, statement.map, contents, run)
    if found is not None:
        apply(_number(found[0]))
    return found is not None


def _is_forgotten_within(seconds: int, run: Run) -> bool:
    flow = run.context.flow
    return flow is not None and flow.seconds < seconds


def _meter(statement: Meter, run: Run) -> bool:
    exceeded = run.context.over.get(statement.set, False)
    return run.read(statement.fields) is not None and exceeded != isinstance(statement.bound, RateWithin)


def _note(statement: Tally, run: Run) -> bool:
    key = run.read(statement.fields)
    if key is not None:
        run.noted.add((statement.set, key))
    return key is not None


def _compare(statement: Compare, value: Value | None) -> bool:
    if value is None:
        return False
    if isinstance(value, frozenset):
        equal = any(name in value for name in statement.values)
    elif isinstance(value, str):
        equal = any(_name_matches(str(wanted), value) for wanted in statement.values)
    elif statement.field.name == "ct label":
        equal = any(value & bits for bits in statement.values if isinstance(bits, int))
    else:
        equal = value in statement.values
    return equal != statement.negate


def _name_matches(wanted: str, name: str) -> bool:
    return name.startswith(wanted[:-1]) if wanted.endswith("*") else name == wanted


def _lookup(statement: Lookup, contents: Mapping[str, Content], run: Run) -> bool:
    key = run.read(statement.fields)
    if key is None:
        return False
    found = (statement.set, key) in run.noted or _content(statement.set, contents).find(key) is not None
    return found != statement.negate


def _find(fields: Sequence[Field], name: str, contents: Mapping[str, Content], run: Run) -> tuple[Scalar, ...] | None:
    key = run.read(fields)
    return None if key is None else _content(name, contents).find(key)


def _content(name: str, contents: Mapping[str, Content]) -> Content:
    content = contents.get(name)
    if content is None:
        raise NotFound(f"no set {name}")
    return content


def _dnat(statement: Dnat, contents: Mapping[str, Content], run: Run) -> Ending | bool:
    found = _find(statement.fields, statement.map, contents, run)
    if found is None:
        return False
    # The kernel skips a translation of the other family and goes on (nft_nat_inet_eval).
    if run.packet.protocol != {"ip": ETH_IP, "ip6": ETH_IPV6}[statement.family]:
        return True
    address, *port = (_number(value) for value in found)
    return Translation("dnat", address, port[0] if port else None)


def _number(value: Scalar) -> int:
    if not isinstance(value, int):
        raise Unsupported(f"map data {value!r} is not a number")
    return value
