"""Which forms of exposure and of policies the rules are laid for.

Those in need, and those that came into use before: to take the sets of a form away replaces whole tables, so a form
outlives its last user. But each form of a policy is a rule that new flows walk, of whoever is under one, and who may
set policies can invent thousands. So few are kept that nobody needs, and there is an end to those that somebody does.
"""

from collections.abc import Iterable

import msgspec

from cellwall.compile.usage import PolicyForm, Usage
from cellwall.engine.site import Foundation
from cellwall.errors import Exhausted
from cellwall.model.settings import Settings

KEPT_UNUSED = 64
"""Forms of policies that are kept although nobody needs them."""

MAX_FORMS = 512
"""Forms of policies of one node: a new flow walks at most so many look-ups."""


MEMBERS_FORMS = MAX_FORMS - MAX_FORMS // 4 - KEPT_UNUSED
"""Of these, what policies may need by which somebody who is not root asks for more: the last quarter is root's, and
what is laid and unused may come into use without anybody's asking."""


def forms_to_lay(needed: Usage, before: Foundation | None, settings: Settings) -> Usage:
    """`needed` and what was laid `before`. Of a wall that another mechanism held nothing is kept: it may have had words
    for what this one has none for. Exhausted where policies need too many."""
    refuse_too_many(needed.policies.forms)
    if before is None or settings.backend not in ("auto", before.backend):
        return needed
    unused = set(before.usage.policies.forms).difference(needed.policies.forms)
    # Laid ones come into use without another look, and then an `up` must not be refused for them.
    if len(unused) <= min(KEPT_UNUSED, MAX_FORMS - len(needed.policies.forms)):
        return needed.union(before.usage)
    return needed.union(msgspec.structs.replace(before.usage, policies=needed.policies))


def refuse_too_many(forms: Iterable[PolicyForm], most: int = MAX_FORMS) -> None:
    """Raise Exhausted for more forms than new flows may be asked to walk, or than who asks has a share of."""
    if (count := len(set(forms))) > most:
        what = "lengths of prefixes, with or without a protocol, and blocks of ports"
        whose = "a node has" if most == MAX_FORMS else "who is not root may have a node need"
        raise Exhausted(f"policies: need {count} forms of rules; {whose} {most} ({what})")
