"""What the iptables backend needs from the outside: the programs of one variant, and the kernel's sets."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from cellwall.lower.xt.endpoints import OwnedEntry
from cellwall.lower.xt.features import XtFeatures
from cellwall.lower.xt.sets import Entry, IpSet
from cellwall.lower.xt.tables import Family, TableName
from cellwall.lower.xt.timeouts import FlowTimeouts

Variant = Literal["nft", "legacy"]


class Tables(Protocol):
    """iptables, ip6tables and ebtables. Every call is for one of the two variants, since the host's own rules and ours
    must be in the same."""

    def variants(self) -> tuple[Variant, ...]:
        """Those that lack nothing; the one with more of the host's own rules comes first, nft where neither has."""

    def installed(self) -> tuple[Variant, ...]:
        """Those whose programs there are, whatever else is missing: enough to take a wall out."""

    def lacking(self, variant: Variant) -> tuple[str, ...]:
        """What of programs, matches, targets and types of sets is missing that no wall can do without, a few words
        each. Leaves nothing behind."""

    def features(self, variant: Variant) -> XtFeatures:
        """What this kernel and these programs have. Leaves nothing behind."""

    def save(self, variant: Variant, family: Family) -> str:
        """What the family's save program prints; "" for ebtables where there is none."""

    def spelled(self, variant: Variant, family: Family, text: str, sets: str, timeouts: Sequence[FlowTimeouts]) -> str:
        """What the save program would print of a text, with the sets of another and these timeouts there; "" where it
        cannot be told. Leaves nothing behind."""

    def order(self) -> tuple[tuple[Family, str], ...]:
        """The tables of iptables-nft and ebtables, those made first at the beginning."""

    def make(self, places: Sequence[tuple[Family, TableName]]) -> None:
        """Make these tables of iptables-nft, without a chain and in this order, in one transaction. Idempotent."""

    def delete(self, family: Family, name: TableName) -> None:
        """Delete a table of iptables-nft and what is in it. Tolerates absence."""

    def restore(self, variant: Variant, family: Family, text: str) -> None:
        """`--noflush --wait`: each COMMIT of the text is all of it or nothing. "" does nothing. KernelError with the
        refused lines (ENOENT where a chain or a set is missing); Unsupported where the program is not installed."""


class Sets(Protocol):
    """ipsets, and the other named things that rules refer to. `schema` gives the set of every name that entries go to;
    the engine sets it to what is in force."""

    schema: Mapping[str, IpSet]

    def restore(self, text: str) -> None:
        """`ipset restore`, line by line: a refusal, KernelError, leaves what came before it."""

    def destroy(self, names: Sequence[str]) -> tuple[str, ...]:
        """Destroy each of these sets; absence is tolerated. Those that a rule goes on referring to stay, and are
        returned."""

    def apply(self, added: Sequence[OwnedEntry], removed: Sequence[OwnedEntry]) -> None:
        """Additions, then deletions, in this order; messages over the long-lived socket. Adding an entry that is there
        replaces its mark. KernelError: ENOENT where a set or an entry to delete is missing, EINVAL where the set is of
        another type; what came before the refused one is done."""

    def entries(self, name: str) -> frozenset[Entry]:
        """The present entries of a set. KernelError ENOENT where it is missing."""

    def definitions(self) -> Mapping[str, str]:
        """Every set of ours (`lower.xt.sets.is_own_set`) by name, with what `lower.xt.sets.definition` says of it."""

    def keep_timeouts(self, rows: Sequence[FlowTimeouts]) -> None:
        """Have these named timeouts of connection tracking, with these times; rules refer to them as to sets."""

    def drop_timeouts(self) -> tuple[str, ...]:
        """Delete all of ours; absence is tolerated. Those that a rule goes on referring to stay, and are returned."""

    def close(self) -> None:
        """Let go of the socket."""
