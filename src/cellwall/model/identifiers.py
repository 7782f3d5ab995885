"""The grammars of everything that users name. Parsed once at the edge; never quoted into rules or command lines.

The kernel accepts interface names with quotes, semicolons and asterisks, and a newline in an nft comment starts a
new rule: what is not on these lists is refused, not escaped.
"""

from cellwall.errors import InvalidSpec

# Sets and no regular expressions: to import re and to compile four of them is a tenth of what a plugin's process does.
_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALPHANUMERIC = _LETTERS | _DIGITS
_IN_NAMES = _ALPHANUMERIC | frozenset("_.-")
_IN_TENANTS = _IN_NAMES | frozenset(":/")
_BEGINS_LINKS, _IN_LABELS = _ALPHANUMERIC | {"_"}, _ALPHANUMERIC | frozenset("_-")


def parse_container_id(value: str, field: str = "container id") -> str:
    """1 to 253 characters of CNI's id grammar (CNI specification 1.1.0, "Parameters")."""
    wanted = "1 to 253 letters, digits, '.', '_', '-', first a letter or digit"
    return _parsed(value, field, wanted, longest=253, first=_ALPHANUMERIC, others=_IN_NAMES)


def parse_tenant(value: str, field: str = "tenant") -> str:
    """1 to 128 characters: letters, digits and . _ : / -, the first a letter or a digit"""
    wanted = "1 to 128 letters, digits, '.', '_', ':', '/', '-', first a letter or digit"
    return _parsed(value, field, wanted, longest=128, first=_ALPHANUMERIC, others=_IN_TENANTS)


def parse_link_name(value: str, field: str = "interface") -> str:
    """An interface name of at most 15 characters (IFNAMSIZ less its zero) that needs no quoting anywhere, and that the
    kernel keeps no settings of all interfaces under (net/ipv4/devinet.c, `inetdev_valid_name`)."""
    if value in ("all", "default"):
        raise InvalidSpec(field, value, "is no name that an interface may have")
    wanted = "1 to 15 letters, digits, '_', '.', '-', first a letter, a digit or '_'"
    return _parsed(value, field, wanted, longest=15, first=_BEGINS_LINKS, others=_IN_NAMES)


def parse_label(value: str, field: str) -> str:
    """The name of an exception or a node service."""
    wanted = "1 to 32 letters, digits, '_', '-', first a letter"
    return _parsed(value, field, wanted, longest=32, first=_LETTERS, others=_IN_LABELS)


def _parsed(
    value: object, field: str, wanted: str, *, longest: int, first: frozenset[str], others: frozenset[str]
) -> str:
    if isinstance(value, str) and 0 < len(value) <= longest and value[0] in first and others.issuperset(value):
        return value
    raise InvalidSpec(field, value, f"must be {wanted}")
