"""Whether the built-in chains of iptables and ebtables lead to ours before all else, whether these have rules, and
whether the floor is filled: `remnants.Glance`.

Owns: the read of a few chains, of iptables-nft as nf_tables dumps them and of iptables-legacy as the kernel hands its
tables out (linux/netfilter_ipv4/ip_tables.h, IPT_SO_GET_ENTRIES), and the one question to an ipset. What else stands
there is for whoever compares. A table that was found whole is read again when the number of nf_tables' last transaction
is another; of a legacy one when its size or its hooks change, as `legacy_tables` has it.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from cellwall.adapters.iptables.legacy_entries import have_rules, leads_first
from cellwall.adapters.iptables.legacy_names import legacy_tables
from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_GETRULE,
    generation,
    ipset_message,
    nft_message,
    open_netfilter_socket,
)
from cellwall.adapters.netlink.nlattr import (
    attribute,
    attribute_of,
    attribute_text,
    attribute_u8,
    each_attribute,
    nested,
)
from cellwall.adapters.netlink.sockets import Closing, Message
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.remnants import JUDGING, Judging
from cellwall.errors import KernelError
from cellwall.lower.xt.chains import DENY, GUARD, VOUCHING, hook_chain
from cellwall.lower.xt.sets import set_name
from cellwall.lower.xt.tables import HookName, TableName
from cellwall.model.floor import ALWAYS_DENIED
from cellwall.names import SECURITY_CHAIN

_TABLE, _CHAIN, _EXPRESSIONS = 1, 2, 4  # NFTA_RULE_*
_NAME, _DATA = 1, 2  # NFTA_EXPR_*
_TO_CHAIN = (_DATA, 2, 2, 2)  # into a jump: NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN
_FAMILIES = {4: 2, 6: 10}  # NFPROTO_*
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_*, and IP6T_SO_*
_LEVELS = {4: socket.SOL_IP, 6: 41}  # 41: SOL_IPV6
_PLACES: Mapping[HookName, int] = {"PREROUTING": 0, "INPUT": 1, "FORWARD": 2, "OUTPUT": 3, "POSTROUTING": 4}
"""NF_INET_*"""
_JUDGED: tuple[HookName, ...] = ("INPUT", "FORWARD")
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo
_ENTRIES = struct.Struct("=32sI4x")  # struct ipt_get_entries, before the entries
_OWN = (hook_chain("INPUT"), SECURITY_CHAIN, GUARD, DENY)
"""The chains that each packet which ends meets: without a rule of theirs it goes on to whatever accepts."""
_READS = 8
"""How often a table may change size between two questions about it."""
_TEST, _NOT_IN_SET = 11, 4103  # IPSET_CMD_TEST, IPSET_ERR_EXIST
_NET_BYTEORDER = 0x4000
_libc = ctypes.CDLL(None, use_errno=True)


class Glances(Closing):
    """The tables and sets of the network namespace that the creating thread is in."""

    def __init__(self) -> None:
        self._netfilter = open_netfilter_socket()
        self._raw: dict[int, socket.socket] = {}
        self._led: dict[tuple[int, str], bytes | int] = {}
        self._begun: dict[tuple[int, str, tuple[str, ...]], int] = {}

    def close(self) -> None:
        self._netfilter.close()
        for asked in self._raw.values():
            asked.close()
        self._raw = {}

    def leads(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """See `Glance.leads`. Of a legacy table that nobody made it makes one, as its programs do: for who laid a wall
        there."""
        if variant == "legacy":
            return self._of_legacy(lambda: self._leads_in_legacy(version, table))
        state = generation(self._netfilter)
        if self._led.get((version, table)) != state:
            leads = all(self._leads_in_nft(_ASKED[version, table, hook], hook) for hook in _JUDGED)
            whole = leads and all(self._rules(version, table, chain) for chain in _OWN)
            self._led[version, table] = state if whole else b""
        return self._led[version, table] == state

    def begin(self, variant: Variant, version: Literal[4, 6], table: TableName, hooks: Sequence[HookName]) -> bool:
        """See `Glance.begin`."""
        if variant == "nft":
            state, asked = generation(self._netfilter), (version, table, tuple(hooks))
            if self._begun.get(asked) == state:
                return True
            questions = [(hook, _request(_FAMILIES[version], table, hook)) for hook in hooks]
            begin = all(self._leads_in_nft(message, hook) for hook, message in questions)
            if begin:
                self._begun[asked] = state
            return begin
        return self._of_legacy(lambda: self._begin_in_legacy(version, table, hooks))

    def vouches(self) -> bool:
        """See `Glance.vouches`."""
        replies = self._netfilter.dump(_FRAMES, "read a chain of ebtables")
        return any(_always_to(reply.body) == f"{hook_chain('PREROUTING')}\0".encode() for reply in replies)

    def opens(self) -> bool:
        """See `Glance.opens`."""
        return len(self._netfilter.dump(_VOUCHING, "read a chain of ebtables")) > 1

    def generation(self) -> int:
        """See `Glance.generation`."""
        return generation(self._netfilter)

    def close_frames(self, seen: int) -> bool:
        """See `Glance.close_frames`."""
        from cellwall.adapters.nftables.chains import drop_all  # here and not above: hardly anybody ever closes

        return drop_all(self._netfilter, [("bridge", "nat", VOUCHING)], seen)

    def is_made(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """See `Glance.is_made`: no question to nf_tables makes a table."""
        return variant == "nft" or table in legacy_tables(version)

    def denies(self, version: Literal[4, 6]) -> bool:
        """See `Glance.denies`."""
        _, refusals = self._netfilter.exchange([_FLOORED[version]], 0, "look into the floor")
        if refusals and refusals[0].errno not in (errno.ENOENT, _NOT_IN_SET):
            raise KernelError(refusals[0].errno, "look into the floor", refusals[0].text)
        return not refusals

    def _rules(self, version: int, table: Judging, chain: str) -> list[bytes]:
        return [reply.body for reply in self._netfilter.dump(_ASKED[version, table, chain], "read a chain of iptables")]

    def _leads_in_nft(self, asked: Message, hook: str) -> bool:
        rules = self._netfilter.dump(asked, "read a chain of iptables")
        return bool(rules) and _always_to(rules[0].body) == f"{hook_chain(hook)}\0".encode()

    def _of_legacy(self, answer: Callable[[], bool]) -> bool:
        for reads in range(1, _READS + 1):
            try:
                return answer()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOPROTOOPT):
                    return False  # no such table, or no legacy tables at all
                if error.errno != errno.EAGAIN or reads == _READS:
                    raise KernelError(error.errno or errno.EIO, "read a legacy table") from error
        raise AssertionError

    def _leads_in_legacy(self, version: Literal[4, 6], table: Judging) -> bool:
        info = self._info(version, table)
        if self._led.get((version, table)) == info:
            return True
        entries = self._entries(version, table, info)
        whole = _begin(entries, version, info, _JUDGED) and have_rules(entries, version, _OWN)
        self._led[version, table] = info if whole else b""
        return whole

    def _begin_in_legacy(self, version: Literal[4, 6], table: TableName, hooks: Sequence[HookName]) -> bool:
        info = self._info(version, table)
        return _begin(self._entries(version, table, info), version, info, hooks)

    def _info(self, version: int, table: str) -> bytes:
        return self._ask(version, _GET_INFO, _INFO.pack(table.encode(), *[0] * 13))

    def _entries(self, version: int, table: str, info: bytes) -> bytes:
        """OSError, EAGAIN where somebody changed the table amid it."""
        *_, size = _INFO.unpack(info)
        held = self._ask(version, _GET_ENTRIES, _ENTRIES.pack(table.encode(), size) + bytes(size))
        return held[_ENTRIES.size :]

    def _ask(self, version: int, what: int, question: bytes) -> bytes:
        if version not in self._raw:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            self._raw[version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        answer = ctypes.create_string_buffer(question, len(question))
        length = ctypes.c_uint(len(question))
        fd = self._raw[version].fileno()
        if _libc.getsockopt(fd, _LEVELS[version], what, answer, ctypes.byref(length)) != 0:
            raise OSError(ctypes.get_errno(), "getsockopt")
        return answer.raw


def _begin(entries: bytes, version: Literal[4, 6], info: bytes, hooks: Sequence[HookName]) -> bool:
    _, _, *places, _, _ = _INFO.unpack(info)
    return all(leads_first(entries, version, places[_PLACES[hook]], hook_chain(hook)) for hook in hooks)


def _always_to(rule: bytes) -> bytes:
    """The chain that a rule of nf_tables leads every packet to, with its zero; b"" for another rule. A counter is all
    that may stand before the jump."""
    expressions = attribute_of(rule, _EXPRESSIONS, HEADER_SIZE) or b""
    for _, expression in each_attribute(expressions):
        name = attribute_of(expression, _NAME, 0)
        if name == b"immediate\0":
            value = expression
            for kind in _TO_CHAIN:
                value = attribute_of(value, kind, 0) or b""
            return value
        if name != b"counter\0":
            break
    return b""


def _request(family: int, table: str, hook: str) -> Message:
    return nft_message(NFT_MSG_GETRULE, family, attribute_text(_TABLE, table) + attribute_text(_CHAIN, hook))


_ASKED = {
    (version, table, hook): _request(family, table, hook)
    for version, family in _FAMILIES.items()
    for table in JUDGING
    for hook in (*_JUDGED, *_OWN)
}
_FRAMES = _request(NFPROTO["bridge"], "nat", "PREROUTING")
_VOUCHING = _request(NFPROTO["bridge"], "nat", VOUCHING)


def _floored(version: Literal[4, 6]) -> Message:
    """Whether an address is in the floor (linux/netfilter/ipset/ip_set.h): of a hash:net, any network that has it."""
    address = attribute((1 if version == 4 else 2) | _NET_BYTEORDER, ALWAYS_DENIED[version].packed)
    head = attribute_u8(1, 6) + attribute_text(2, set_name("floor", version))
    body = head + nested(7, nested(1, address))
    return ipset_message(_TEST, 0, body, family=_FAMILIES[version])


_FLOORED = {4: _floored(4), 6: _floored(6)}
