"""Whether the built-in chains of iptables and ebtables lead to ours, and whether the floor is filled:
`remnants.Glance`.

Owns: the read of one built-in chain, of iptables-nft as nf_tables dumps it and of iptables-legacy as the kernel hands
its tables out (linux/netfilter_ipv4/ip_tables.h, IPT_SO_GET_ENTRIES), and the one question to an ipset. It finds the
jump to our chain and nothing else: what stands there is for whoever compares. To read a legacy table takes as long as
all the rest, so one that leads there is read again when its size or its hooks change, as `legacy_tables` has it.
"""

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Literal

from cellwall.adapters.netlink import Closing, Message, attribute, attribute_text, attribute_u8, nested
from cellwall.adapters.nfnetlink import NFPROTO, NFT_MSG_GETRULE, ipset_message, nft_message, open_netfilter_socket
from cellwall.engine.iptables.contracts import Variant
from cellwall.engine.iptables.remnants import JUDGING, Judging
from cellwall.errors import KernelError
from cellwall.lower.xt.sets import set_name
from cellwall.model.floor import ALWAYS_DENIED

_TABLE, _CHAIN = 1, 2  # NFTA_RULE_*
_FAMILIES = {4: 2, 6: 10}  # NFPROTO_*
_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_*, and IP6T_SO_*
_LEVELS = {4: socket.SOL_IP, 6: 41}  # 41: SOL_IPV6
_PLACES = {"INPUT": 1, "FORWARD": 2}  # NF_INET_*
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo
_ENTRIES = struct.Struct("=32sI4x")  # struct ipt_get_entries, before the entries
_OFFSETS = {4: 88, 6: 140}  # of target_offset and next_offset in struct ipt_entry and ip6t_entry
_TARGET = 32  # sizeof(struct xt_entry_target), and before a chain's first rule the room of its name
_TEST, _NOT_IN_SET = 11, 4103  # IPSET_CMD_TEST, IPSET_ERR_EXIST
_NET_BYTEORDER = 0x4000
_libc = ctypes.CDLL(None, use_errno=True)


class Glances(Closing):
    """The tables and sets of the network namespace that the creating thread is in."""

    def __init__(self) -> None:
        self._netfilter = open_netfilter_socket()
        self._raw: dict[int, socket.socket] = {}
        self._led: dict[tuple[int, str], bytes] = {}

    def close(self) -> None:
        self._netfilter.close()
        for asked in self._raw.values():
            asked.close()
        self._raw = {}

    def leads(self, variant: Variant, version: Literal[4, 6], table: Judging) -> bool:
        """See `Glance.leads`. Of a legacy table that nobody made it makes one, as its programs do: for who laid a wall
        there."""
        if variant == "legacy":
            return self._leads_in_legacy(version, table)
        return all(self._leads_in_nft(version, table, hook) for hook in _PLACES)

    def vouches(self) -> bool:
        """See `Glance.vouches`."""
        replies = self._netfilter.dump(_FRAMES, "read a chain of ebtables")
        return any(b"B9-PREROUTING\0" in reply.body for reply in replies)

    def denies(self, version: Literal[4, 6]) -> bool:
        """See `Glance.denies`."""
        _, refusals = self._netfilter.exchange([_FLOORED[version]], 0, "look into the floor")
        if refusals and refusals[0].errno not in (errno.ENOENT, _NOT_IN_SET):
            raise KernelError(refusals[0].errno, "look into the floor", refusals[0].text)
        return not refusals

    def _leads_in_nft(self, version: int, table: Judging, hook: str) -> bool:
        replies = self._netfilter.dump(_ASKED[version, table, hook], "read a chain of iptables")
        ours = f"B9-{hook}\0".encode()
        return any(ours in reply.body for reply in replies)

    def _leads_in_legacy(self, version: int, table: str) -> bool:
        try:
            info = self._ask(version, _GET_INFO, _INFO.pack(table.encode(), *[0] * 13))
            if self._led.get((version, table)) == info:
                return True
            _, _, *places, _, size = _INFO.unpack(info)
            held = self._ask(version, _GET_ENTRIES, _ENTRIES.pack(table.encode(), size) + bytes(size))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOPROTOOPT):
                return False  # no such table, or no legacy tables at all
            raise KernelError(error.errno or errno.EIO, "read a legacy table") from error
        entries = held[_ENTRIES.size :]
        leads = all(
            f"B9-{hook}".encode() in _led_to(entries, places[place], places[5 + place], _OFFSETS[version])
            for hook, place in _PLACES.items()
        )
        self._led[version, table] = info if leads else b""
        return leads

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


def _led_to(entries: bytes, at: int, end: int, offsets: int) -> Iterator[bytes]:
    """The chains that the rules between two places jump to. A standard target has no name, and a verdict that is the
    place of a chain's first rule, right before which its own name stands."""
    while at < end:
        target, following = struct.unpack_from("=HH", entries, at + offsets)
        verdict = int.from_bytes(entries[at + target + _TARGET : at + target + _TARGET + 4], sys.byteorder, signed=True)
        if not entries[at + target + 2] and verdict >= _TARGET:
            yield entries[verdict - _TARGET : verdict].partition(b"\0")[0]
        at += following


def _request(family: int, table: str, hook: str) -> Message:
    return nft_message(NFT_MSG_GETRULE, family, attribute_text(_TABLE, table) + attribute_text(_CHAIN, hook))


_ASKED = {
    (version, table, hook): _request(family, table, hook)
    for version, family in _FAMILIES.items()
    for table in JUDGING
    for hook in _PLACES
}
_FRAMES = _request(NFPROTO["bridge"], "nat", "PREROUTING")


def _floored(version: Literal[4, 6]) -> Message:
    """Whether an address is in the floor (linux/netfilter/ipset/ip_set.h): of a hash:net, any network that has it."""
    address = attribute((1 if version == 4 else 2) | _NET_BYTEORDER, ALWAYS_DENIED[version].packed)
    head = attribute_u8(1, 6) + attribute_text(2, set_name("floor", version))
    body = head + nested(7, nested(1, address))
    return ipset_message(_TEST, 0, body, family=_FAMILIES[version])


_FLOORED = {4: _floored(4), 6: _floored(6)}
