"""What may stand in nft text as a name, an interface or a comment.

nft has no way to escape text: a quote or a newline in a comment is the start of a new statement, and a name
that is one of nft's own words is a syntax error. So nothing is ever quoted away here; what is not plainly
safe is refused with `InvalidSpec`, whoever made it up.
"""

import re
from typing import Final

from cellwall.errors import InvalidSpec

MAX_NAME: Final = 128
MAX_COMMENT: Final = 128
"""NFT_USERDATA_MAXLEN is 256, of which libnftables gives a comment 128 characters."""
MAX_PREFIX: Final = 127
"""NF_LOG_PREFIXLEN is 128, with the zero at its end."""
_IFNAMSIZ: Final = 16

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_IFNAME = re.compile(r"[A-Za-z0-9_.:@+=~^-]+\*?")

# The words of nft's grammar that cannot name a table, chain or set: each was tried with nft 1.1.3. Which words
# its scanner reserves where differs between versions, so a few are here that only others refuse.
_GRAMMAR: Final = """
    accept add ah all and arp auto-merge bridge cgroup chain comment comp constant continue counter cpu
    create ct day dccp define delete describe destroy device devices dnat drop dst dup dynamic ecn
    element elements eq esp ether exists expires export exthdr fib flags flow flowtable flush frag fwd
    gc-interval ge geneve get goto gre gretap gt handle hbh hook hour ibriport ibrname icmp icmpv6 iif
    iifgroup iifname iiftype import include index inet insert interval ip ip6 ipsec jhash jump last le
    limit list log lshift lt map mark masquerade meta meter mh missing monitor ne netdev nftrace not
    notrack numgen obriport obrname oif oifgroup oifname oiftype or osf policy position priority queue
    quota random redefine redirect reject rename replace reset return rshift rt rt0 rt2 rtclassid rule
    ruleset sctp secmark set size skgid skuid snat socket srh symhash synproxy table tcp th time timeout
    tproxy type typeof udp udplite undefine update vlan vmap vni vxlan xor xt
"""
_RESERVED: Final = frozenset(_GRAMMAR.split())


def check_name(kind: str, name: str) -> str:
    """`name`, if it may name a table, chain, set or map; `kind` is what the error calls it."""
    if not _NAME.fullmatch(name):
        raise InvalidSpec(kind, name, "must be letters, digits, '_', '.', '-', and not begin with a digit")
    if len(name) > MAX_NAME:
        raise InvalidSpec(kind, name, f"longer than {MAX_NAME} characters")
    if name in _RESERVED:
        raise InvalidSpec(kind, name, "is a word of the nft language")
    return name


def check_ifname(name: str) -> str:
    """`name`, if it may stand between quotes as an interface name; one `*` at its end makes it a prefix.

    The kernel itself accepts far more: quotes, semicolons and asterisks are legal in an interface name.
    """
    if not _IFNAME.fullmatch(name):
        raise InvalidSpec("interface", name, "has a character that a rule cannot carry safely")
    if len(name.removesuffix("*")) >= _IFNAMSIZ:
        raise InvalidSpec("interface", name, f"longer than {_IFNAMSIZ - 1} characters")
    return name


def check_comment(text: str) -> str:
    """`text`, if it may stand between quotes as a comment."""
    return _quotable("comment", text, MAX_COMMENT)


def check_prefix(text: str) -> str:
    """`text`, if it may stand between quotes as the prefix of what is logged."""
    if "$" in text:  # nft would put a variable there
        raise InvalidSpec("log prefix", text, "must not have a dollar sign")
    return _quotable("log prefix", text, MAX_PREFIX)


def _quotable(kind: str, text: str, longest: int) -> str:
    if len(text) > longest:
        raise InvalidSpec(kind, text, f"longer than {longest} characters")
    if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
        raise InvalidSpec(kind, text, "must be printable ASCII without quotes and backslashes")
    return text
