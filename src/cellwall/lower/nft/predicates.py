"""Each predicate as nft matches. A predicate that is not here raises Unsupported: nothing is ever left out.

The tables say of each predicate how it is lowered and in which address families it has a form of its own.
"""

from cellwall.compile import predicates as when
from cellwall.compile import wall as w
from cellwall.errors import Unsupported
from cellwall.lower.nft.families import Family
from cellwall.lower.nft.flows import FLOWS
from cellwall.lower.nft.forms import Form, Forms, Lowered
from cellwall.lower.nft.frames import FRAMES
from cellwall.lower.nft.packets import PACKETS
from cellwall.lower.nft.policies import POLICIES

_FORMS: Forms = {**FRAMES, **PACKETS, **FLOWS, **POLICIES}


def lower_predicate(predicate: when.Predicate, scene: w.Scene, family: Family) -> tuple[Lowered, ...]:
    """The alternatives, each a conjunction of matches, that together mean `predicate` in one family."""
    return _form_of(predicate).lower(predicate, scene, family)


def families_of(predicate: when.Predicate) -> frozenset[int]:
    """The address families that a predicate has separate forms for; empty: one form for both."""
    return _form_of(predicate).families(predicate)


def _form_of(predicate: when.Predicate) -> Form:
    form = _FORMS.get(type(predicate))
    if form is None:
        name = type(predicate).__name__
        raise Unsupported(f"no nft form of {name}", predicate=name, backend="nftables")
    return form
