"""Reading what other programs told the kernel: their rules, and routing rules that ask for marks.

By the programs that made them, as text: off the hot path, and as an operator would look at it. What cannot be read is
left out.
"""

import msgspec

from cellwall import names
from cellwall.adapters import process
from cellwall.doctor.foreign import parse_nft, parse_xtables
from cellwall.doctor.observation import Chain, FlowTable, MarkRoute
from cellwall.errors import CellwallError

_OURS = frozenset({names.TABLE, names.SPARE_TABLE})


class _RoutingRule(msgspec.Struct):
    """One rule as `ip -j rule` tells it."""

    priority: int = 0
    fwmark: str = ""
    fwmask: str = "0xffffffff"
    table: str = ""
    iif: str = ""


def read_foreign(legacy: tuple[str, ...]) -> tuple[tuple[Chain, ...], tuple[FlowTable, ...]]:
    """All chains and flow tables that are not cellwall's. Of iptables-legacy where it has tables, so that looking at
    them loads none."""
    chains, flow_tables = parse_nft(_said("nft", "--stateless", "list", "ruleset"), ours=_OURS)
    if legacy:
        chains += parse_xtables(_said("iptables-legacy-save"), "ip")
        chains += parse_xtables(_said("ip6tables-legacy-save"), "ip6")
    return chains, flow_tables


def read_mark_routes() -> tuple[MarkRoute, ...]:
    """The routing rules of both families that ask for bits of the packet mark."""
    found: dict[MarkRoute, None] = {}
    for family in ("-4", "-6"):
        try:
            rules = msgspec.json.decode(_said("ip", "-j", family, "rule") or "[]", type=list[_RoutingRule])
        except msgspec.DecodeError:
            continue
        for rule in rules:
            if rule.fwmark:
                text = f"{rule.priority}: fwmark {rule.fwmark}/{rule.fwmask} lookup {rule.table}"
                found[MarkRoute(int(rule.fwmark, 16), int(rule.fwmask, 16), text)] = None
    return tuple(found)


def _said(*argv: str) -> str:
    try:
        return process.run(list(argv), timeout=20).text
    except CellwallError:
        return ""
