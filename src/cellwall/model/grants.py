"""What the members of a group may ask of the daemon: some verbs, for some tenants.

Nothing that is the node's can be granted: the floor, its exceptions, what holds the wall, `up` and `down`, nor the
node's state, whose lines name everybody's containers. These stay root's.
"""

from typing import Literal, get_args

import msgspec

from cellwall.errors import InvalidSpec
from cellwall.model.identifiers import parse_tenant

GrantedVerb = Literal["list", "attach", "detach", "expose", "check", "log", "policy", "metrics"]
VERBS: frozenset[GrantedVerb] = frozenset(get_args(GrantedVerb))

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_FORM = "must be GROUP VERB[,VERB…] TENANT[,TENANT…]"


class Grant(msgspec.Struct, frozen=True):
    """`group`: a name, or a number as text. `tenants`: names, and beginnings of names with a * behind them."""

    group: str
    verbs: frozenset[GrantedVerb]
    tenants: tuple[str, ...]

    def covers(self, tenant: str) -> bool:
        """Whether this tenant is one of them. A container of no tenant, whose is empty, is root's alone."""
        return bool(tenant) and any(
            tenant.startswith(name[:-1]) if name.endswith("*") else tenant == name for name in self.tenants
        )

    def __str__(self) -> str:
        return f"{self.group} {','.join(sorted(self.verbs))} {','.join(self.tenants)}"


def parse_grant(text: str, field: str) -> Grant:
    """What one item of `daemon.allow` says; InvalidSpec names the part that is wrong."""
    words = text.split()
    if len(words) != 3:
        raise InvalidSpec(field, text, _FORM)
    group, verbs, tenants = words
    known: set[GrantedVerb] = set()
    for verb in verbs.split(","):
        if verb not in VERBS:
            raise InvalidSpec(field, text, f"{verb!r} is none of {', '.join(sorted(VERBS))}")
        known.add(verb)
    if "metrics" in known and tenants != "*":
        raise InvalidSpec(field, text, "metrics tell of all tenants, and are granted for * alone")
    return Grant(
        parse_group(group, field), frozenset(known), tuple(_tenant(name, field) for name in tenants.split(","))
    )


def parse_group(text: str, field: str) -> str:
    """The name of a group, or its number."""
    if 0 < len(text) <= 32 and _NAME.issuperset(text) and not text.startswith("-"):
        return text
    raise InvalidSpec(field, text, "must be the name or the number of a group")


def _tenant(name: str, field: str) -> str:
    beginning = name.removesuffix("*")
    if beginning or not name:
        parse_tenant(beginning, field)
    return name
