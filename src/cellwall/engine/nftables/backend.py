"""`engine.backend.Backend` over nftables.

Hot path: an attach or a detach is one element transaction. What needs the compiler, or looks at all sets, is imported
where that happens: a container runtime starts a process for each attach.
"""

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cellwall.engine.backend import BackendName, Holder, Laid, Laying, Settled, Shut, Wanted
from cellwall.errors import KernelError
from cellwall.lower.nft.elements import Listed, Owned, changes, differing_content, endpoint_content
from cellwall.lower.nft.sets import schema_of
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings
from cellwall.names import MET, SPARE_TABLE, TABLE

if TYPE_CHECKING:
    from cellwall.engine.nftables.contracts import Rules


class NftablesBackend:
    """The tables named `cellwall` of one network namespace. Holds nothing but the adapter."""

    __slots__ = ("_rules",)
    name: BackendName = "nftables"

    def __init__(self, rules: "Rules") -> None:
        self._rules = rules

    def refusal(self, settings: Settings) -> str:
        """See `Backend.refusal`."""
        return self._rules.refusal()

    def holder(self, laid: Laid) -> Holder:
        """See `Backend.holder`."""
        return Holder(self.name)

    def marks_frames(self, laid: Laid) -> bool:
        """See `Backend.marks_frames`."""
        return True

    def carries_ipv6(self, facts: NodeFacts, laid: Laid) -> bool:
        """See `Backend.carries_ipv6`."""
        return facts.features.ipv6_nat

    def plan(self, wanted: Wanted, attached: Sequence[Endpoint], before: Laid | None) -> Laying | None:
        """See `Backend.plan`."""
        from cellwall.engine.nftables.laying import plan

        self._rules.schema = schema_of(wanted.usage)
        return plan(self._rules, wanted, attached, before)

    def take(self, settings: Settings, laid: Laid) -> None:
        """See `Backend.take`."""
        self._rules.schema = schema_of(laid.usage)

    def take_remains(self) -> None:
        """See `Backend.take_remains`: a copy of our tables."""
        from cellwall.engine.nftables.copies import include_copy

        include_copy(self._rules)

    def shape(self) -> str:
        """See `Backend.shape`."""
        return self._rules.shape()

    def is_kept(self) -> bool:
        """See `Backend.is_kept`."""
        return self._rules.is_kept()

    def is_owned(self) -> bool:
        """See `Backend.is_owned`."""
        return self._rules.is_owned()

    def stands(self) -> bool:
        """See `Backend.stands`. A copy of our tables is a wall as well."""
        return self._rules.is_met(self._tables(), MET)

    def is_entire(self) -> bool:
        """See `Backend.is_entire`: `stands` asks about a chain of each hook that judges."""
        return self.stands()

    def close_unjudged(
        self, laid: Laid, *, ours: bool = True, settled: Settled | None = None, shut: Shut | None = None
    ) -> bool:
        """See `Backend.close_unjudged`."""
        from cellwall.engine.nftables.remnants import close_unjudged

        return close_unjudged(self._rules, ours=ours, settled=settled, shut=shut)

    def differences(self, wanted: Wanted) -> tuple[str, ...]:
        """See `Backend.differences`."""
        from cellwall.engine.nftables.laying import differences

        return differences(self._rules, wanted)

    def remove(self, wanted: Wanted, *, beside: bool = False) -> None:
        """See `Backend.remove`."""
        from cellwall.engine.nftables.laying import remove

        remove(self._rules, wanted, beside=beside)

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """See `Backend.change`."""
        gone, come = _differing(before, after)
        try:
            self._exchange(gone, come)
        except KernelError as error:
            if error.errno != errno.EEXIST or not before:
                raise
            from cellwall.engine.nftables.live import told_already

            told = told_already(self._rules, before, after)
            if not told:
                raise
            self._exchange([*told, *gone], come)

    def _exchange(self, gone: "Sequence[Owned | Listed]", come: "Sequence[Owned | Listed]") -> None:
        difference = (*changes("delete", gone), *changes("add", come))
        if self._copies():
            from cellwall.engine.nftables.copies import in_every_table

            difference = in_every_table(self._rules, difference)
        self._rules.apply(difference, (self._tables(), MET) if come else None)

    def _tables(self) -> tuple[str, ...]:
        return (TABLE, SPARE_TABLE) if self._copies() else (TABLE,)

    def _copies(self) -> bool:
        """The copy of our tables is included in what is changed."""
        return ("inet", SPARE_TABLE, "live") in self._rules.schema

    def drift(self, attached: Sequence[Endpoint]) -> tuple[str, ...]:
        """See `Backend.drift`."""
        from cellwall.engine.nftables.live import drift

        return drift(self._rules, attached)

    def missing(self, endpoints: Sequence[Endpoint], former: Sequence[Endpoint] = ()) -> tuple[str, ...]:
        """See `Backend.missing`."""
        from cellwall.engine.nftables.live import missing

        return missing(self._rules, endpoints, former)

    def repair(self, attached: Sequence[Endpoint], *, rules: bool = True) -> tuple[str, ...]:
        """See `Backend.repair`: no endpoint has a rule."""
        from cellwall.engine.nftables.live import repair

        return repair(self._rules, attached, opens=self.stands())


def _differing(
    before: Sequence[Endpoint], after: Sequence[Endpoint]
) -> "tuple[list[Owned | Listed], list[Owned | Listed]]":
    """What goes and what comes. Of two sides each takes the place of one, and no two have an element in common:
    ValueError where they are not as many."""
    if not (before and after):
        gone, come = ([one for endpoint in side for one in endpoint_content(endpoint)] for side in (before, after))
        return gone, come
    pairs = [differing_content(one, other) for one, other in zip(before, after, strict=True)]
    return [one for gone, _ in pairs for one in gone], [one for _, come in pairs for one in come]
