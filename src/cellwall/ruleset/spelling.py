"""One rule as one line of nft text.

Owns the spelling of every statement. Statements that look alike in nft but compile to other instructions
are told apart here: `ct state != established` compares the whole bit mask, which is not "none of these
bits", and the names of a bit mask between braces would be a set of exact masks.
"""

from collections.abc import Sequence
from functools import singledispatch

from cellwall.errors import InvalidSpec, Unsupported
from cellwall.ruleset.fields import FIELDS
from cellwall.ruleset.names import check_comment, check_name, check_prefix
from cellwall.ruleset.scalars import Kind, prefix_length, spell, spell_mask
from cellwall.ruleset.types import (
    BytesOver,
    ClampSegments,
    ClearMark,
    ClearPriority,
    Compare,
    ConnectionsOver,
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
    RateOver,
    Reject,
    Rule,
    Scalar,
    SetTimeouts,
    StampFlow,
    Tally,
    UnmarkPacket,
    UnstampFlow,
    Verdict,
)

BIT_NAMES: frozenset[Kind] = frozenset(("ct_state", "ct_status"))


def spell_rule(rule: Rule) -> str:
    """The rule without chain and indentation."""
    words = [spell_statement(statement) for statement in rule.statements]
    if rule.comment:
        words.append(f'comment "{check_comment(rule.comment)}"')
    if not words:
        raise InvalidSpec("rule", "", "has no statement")
    return " ".join(words)


def spell_field(field: Field) -> str:
    """A field as a key or an operand: its name, and its mask."""
    if field.mask is None:
        return field.name
    kind = FIELDS[field.name].kind
    if kind in ("ifname", "raw8", "raw128") or kind in BIT_NAMES:
        raise InvalidSpec("mask", field.mask, f"{field.name} cannot be masked")
    return f"{field.name} & {spell_mask(kind, field.mask)}"


@singledispatch
def spell_statement(statement: object) -> str:
    """One statement; what is not known here is refused."""
    raise Unsupported(f"no nft text for {type(statement).__name__}", predicate=type(statement).__name__)


@spell_statement.register
def _(statement: Compare) -> str:
    field, kind = statement.field, FIELDS[statement.field.name].kind
    if not statement.values:
        raise InvalidSpec(field.name, "", "compared with nothing")
    if kind in BIT_NAMES:
        return _any_bit(statement, kind)
    if kind == "ct_label" and (len(statement.values) != 1 or statement.negate or field.mask is not None):
        raise InvalidSpec(field.name, statement.values, "any of some bits: one value")  # nft compares others whole
    if kind == "presence" and len(statement.values) != 1:
        raise InvalidSpec(field.name, statement.values, "exists or not: one value")
    if field.mask is None:
        return _operation(field.name, statement, [spell(kind, value) for value in statement.values])
    for value in statement.values:
        if isinstance(value, int) and value & ~field.mask:
            raise InvalidSpec(field.name, spell(kind, value), "has bits outside the mask: never equal")
    length = prefix_length(kind, field.mask)
    if length is not None:
        return _operation(field.name, statement, [f"{spell(kind, v)}/{length}" for v in statement.values])
    right = [spell(kind, value) for value in statement.values]
    return _operation(spell_field(field), statement, right, equal=" ==")


def _any_bit(statement: Compare, kind: Kind) -> str:
    if statement.field.mask is not None:
        raise InvalidSpec("mask", statement.field.mask, f"{statement.field.name} cannot be masked")
    names = [spell(kind, value) for value in statement.values]
    if not statement.negate:
        return f"{statement.field.name} {','.join(names)}"
    bits = names[0] if len(names) == 1 else f"({'|'.join(names)})"
    return f"{statement.field.name} & {bits} == 0"


def _operation(left: str, statement: Compare, right: Sequence[str], *, equal: str = "") -> str:
    if len(right) == 1:
        return f"{left}{' !=' if statement.negate else equal} {right[0]}"
    if len(set(right)) != len(right):
        raise InvalidSpec(statement.field.name, ", ".join(right), "names a value twice")
    return f"{left}{' !=' if statement.negate else ''} {{ {', '.join(right)} }}"


def _key(fields: Sequence[Field]) -> str:
    if not fields:
        raise InvalidSpec("fields", "", "a key of nothing")
    return " . ".join(spell_field(field) for field in fields)


@spell_statement.register
def _(statement: Lookup) -> str:
    operator = " !=" if statement.negate else ""
    return f"{_key(statement.fields)}{operator} @{check_name('set', statement.set)}"


@spell_statement.register
def _(statement: Counter) -> str:
    return "counter"


@spell_statement.register
def _(statement: Verdict) -> str:
    if statement.kind in ("jump", "goto"):
        return f"{statement.kind} {check_name('chain', statement.chain)}"
    if statement.chain:
        raise InvalidSpec("chain", statement.chain, f"{statement.kind} has no target")
    return statement.kind


@spell_statement.register
def _(statement: Reject) -> str:
    return f"reject with {statement.kind}"


@spell_statement.register
def _(statement: MarkPacket) -> str:
    return f"meta mark set meta mark | {spell('mark', statement.bits)}"


@spell_statement.register
def _(statement: UnmarkPacket) -> str:
    return f"meta mark set meta mark & {spell('mark', 0xFFFFFFFF & ~statement.bits)}"


@spell_statement.register
def _(statement: MarkPacketFrom) -> str:
    return f"meta mark set {_key(statement.fields)} map @{check_name('map', statement.map)}"


@spell_statement.register
def _(statement: ClearMark) -> str:
    return f"meta mark set {spell('mark', 0)}"


@spell_statement.register
def _(statement: StampFlow) -> str:
    return f"ct mark set {_key(statement.fields)} map @{check_name('map', statement.map)}"


@spell_statement.register
def _(statement: UnstampFlow) -> str:
    return f"ct mark set {spell('mark', 0)}"


@spell_statement.register
def _(statement: LabelFlow) -> str:
    return f"ct label set {_key(statement.fields)} map @{check_name('map', statement.map)}"


@spell_statement.register
def _(statement: ForgottenWithin) -> str:
    return f"ct expiration < {_positive('seconds', statement.seconds)}s"


@spell_statement.register
def _(statement: SetTimeouts) -> str:
    return f'ct timeout set "{check_name("timeouts", statement.name)}"'


@spell_statement.register
def _(statement: ClearPriority) -> str:
    return "meta priority set none"


@spell_statement.register
def _(statement: ClampSegments) -> str:
    return "tcp option maxseg size set rt mtu"


@spell_statement.register
def _(statement: Dnat) -> str:
    return f"dnat {statement.family} to {_key(statement.fields)} map @{check_name('map', statement.map)}"


@spell_statement.register
def _(statement: Masquerade) -> str:
    if statement.low == statement.high == 0:
        return "masquerade"
    low, high = (spell("inet_service", bound) for bound in (statement.low, statement.high))
    if not 0 < statement.low <= statement.high:
        raise InvalidSpec("masquerade", f"{low}-{high}", "not a range of ports")
    # fully-random: a source port that already lies in the range would otherwise be kept, so that a tenant
    # could choose, and guess, the port that the world sees.
    return f"masquerade to :{low}-{high} random,fully-random"


@spell_statement.register
def _(statement: Meter) -> str:
    bound = statement.bound
    if isinstance(bound, ConnectionsOver):
        text = f"ct count over {_positive('limit', bound.limit)}"
    elif isinstance(bound, BytesOver):
        text = f"limit rate over {bound.rate} bytes/second burst {_positive('burst', bound.burst)} bytes"
    else:
        rate, burst = _positive("rate", bound.rate), _positive("burst", bound.burst)
        over = "over " if isinstance(bound, RateOver) else ""
        text = f"limit rate {over}{rate}/second burst {burst} packets"
    verb = "update" if statement.lasting else "add"
    return f"{verb} @{check_name('set', statement.set)} {{ {_key(statement.fields)} {text} }}"


@spell_statement.register
def _(statement: Tally) -> str:
    # update, and not add: the element stays as long as it counts.
    return f"update @{check_name('set', statement.set)} {{ {_key(statement.fields)} counter }}"


@spell_statement.register
def _(statement: LogPacket) -> str:
    if not 0 <= statement.group < 1 << 16:
        raise InvalidSpec("log group", statement.group, "must be 0 to 65535")
    length = _positive("log length", statement.length)
    return f'log prefix "{check_prefix(statement.prefix)}" group {statement.group} snaplen {length}'


def _positive(name: str, value: Scalar) -> int:
    if not isinstance(value, int) or not 0 < value < 1 << 32:
        raise InvalidSpec(name, value, "must be between 1 and 2^32-1")
    return value
