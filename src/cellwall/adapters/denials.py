"""What rules count by endpoint of what they deny: three dynamic sets, each element with a counter of its own.

Owns: how their keys and counters lie in messages. An element that nothing was counted on for an hour is gone, and a set
begins anew with its table: totals are for others to keep.
"""

import errno
import sys
from collections.abc import Iterable, Iterator, Sequence

from cellwall.adapters.elements import SetKey, dump_request, each_element
from cellwall.adapters.netlink import Message, Netlink, attribute, attribute_text, attributes, nested, text_of, u32_of
from cellwall.adapters.nfnetlink import HEADER_SIZE, NFPROTO, NFT_MSG_GETSETELEM, nft_message
from cellwall.errors import KernelError
from cellwall.model.figures import Denied
from cellwall.names import TABLE

# linux/netfilter/nf_tables.h
_TABLE, _SET, _ELEMENTS, _LIST_ELEM, _VALUE = 1, 2, 3, 1, 1
_KEY, _EXPRESSION, _EXPRESSIONS = 1, 7, 11
_EXPRESSION_NAME, _EXPRESSION_DATA, _COUNTER_PACKETS = 1, 2, 2

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
    """What was counted of these; of what nothing was counted there is nothing. One exchange."""
    asked = [_ask(where, key) for where in _PORTS for key in ports]
    asked += [_ask(where, key) for where in (_SENT, _RECEIVED) for key in stems]
    found: dict[str, dict[int, int]] = {name: {} for _, _, name in (*_PORTS, _SENT, _RECEIVED)}
    if asked:
        replies, refusals = netfilter.exchange(asked, len(asked) - 1, "read what was denied")
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
    """(key, packets) of each element of a message."""
    for element in each_element(body):
        expression = element.get(_EXPRESSION)
        if expression is None:  # the form for several, which kernels use where they tell of more than one
            expression = attributes(element.get(_EXPRESSIONS, b"")).get(_LIST_ELEM, b"")
        parts = attributes(expression)
        if parts.get(_EXPRESSION_NAME) == b"counter\0":
            packets = attributes(parts[_EXPRESSION_DATA])[_COUNTER_PACKETS]
            yield u32_of(attributes(element[_KEY])[_VALUE]), int.from_bytes(packets, "big")


def _add(found: dict[int, int], counted: Iterable[tuple[int, int]]) -> None:
    for key, packets in counted:
        found[key] = found.get(key, 0) + packets
