"""The names of our chains in iptables and ebtables.

A chain is ours by its whole name: who has one that only begins like ours keeps it. So every name that any version of
the program laid stands here, also those that no wall has any more: what an older one left goes with the next `up`.
No wall has another (`own_chain`). Those that tell of denials are named by a digest (`reports`).
"""

import re

from cellwall.errors import Unsupported

_OF_BOTH_DIRECTIONS = (
    "ADMIT",
    "ADMITTED",
    "CLIENT",
    "EGRESS",
    "INGRESS",
    "OPENED",
    "OWN-DENIED",
    "OWN-POLICY",
    "TENANT-DENIED",
    "TENANT-POLICY",
)
_OTHERS = (
    *("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    *("ARP", "ARP-TO", "PORT"),
    *("TENANT", "PIN", "PIN-GROUP", "PIN-ICMP", "PIN-MAC", "PIN-MAC-REST", "PIN-ND", "PINNED", "VOUCH"),
    *("ENDED", "ENDED-GOT", "STRAY", "KEPT-SRC", "KEPT-DST", "CLIENTS-SRC", "CLIENTS-DST"),
    *("TRACKED", "LIVE", "OF-SRC", "OF-DST", "KIN-SRC", "KIN-DST", "OWN", "JUDGED"),
    *("GUARD", "OUTBOUND", "RELATED", "STAMP", "PASS", "DENY", "OTHERS", "PROTOCOL", "LED", "FLOORED"),
    *("DNAT", "MASQUERADE"),
    *("TELL", "TELL-IN", "TELL-OUT", "TELL-PORT"),
)
_FORMER = ("RELATED-O", "RELATED-R", "STAMP-DST", "STAMP-HERE", "STAMP-O", "STAMP-R")

PREFIX = "B9-"
DNAT_CHAIN = PREFIX + "DNAT"
"""What leads to published ports, a rule for each."""
VOUCHING = PREFIX + "PORT"
"""The chain of ebtables through which every frame of a sandbox goes."""
GUARD, DENY = PREFIX + "GUARD", PREFIX + "DENY"
"""The chains that a sandbox's packets to the node meet, and that what was not let through before ends in."""
TOLD_PREFIX, SEEN_PREFIX = PREFIX + "TOLD-", PREFIX + "SEEN-"
_REPORT = re.compile(rf"(?:{TOLD_PREFIX}|{SEEN_PREFIX})[0-9a-f]{{8}}", re.ASCII)
_NAMES = frozenset(
    PREFIX + name for name in (*(f"{name}-{way}" for name in _OF_BOTH_DIRECTIONS for way in "OR"), *_OTHERS, *_FORMER)
)


def hook_chain(hook: str) -> str:
    """The chain of ours that a built-in one leads to before all else, by that one's name."""
    return PREFIX + hook


def own_chain(name: str) -> str:
    """The chain that the wall calls so among its own, by one of the names above. Unsupported for any other one, which
    would be laid and, as nobody's, stay when the wall goes."""
    if PREFIX + name not in _NAMES:
        raise Unsupported(f"no chain of ours is called {name!r}", backend="iptables")
    return PREFIX + name


def is_own_chain(name: str) -> bool:
    """Whether a chain of that name is ours, or was."""
    return name in _NAMES or _REPORT.fullmatch(name) is not None
