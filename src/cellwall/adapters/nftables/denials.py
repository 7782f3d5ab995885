"""What rules count by endpoint of what they deny: three dynamic sets, each element with a counter of its own.

Owns: how their keys and counters lie in messages. An element that nothing was counted on for two minutes is gone, and a
set begins anew with its table: totals are for others to keep.
"""

import errno
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence

from cellwall.adapters.netlink.nfnetlink import HEADER_SIZE, NFPROTO, NFT_MSG_GETSETELEM, nft_message
from cellwall.adapters.netlink.nlattr import attribute, attribute_text, attributes, nested, text_of, u32_of
from cellwall.adapters.netlink.sockets import Message, Netlink
from cellwall.adapters.nftables.elements import SetKey, dump_request
from cellwall.errors import KernelError
from cellwall.model.figures import Denied
from cellwall.names import TABLE

# linux/netfilter/nf_tables.h
_TABLE, _SET, _ELEMENTS, _LIST_ELEM, _VALUE = 1, 2, 3, 1, 1
_KEY, _EXPRESSION, _EXPRESSIONS = 1, 7, 11
_EXPRESSION_NAME, _EXPRESSION_DATA, _COUNTER_PACKETS = 1, 2, 2

# An element as Linux writes it (nf_tables_fill_setelem): its header, those of key and value, the key; those of the
# expression, its name and the name, of its data and its bytes, the bytes; that of its packets, the packets.
_HEADER, _KEY_AT, _PACKETS_AT = struct.Struct("=HH"), struct.Struct("=I"), struct.Struct(">Q")
_SHORTEST = 60

AT_ONCE = 128
"""Questions of one exchange: the answers to all of them wait in the socket's queue, and what finds no room is lost."""

_PORTS: tuple[SetKey, ...] = (("bridge", TABLE, "deniedports"), ("inet", TABLE, "deniedports"))
_SENT: SetKey = ("inet", TABLE, "deniedout")
_RECEIVED: SetKey = ("inet", TABLE, "deniedin")


def read_denied(netfilter: Netlink) -> Denied | None:
    """All that was counted; None where no rule counts by endpoint."""
    try:
        ports: dict[int, int] = {}
        for where in _PORTS:
            _add(ports, _dumped(netfilter, where))
        sent, received = dict(_dumped(netfilter, _SENT)), dict(_dumped(netfilter, _RECEIVED))
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        return None
    return Denied(ports, sent, received)


def read_denied_of(netfilter: Netlink, ports: Sequence[int], stems: Sequence[int]) -> Denied:
    """What was counted of these; of what nothing was counted there is nothing. An exchange for every 128 elements."""
    asked = [_ask(where, key) for where in _PORTS for key in ports]
    asked += [_ask(where, key) for where in (_SENT, _RECEIVED) for key in stems]
    found: dict[str, dict[int, int]] = {name: {} for _, _, name in (*_PORTS, _SENT, _RECEIVED)}
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        replies, refusals = netfilter.exchange(some, len(some) - 1, "read what was denied")
        for refusal in refusals:
            if refusal.errno != errno.ENOENT:
                raise KernelError(refusal.errno, "read what was denied", refusal.text)
        for reply in replies:
            name = text_of(attributes(reply.body, HEADER_SIZE)[_SET])
            _add(found[name], _counted(reply.body))
    return Denied(found["deniedports"], found["deniedout"], found["deniedin"])


def _ask(where: SetKey, key: int) -> Message:
    family, table, name = where
    packed = attribute(_VALUE, key.to_bytes(4, sys.byteorder))
    body = attribute_text(_TABLE, table) + attribute_text(_SET, name)
    body += nested(_ELEMENTS, nested(_LIST_ELEM, nested(_KEY, packed)))
    return nft_message(NFT_MSG_GETSETELEM, NFPROTO[family], body, what=f"set {name}")


def _dumped(netfilter: Netlink, where: SetKey) -> Iterator[tuple[int, int]]:
    for reply in netfilter.dump(dump_request(where), f"read set {' '.join(where)}"):
        yield from _counted(reply.body)


def _counted(body: bytes) -> Iterator[tuple[int, int]]:
    """(key, packets) of each element of a message.

    The headers around these two numbers are alike in every element: the first one is taken apart, and what has the same
    headers at the same places is not, which would take 20 µs each.
    """
    alike: bytes | None = None
    for start, end in _places(body):
        headers = _headers(body, start)
        if alike is not None and headers == alike:
            yield _numbers(body, start)
            continue
        found = _read_element(attributes(body[start + 4 : end]))
        if found is not None:
            yield found
            if end - start >= _SHORTEST and found == _numbers(body, start):
                alike = headers


def _places(body: bytes) -> Iterator[tuple[int, int]]:
    """Where each element of a message begins, its own header included, and ends."""
    for start, end, kind in _attributes_at(body, HEADER_SIZE, len(body)):
        if kind == _ELEMENTS:
            for first, last, _ in _attributes_at(body, start + 4, end):
                yield first, last


def _attributes_at(body: bytes, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
    while offset + 4 <= end:
        length, kind = _HEADER.unpack_from(body, offset)
        if length < 4:
            return
        yield offset, offset + length, kind & 0x3FFF
        offset += (length + 3) & ~3


def _headers(body: bytes, start: int) -> bytes:
    """Whatever lies around the key and the two counters of an element."""
    return body[start : start + 12] + body[start + 16 : start + 40] + body[start + 48 : start + 52]


def _numbers(body: bytes, start: int) -> tuple[int, int]:
    return _KEY_AT.unpack_from(body, start + 12)[0], _PACKETS_AT.unpack_from(body, start + 52)[0]


def _read_element(element: dict[int, bytes]) -> tuple[int, int] | None:
    expression = element.get(_EXPRESSION)
    if expression is None:  # the form for several, which kernels use where they tell of more than one
        expression = attributes(element.get(_EXPRESSIONS, b"")).get(_LIST_ELEM, b"")
    parts = attributes(expression)
    if parts.get(_EXPRESSION_NAME) != b"counter\0":
        return None
    packets = attributes(parts[_EXPRESSION_DATA])[_COUNTER_PACKETS]
    return u32_of(attributes(element[_KEY])[_VALUE]), int.from_bytes(packets, "big")


def _add(found: dict[int, int], counted: Iterable[tuple[int, int]]) -> None:
    for key, packets in counted:
        found[key] = found.get(key, 0) + packets
