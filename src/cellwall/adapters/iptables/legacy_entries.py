"""Rules of a legacy table as the kernel hands them out (linux/netfilter_ipv4/ip_tables.h, struct ipt_entry).

Pure. A standard target has no name and a verdict, of a jump the place of a chain's first rule, right before which the
chain's own name stands. A chain of one's own begins with an entry whose target is named ERROR, and ends with one that
returns.
"""

import struct
import sys
from collections.abc import Collection
from typing import Literal

_PACKET = {4: 84, 6: 136}  # sizeof(struct ipt_ip), and of ip6t_ip6: what a rule asks of addresses and interfaces
_ENTRY = {4: 112, 6: 168}  # sizeof(struct ipt_entry) and ip6t_entry: without a match the target comes right behind
_OFFSETS = {4: 88, 6: 140}  # of target_offset and next_offset in them
_TARGET = 32  # sizeof(struct xt_entry_target), and before a chain's first rule the room of its name
_PLACES = struct.Struct("=HH")


def leads_first(entries: bytes, version: Literal[4, 6], at: int, chain: str) -> bool:
    """Whether the rule at that place leads to this chain, whatever the packet."""
    target, _ = _PLACES.unpack_from(entries, at + _OFFSETS[version])
    if target != _ENTRY[version] or any(entries[at : at + _PACKET[version]]) or _name(entries, at + target):
        return False
    verdict = int.from_bytes(entries[at + target + _TARGET : at + target + _TARGET + 4], sys.byteorder, signed=True)
    return verdict >= _TARGET and entries[verdict - _TARGET : verdict].partition(b"\0")[0] == chain.encode()


def have_rules(entries: bytes, version: Literal[4, 6], chains: Collection[str]) -> bool:
    """Whether each of these chains is there and has a rule beside its return."""
    wanted, at, name, rules = {chain.encode() for chain in chains}, 0, b"", 0
    while at < len(entries) and wanted:
        target, following = _PLACES.unpack_from(entries, at + _OFFSETS[version])
        if _name(entries, at + target) == b"ERROR":
            start = at + target + _TARGET
            name, rules = entries[start : start + _TARGET].partition(b"\0")[0], 0
        else:
            rules += 1
            if rules == 2:
                wanted.discard(name)
        at += following
    return not wanted


def _name(entries: bytes, target: int) -> bytes:
    return entries[target + 2 : target + _TARGET - 1].partition(b"\0")[0]
