"""The grammars of everything that users name. Parsed once at the edge; never quoted into rules or command lines.

The kernel accepts interface names with quotes, semicolons and asterisks, and a newline in an nft comment starts a
new rule: what is not on these lists is refused, not escaped.
"""

import re

from cellwall.errors import InvalidSpec

# CNI's grammar (CNI specification 1.1.0, "Parameters"): an alphanumeric, then alphanumerics and . _ -
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,252}", re.ASCII)
_TENANT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:/\-]{0,127}", re.ASCII)
_LINK = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.\-]{0,14}", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-]{0,31}", re.ASCII)


def parse_container_id(value: str, field: str = "container id") -> str:
    """1 to 253 characters of CNI's id grammar."""
    return _matched(_CONTAINER_ID, value, field, "1 to 253 letters, digits, '.', '_', '-', first a letter or digit")


def parse_tenant(value: str, field: str = "tenant") -> str:
    """1 to 128 characters: letters, digits and . _ : / -"""
    return _matched(_TENANT, value, field, "1 to 128 letters, digits, '.', '_', ':', '/', '-'")


def parse_link_name(value: str, field: str = "interface") -> str:
    """An interface name of at most 15 characters (IFNAMSIZ less its zero) that needs no quoting anywhere."""
    return _matched(_LINK, value, field, "1 to 15 letters, digits, '_', '.', '-', first a letter, a digit or '_'")


def parse_label(value: str, field: str) -> str:
    """The name of an exception or a node service."""
    return _matched(_LABEL, value, field, "1 to 32 letters, digits, '_', '-', first a letter")


def _matched(grammar: re.Pattern[str], value: object, field: str, wanted: str) -> str:
    if not isinstance(value, str) or grammar.fullmatch(value) is None:
        raise InvalidSpec(field, value, f"must be {wanted}")
    return value
