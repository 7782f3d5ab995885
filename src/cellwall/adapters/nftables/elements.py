"""Set elements as nf_tables has them: typed changes packed into messages, dumps read back into typed values.

Owns: the packing of every key type, the padding of concatenations, the grouping of changes into few messages.
Addresses, MACs, protocols and ports lie in network order, marks and interface indices in the host's: that is how
nf_tables loads them into its registers. In a concatenation every part fills whole 32-bit registers; a single value
is not padded (net/netfilter/nf_tables_api.c, nft_set_desc_concat).

Refuses: changes of one-dimensional interval sets. Their elements are two half-open boundaries in a tree whose
neighbours may have to be merged; such sets are small and static and are replaced as text.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_DELSETELEM,
    NFT_MSG_GETSETELEM,
    NFT_MSG_NEWSETELEM,
    nft_message,
)
from cellwall.adapters.netlink.nlattr import (
    PADDING,
    attribute,
    attribute_text,
    attributes,
    each_attribute,
    nested,
    text_of,
    u32_of,
)
from cellwall.adapters.netlink.sockets import NLM_F_CREATE, NLM_F_EXCL, Message, Refusal
from cellwall.adapters.nftables.element_layout import (
    DATA,
    KEY,
    LIST_ELEM,
    SIZES,
    VALUE,
    layout,
    order_of,
)
from cellwall.errors import InvalidSpec, NotFound, Unsupported, printable
from cellwall.model.addresses import Address
from cellwall.ruleset.types import (
    TABLE_FAMILIES,
    Element,
    ElementChange,
    Interval,
    KeyPart,
    KeyType,
    NamedSet,
    Scalar,
    TableFamily,
)

if TYPE_CHECKING:
    from cellwall.ruleset.elements import Bundle, BundleChange, Change

SetKey = tuple[TableFamily, str, str]
"""Family, table, set."""
Schema = Mapping[SetKey, NamedSet]
Pair = tuple[tuple[KeyPart, ...], tuple[Scalar, ...]]
"""The key and the data of an element."""

_TABLE, _SET, _ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_FLAGS, _KEY_END = 3, 10  # NFTA_SET_ELEM_*
_INTERVAL_END, _CATCH_ALL = 0x1, 0x2
EVERY_KEY: tuple[KeyPart, ...] = ()
"""That of an element that any key is in for which there is no other (`*`): nobody of ours adds one."""
_HEADER = 16  # struct nlmsghdr
_LARGEST_LIST = 60_000  # an attribute's length is 16 bits

_FAMILIES = {NFPROTO[family]: family for family in TABLE_FAMILIES}


class Packed(msgspec.Struct, frozen=True):
    """A message and, for each of its elements, where it starts in the message and which change it is."""

    message: Message
    starts: tuple[int, ...]
    changes: "tuple[Change, ...]"

    def culprit(self, refusal: Refusal) -> ElementChange:
        """The change a refusal is about; the first one where the kernel did not say."""
        found = max(0, sum(start <= refusal.offset for start in self.starts) - 1)
        change, start = self.changes[found], self.starts[found]
        if isinstance(change, ElementChange):
            return change
        end = (*self.starts, _HEADER + len(self.message.body))[found + 1]
        length = (end - start) // len(change.bundle.rest)
        return change.of(max(0, refusal.offset - start) // length)


def pack_changes(changes: "Iterable[Change]", schema: Schema) -> list[Packed]:
    """As few messages as possible. Changes of different sets are independent inside a transaction and may change
    places; those of one set keep their order, as a key may go and come back."""
    runs: dict[SetKey, list[list[Change]]] = {}
    for change in changes:
        if not isinstance(change, ElementChange) and not change.bundle.rest:
            continue  # of none of them there is no first one
        of_set = runs.setdefault((change.family, change.table, change.set), [])
        if of_set and of_set[-1][0].op == change.op:
            of_set[-1].append(change)
        else:
            of_set.append([change])
    return [packed for where, of_set in runs.items() for run in of_set for packed in _pack_run(where, run, schema)]


def describe(change: ElementChange) -> str:
    """`add element bridge cellwall pin4 { 3 . 2886729730 }`, for errors."""
    key = " . ".join(f"{p.low}-{p.high}" if isinstance(p, Interval) else str(p) for p in change.element.key)
    data = " . ".join(str(part) for part in change.element.data)
    shown = f"{key} : {data}" if data else key
    return f"{change.op} element {change.family} {change.table} {change.set} {{ {shown} }}"


def lookup_set(where: SetKey, schema: Schema) -> NamedSet:
    """The set's description; NotFound where the ruleset in force has none of that name."""
    found = schema.get(where)
    if found is None:
        raise NotFound(f"no set {' '.join(where)} in the ruleset in force")
    return found


def _pack_run(where: SetKey, run: "Sequence[Change]", schema: Schema) -> list[Packed]:
    described = lookup_set(where, schema)
    if described.interval and len(described.key) == 1:
        raise Unsupported(f"{' '.join(where)}: single elements of an interval set", backend="nftables")
    head = _head(where)
    first = _HEADER + HEADER_SIZE + len(head) + 4  # where the list's content starts in the message
    if len(run) == 1 and isinstance(run[0], ElementChange):
        return [_packed(where[0], head, [_pack_element(run[0], described)], [first], run)]
    messages: list[Packed] = []
    chunks: list[bytes] = []
    starts, size = list[int](), 0
    changes: list[Change] = []
    for change, packed in _pack_each(run, described):
        if size + len(packed) > _LARGEST_LIST:
            messages.append(_packed(where[0], head, chunks, starts, changes))
            chunks, starts, changes, size = [], [], [], 0
        starts.append(first + size)
        chunks.append(packed)
        changes.append(change)
        size += len(packed)
    messages.append(_packed(where[0], head, chunks, starts, changes))
    return messages


def _pack_each(run: "Sequence[Change]", described: NamedSet) -> "Iterator[tuple[Change, bytes]]":
    """Each change, in parts where it is too large for one message."""
    rests: dict[object, list[bytes]] = {}
    for change in run:
        if isinstance(change, ElementChange):
            yield change, _pack_element(change, described)
        else:
            yield from _pack_bundle(change, described, rests)


def _pack_bundle(
    change: "BundleChange", described: NamedSet, rests: dict[object, list[bytes]]
) -> "Iterator[tuple[BundleChange, bytes]]":
    """What is before the rest of a key is the same bytes in each element."""
    rest = pack_rests(change.bundle, described, rests)
    whole = _pack_element(change.of(0), described)
    head, most = whole[: len(whole) - len(rest[0])], _LARGEST_LIST // len(whole)
    for start in range(0, len(rest), most):
        bundle = msgspec.structs.replace(change.bundle, rest=change.bundle.rest[start : start + most])
        yield msgspec.structs.replace(change, bundle=bundle), head + head.join(rest[start : start + most])


def pack_rests(bundle: "Bundle", described: NamedSet, rests: dict[object, list[bytes]]) -> list[bytes]:
    """What follows the first part of each key. `rests` remembers what was packed of others of this set."""
    rest = rests.get(bundle.rest)
    if rest is None:
        rest = rests[bundle.rest] = [pack_parts(key, described.key[1:]) for key in bundle.rest]
    return rest


@lru_cache(maxsize=512)
def _head(where: SetKey) -> bytes:
    """What names a set in a message."""
    _, table, name = where
    return attribute_text(_TABLE, table) + attribute_text(_SET, name)


def _packed(
    family: TableFamily, head: bytes, elements: list[bytes], starts: list[int], changes: "Sequence[Change]"
) -> Packed:
    adding = changes[0].op == "add"
    message = nft_message(
        NFT_MSG_NEWSETELEM if adding else NFT_MSG_DELSETELEM,
        NFPROTO[family],
        head + nested(_ELEMENTS, *elements),
        # With EXCL an element that is there already refuses the batch; `nft add element` is silent about it.
        flags=NLM_F_CREATE | NLM_F_EXCL if adding else 0,
    )
    return Packed(message, tuple(starts), tuple(changes))


def _pack_element(change: ElementChange, described: NamedSet) -> bytes:
    element = change.element
    parts, data = element.key, element.data
    if parts == EVERY_KEY and change.op == "delete":
        return nested(LIST_ELEM, attribute(_FLAGS, _CATCH_ALL.to_bytes(4, "big")))
    if len(parts) != len(described.key) or (change.op == "add" and len(data) != len(described.data)):
        raise InvalidSpec("element", describe(change), "does not have the shape of the set")
    # A deletion names the key alone: with data, an element whose data differs would not be found.
    values, types = (parts + data, described.data) if change.op == "add" else (parts, ())
    laid = layout(described.key, types)
    if laid is not None:
        try:
            return laid.pack(values)
        except (AttributeError, OverflowError):  # a range, or no number that fits
            pass
    return _pack_by_part(change, described)


def _pack_by_part(change: ElementChange, described: NamedSet) -> bytes:
    """The same of any element, and an error that names one that does not fit."""
    parts, data = change.element.key, change.element.data
    try:
        if any(isinstance(part, Interval) for part in parts):
            body = _pack_range(parts, described, change)
        else:
            body = nested(KEY, attribute(VALUE, _pack(parts, described.key)))
        if data and change.op == "add":
            body += nested(DATA, attribute(VALUE, _pack(data, described.data)))
    except (OverflowError, AttributeError, TypeError) as error:
        raise InvalidSpec("element", describe(change), "has a part that does not fit its type") from error
    return nested(LIST_ELEM, body)


def _pack_range(parts: Sequence[KeyPart], described: NamedSet, change: ElementChange) -> bytes:
    if not described.interval:
        raise InvalidSpec("element", describe(change), "is a range, the set has none")
    low = [part.low if isinstance(part, Interval) else part for part in parts]
    high = [part.high if isinstance(part, Interval) else part for part in parts]
    start = nested(KEY, attribute(VALUE, _pack(low, described.key)))
    return start + nested(_KEY_END, attribute(VALUE, _pack(high, described.key)))


def _pack(parts: Sequence[KeyPart], types: Sequence[KeyType]) -> bytes:
    return _pack_one(parts[0], types[0]) if len(parts) == 1 else pack_parts(parts, types)


def pack_parts(parts: Sequence[KeyPart], types: Sequence[KeyType]) -> bytes:
    chunks = []
    for part, kind in zip(parts, types, strict=True):
        value = _pack_one(part, kind)
        chunks.append(value + PADDING[len(value) & 3])
    return b"".join(chunks)


def _pack_one(part: KeyPart, kind: KeyType) -> bytes:
    if kind == "ifname":
        if not isinstance(part, str) or len(raw := part.encode()) >= SIZES["ifname"]:
            raise TypeError(kind)
        return raw.ljust(SIZES["ifname"], b"\0")
    if not isinstance(part, int):
        raise TypeError(kind)
    return part.to_bytes(SIZES[kind], order_of(kind))


# ---------------------------------------------------------------- reading back


def dump_request(where: SetKey) -> Message:
    """Ask for a set's elements."""
    family, table, name = where
    body = attribute_text(_TABLE, table) + attribute_text(_SET, name)
    return nft_message(NFT_MSG_GETSETELEM, NFPROTO[family], body, what=f"set {printable(name)}")


def ask_for_address(where: SetKey, address: Address) -> Message:
    """Ask for the element that an address is in; ENOENT where there is none."""
    family, table, name = where
    element = nested(LIST_ELEM, nested(KEY, attribute(VALUE, address.packed)))
    body = attribute_text(_TABLE, table) + attribute_text(_SET, name) + nested(_ELEMENTS, element)
    return nft_message(NFT_MSG_GETSETELEM, NFPROTO[family], body, what=f"set {printable(name)}")


def ask_for(elements: Iterable[ElementChange], schema: Schema) -> list[Message]:
    """Ask for each of these by its key; ENOENT where one is not there."""
    by_key = (msgspec.structs.replace(element, op="delete") for element in elements)  # which names the key alone
    kind = nft_message(NFT_MSG_GETSETELEM, NFPROTO["inet"], b"").type
    return [msgspec.structs.replace(packed.message, type=kind) for packed in pack_changes(by_key, schema)]


def read_pairs(body: bytes, schema: Schema) -> Iterable[tuple[SetKey, Pair]]:
    """The elements of one answer, and the set that each is in."""
    told = attributes(body, HEADER_SIZE)
    where = _FAMILIES[body[0]], text_of(told[_TABLE]), text_of(told[_SET])
    return ((where, pair) for pair in read_elements([body], lookup_set(where, schema)))


def list_elements(body: bytes) -> list[bytes]:
    """Every element in one message of a dump, as the kernel lists it."""
    listed = attributes(body, HEADER_SIZE).get(_ELEMENTS, b"")
    head = listed[:4]
    if not head:
        return []
    length = int.from_bytes(head[:2], sys.byteorder)
    step = (length + 3) & ~3
    count, odd = divmod(len(listed), step or 1)
    # Nearly always all are of one length, and then nothing has to go through them one by one.
    if odd or any(listed[place::step] != head[place : place + 1] * count for place in range(4)):
        return [element for _, element in each_attribute(listed)]
    return [listed[start : start + length - 4] for start in range(4, len(listed), step)]


def as_listed(element: Element, named: NamedSet) -> bytes:
    """An element as the kernel lists it (linux/net/netfilter/nf_tables_api.c, nf_tables_fill_setelem)."""
    low = [part.low if isinstance(part, Interval) else part for part in element.key]
    body = attribute(KEY, attribute(VALUE, _pack(low, named.key)))
    if any(isinstance(part, Interval) for part in element.key):
        high = [part.high if isinstance(part, Interval) else part for part in element.key]
        body += attribute(_KEY_END, attribute(VALUE, _pack(high, named.key)))
    return body + attribute(DATA, attribute(VALUE, _pack(element.data, named.data))) if named.data else body


def read_elements(bodies: Iterable[bytes], described: NamedSet) -> frozenset[Pair]:
    """The elements of a dump as typed values."""
    return read_listed((element for body in bodies for element in list_elements(body)), described)


def read_listed(elements: Iterable[bytes], described: NamedSet) -> frozenset[Pair]:
    """Elements as the kernel listed them as typed values."""
    found = map(attributes, elements)
    if described.interval and len(described.key) == 1:
        return _read_boundaries((read for read in found if KEY in read), described.key[0])
    return frozenset((_read_key(read, described), _read_data(read, described)) for read in found)


def _read_key(element: Mapping[int, bytes], described: NamedSet) -> tuple[KeyPart, ...]:
    if KEY not in element:
        return EVERY_KEY
    low = _unpack(_value(element[KEY]), described.key)
    if _KEY_END not in element:
        return low
    high = _unpack(_value(element[_KEY_END]), described.key)
    return tuple(
        Interval(first, last) if isinstance(first, int) and isinstance(last, int) and first != last else first
        for first, last in zip(low, high, strict=True)
    )


def _read_data(element: Mapping[int, bytes], described: NamedSet) -> tuple[Scalar, ...]:
    return _unpack(_value(element[DATA]), described.data) if described.data else ()


def _read_boundaries(found: Iterable[Mapping[int, bytes]], kind: KeyType) -> frozenset[Pair]:
    """Closed ranges from the tree's boundaries: a start belongs to its range, an end is the first key after it.
    A range that reaches to the last key has no end."""
    boundaries = sorted((int.from_bytes(_value(element[KEY]), "big"), not _is_end(element)) for element in found)
    last_key = (1 << 8 * SIZES[kind]) - 1
    pairs: set[Pair] = set()
    start: int | None = None
    for number, starts in (*boundaries, (last_key + 1, False)):
        if start is not None:
            high = number - 1
            pairs.add(((start if start == high else Interval(start, high),), ()))
        start = number if starts else None
    return frozenset(pairs)


def _is_end(element: Mapping[int, bytes]) -> bool:
    flags = element.get(_FLAGS, b"\0\0\0\0")
    return bool(int.from_bytes(flags, "big") & _INTERVAL_END)


def _value(data: bytes) -> bytes:
    return attributes(data)[VALUE]


def _unpack(raw: bytes, types: Sequence[KeyType]) -> tuple[Scalar, ...]:
    values: list[Scalar] = []
    offset = 0
    for kind in types:
        size = SIZES[kind]
        part = raw[offset : offset + size]
        if kind == "ifname":
            values.append(text_of(part))
        else:
            values.append(
                u32_of(part) if size == 4 and order_of(kind) != "big" else int.from_bytes(part, order_of(kind))
            )
        offset += (size + 3) & ~3
    return tuple(values)
