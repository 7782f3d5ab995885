"""What one transaction makes of our tables: their end, their replacement, their rules anew or none. Pure values.

Whoever carries them out chooses the way: `render_edits` is the text for `nft -f -`.
"""

from collections.abc import Sequence

import msgspec

from cellwall.ruleset.render import render_flush, render_refresh, render_removal, render_replacement
from cellwall.ruleset.types import Ruleset


class Remove(msgspec.Struct, frozen=True, tag=True):
    """None of these tables is left, whether or not they existed; what is in them does not matter."""

    ruleset: Ruleset


class Replace(msgspec.Struct, frozen=True, tag=True):
    """These tables as given, whatever they were before."""

    ruleset: Ruleset


class Refresh(msgspec.Struct, frozen=True, tag=True):
    """The rules as given, sets and their elements kept (`render_refresh`)."""

    ruleset: Ruleset


class Flush(msgspec.Struct, frozen=True, tag=True):
    """No rule in these tables, whatever rules they have; chains and sets stay. Every packet passes them then."""

    ruleset: Ruleset


Edit = Remove | Replace | Refresh | Flush


def render_edits(edits: Sequence[Edit]) -> str:
    """The edits one after the other, as text."""
    return "\n".join(_render(edit) for edit in edits)


def _render(edit: Edit) -> str:
    match edit:
        case Remove(ruleset):
            return render_removal(ruleset)
        case Replace(ruleset):
            return render_replacement(ruleset)
        case Refresh(ruleset):
            return render_refresh(ruleset)
        case Flush(ruleset):
            return render_flush(ruleset)
