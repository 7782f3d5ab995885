"""The kernel's figures: what links passed, what rules counted, how full connection tracking is.

Owns: two sockets of the network namespace it was made in, and how to ask for no more than is wanted: of a thousand
links the statistics alone take 1 ms, whole links seven times that.

Refuses: to remember. Figures begin anew with every link and every rule; who wants totals keeps them.
"""

import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from cellwall.adapters.netlink.nfnetlink import (
    HEADER_SIZE,
    NFPROTO,
    NFT_MSG_GETRULE,
    conntrack_message,
    nft_message,
    open_netfilter_socket,
)
from cellwall.adapters.netlink.nlattr import attribute_text, attributes, each_attribute, text_of
from cellwall.adapters.netlink.rtnetlink import index_of, open_route_socket
from cellwall.adapters.netlink.sockets import Closing, Message, Netlink
from cellwall.adapters.nftables.denials import AT_ONCE, read_denied, read_denied_of
from cellwall.adapters.node.sysctls import ProcSysctls
from cellwall.adapters.tc.traffic_control import dropped
from cellwall.model.figures import Denied, RuleCount, RuleOutcome, Tracked, Traffic
from cellwall.names import TABLE
from cellwall.ruleset.types import TABLE_FAMILIES, TableFamily

_RTM_GETSTATS = 94  # Linux 4.7
_ONLY_LINK_64 = 1
_STATS = struct.Struct("=BBHII")  # if_stats_msg: family, padding, interface, what is asked for
_INDEX = struct.Struct("=4xI")
_FIGURES = struct.Struct("=4Q")  # rtnl_link_stats64: packets received and sent, bytes received and sent
_FIGURES_AT = _STATS.size + 4

# linux/netfilter/nf_tables.h
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_IMMEDIATE_DATA, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 2, 2, 1, 2
_COMMENT = 0  # of libnftables, in the rule's user data: kind, length, text with its zero

_CT_GET, _AF_INET = 1, 2
_TUPLE_LENGTH = struct.Struct("=H")


class Meters(Closing):
    """`engine.figures.Meters` of the network namespace that the creating thread is in."""

    def __init__(self) -> None:
        self._route = open_route_socket()
        self._netfilter = open_netfilter_socket()
        self._sysctls = ProcSysctls()

    def close(self) -> None:
        self._route.close()
        self._netfilter.close()

    def traffic(self) -> dict[int, Traffic]:
        """See `Meters.traffic`."""
        message = Message(_RTM_GETSTATS, 0, _STATS.pack(0, 0, 0, 0, _ONLY_LINK_64), "statistics")
        return dict(_traffic_of(reply.body) for reply in self._route.dump(message, "read what links passed"))

    def traffic_of(self, indices: Sequence[int]) -> dict[int, Traffic]:
        """See `Meters.traffic_of`."""
        if not indices:
            return {}
        if len(indices) > AT_ONCE:
            passed, wanted = self.traffic(), set(indices)
            return {index: figures for index, figures in passed.items() if index in wanted}
        messages = [
            Message(_RTM_GETSTATS, 0, _STATS.pack(0, 0, 0, index, _ONLY_LINK_64), "statistics", (errno.ENODEV,))
            for index in indices
        ]
        return dict(_traffic_of(reply.body) for reply in self._route.transact(messages, "read what links passed"))

    def rules(self) -> tuple[RuleCount, ...]:
        """See `Meters.rules`."""
        return tuple(count for family in TABLE_FAMILIES for count in read_counts(family, self._rules(family)))

    def _rules(self, family: TableFamily) -> list[bytes]:
        asked = nft_message(NFT_MSG_GETRULE, NFPROTO[family], attribute_text(_RULE_TABLE, TABLE))
        return [reply.body for reply in self._netfilter.dump(asked, f"read what {family} rules counted")]

    def denied(self) -> Denied | None:
        """See `Meters.denied`."""
        return read_denied(self._netfilter)

    def denied_of(self, indices: Sequence[int], stems: Sequence[int]) -> Denied:
        """See `Meters.denied_of`."""
        return read_denied_of(self._netfilter, indices, stems)

    def classified(self, bridge: str) -> tuple[int, int] | None:
        """See `Meters.classified`."""
        index = index_of(self._route, bridge)
        found = dropped(self._route, index) if index else None
        return None if found is None else (index, found)

    def tracked(self) -> Tracked | None:
        """See `Meters.tracked`."""
        read = [self._sysctls.read(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max")]
        if None in read:
            return None
        entries, limit = (int(value) for value in read if value is not None)
        return Tracked(entries, limit)

    def flows(self, most: int) -> Mapping[bytes, int] | None:
        """See `Meters.flows`."""
        tracked = self.tracked()
        if tracked is not None and tracked.entries > most:
            return None
        with open_netfilter_socket() as own:  # a dump that is left in the middle is good for closing only
            return _flows(own, most)


def _traffic_of(body: bytes) -> tuple[int, Traffic]:
    """The host end's view, which is the sandbox's with the directions exchanged."""
    (index,) = _INDEX.unpack_from(body)
    received, sent, bytes_received, bytes_sent = _FIGURES.unpack_from(body, _FIGURES_AT)
    return index, Traffic(bytes_received, received, bytes_sent, sent)


class _Rule(msgspec.Struct, frozen=True, gc=False):
    """What a rule counted (None: it does not count), and what it does with a packet or whom it leaves that to."""

    chain: str
    handle: int
    reason: str
    counted: tuple[int, int] | None
    outcome: RuleOutcome
    onward: str


def read_counts(family: TableFamily, bodies: Iterable[bytes]) -> Iterator[RuleCount]:
    """What the rules of one table counted, of those that count and say a reason."""
    rules = [rule for body in bodies if (rule := _read_rule(body)) is not None]
    chains: dict[str, list[_Rule]] = {}
    for rule in rules:
        chains.setdefault(rule.chain, []).append(rule)
    known: dict[str, frozenset[RuleOutcome]] = {}
    for rule in rules:
        if rule.counted is not None and rule.reason:
            place = f"{family} {rule.chain} {rule.handle}"
            yield RuleCount(place, rule.reason, _outcome(rule, chains, known), *rule.counted)


def _outcome(
    rule: _Rule, chains: Mapping[str, Sequence[_Rule]], known: dict[str, frozenset[RuleOutcome]]
) -> RuleOutcome:
    """What becomes of a packet in the end, where other chains are asked; `known` are the chains that were."""
    found = {rule.outcome, *_outcomes(rule.onward, chains, known)}
    return "rejected" if "rejected" in found else "dropped" if "dropped" in found else "passed"


def _outcomes(
    chain: str, chains: Mapping[str, Sequence[_Rule]], known: dict[str, frozenset[RuleOutcome]]
) -> frozenset[RuleOutcome]:
    if chain not in known:
        known[chain] = frozenset()  # no rule leads back to where it came from
        known[chain] = frozenset(_outcome(rule, chains, known) for rule in chains.get(chain, ()))
    return known[chain]


@lru_cache(maxsize=4096)  # most rules have counted nothing since the last look
def _read_rule(body: bytes) -> _Rule | None:
    """None for a rule of another table: a kernel need not tell one table's alone."""
    rule = attributes(body, HEADER_SIZE)
    if text_of(rule[_RULE_TABLE]) != TABLE:
        return None
    counted: tuple[int, int] | None = None
    outcome: RuleOutcome = "passed"
    onward = ""
    for _, expression in each_attribute(rule.get(_RULE_EXPRESSIONS, b"")):
        parts = attributes(expression)
        name = parts[_EXPRESSION_NAME]
        if name == b"counter\0":
            counted = _counted(parts[_EXPRESSION_DATA])
        elif name == b"reject\0":
            outcome = "rejected"
        elif name == b"immediate\0":
            dropped, onward = _verdict(parts[_EXPRESSION_DATA])
            outcome = "dropped" if dropped else outcome
    handle = int.from_bytes(rule[_RULE_HANDLE], "big")
    return _Rule(text_of(rule[_RULE_CHAIN]), handle, _comment(rule.get(_RULE_USERDATA, b"")), counted, outcome, onward)


def _counted(counter: bytes) -> tuple[int, int]:
    found = attributes(counter)
    return int.from_bytes(found[_COUNTER_PACKETS], "big"), int.from_bytes(found[_COUNTER_BYTES], "big")


def _verdict(immediate: bytes) -> tuple[bool, str]:
    """Whether it is a drop, and the chain that it leads to."""
    data = attributes(attributes(immediate).get(_IMMEDIATE_DATA, b""))
    verdict = attributes(data.get(_DATA_VERDICT, b""))
    code = verdict.get(_VERDICT_CODE)
    return code is not None and not any(code), text_of(verdict.get(_VERDICT_CHAIN, b""))  # NF_DROP is 0


def _comment(userdata: bytes) -> str:
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _COMMENT:
            return text_of(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""


def _flows(netfilter: Netlink, most: int) -> dict[bytes, int] | None:
    found: dict[bytes, int] = {}
    replies = netfilter.beginning(conntrack_message(_CT_GET, 0, b""), "count flows", most + 1)
    if len(replies) > most:
        return None
    for reply in replies:
        for address in _ends(reply.body):
            found[address] = found.get(address, 0) + 1
    return found


def _ends(body: bytes) -> Collection[bytes]:
    """The two that a flow is between: who began it, and who answers. The kernel begins an entry with its two tuples,
    each with the addresses first and the source before the destination (ctnetlink_fill_info), so that nothing else of
    it is looked at."""
    size = 4 if body[0] == _AF_INET else 16
    (length,) = _TUPLE_LENGTH.unpack_from(body, HEADER_SIZE)
    first = HEADER_SIZE + 12
    second = HEADER_SIZE + ((length + 3) & ~3) + 12
    return {body[first : first + size], body[second : second + size]}
