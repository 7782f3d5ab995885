"""What the nftables backend needs of the kernel: transactions, what is live of our tables, and whose they are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from cellwall.engine.contracts import Flows
from cellwall.ruleset.edits import Edit
from cellwall.ruleset.elements import Bundle, Change
from cellwall.ruleset.types import Element, ElementChange, Hook, KeyPart, NamedSet, Ruleset, Scalar, TableFamily

Met = Mapping[tuple[Literal["inet", "bridge"], str], int]
"""`names.MET`."""


class LiveChain(msgspec.Struct, frozen=True):
    """A chain as the kernel has it: how many rules, and where a base chain is met."""

    rules: int
    hook: Hook | None = None


class Rules(Flows, Protocol):
    """nftables. `schema` gives the definition of every set that elements go to: what is in force, set by the engine.
    `unowned`: why our tables have no owner, where they were to have one."""

    schema: Mapping[tuple[TableFamily, str, str], NamedSet]
    unowned: str

    def refusal(self) -> str:
        """What is missing of nftables on this host, "" where nothing is."""

    def lay(self, edits: Sequence[Edit]) -> None:
        """One transaction of edits of our tables. KernelError with what was refused, Conflict where another program
        owns them; then nothing has changed."""

    def go_on(self, descriptor: int) -> bool:
        """Write by the socket of an owner before, from now on, which becomes this one's; KernelError where it is none.
        Whether it owns tables of ours."""

    def own(self, ruleset: Ruleset, descriptor: int | None = None) -> str:
        """From now on nobody else writes our tables, as long as the socket lives that this one has: those that a former
        owner left are adopted, others are not `is_kept` until they are laid anew. "" where it is so, else why it cannot
        be, which `unowned` tells from then on; nothing has changed then. `ruleset`: what would be laid, to try it.
        `descriptor`: `go_on` first. Idempotent."""

    def is_kept(self) -> bool:
        """Whether all tables of ours that stand are this one's alone to write, where it is to own them."""

    def is_owned(self) -> bool:
        """Whether it owns all tables of ours that stand, so that nobody else can write them."""

    def descriptor(self) -> int:
        """The socket's, for who keeps it alive beyond this process: the tables' owner is the socket."""

    def apply(self, changes: Sequence[Change], where: tuple[tuple[str, ...], Met] | None = None) -> None:
        """One transaction of element changes over the long-lived socket. Adding an element that exists and deleting
        one that is absent raise KernelError (EEXIST, ENOENT) and change nothing. A missing table: ENOENT, and so where
        the wall `is_met` in none of the tables that `where` names, with what is met there."""

    def holds(self, elements: Sequence[ElementChange]) -> bool:
        """Whether all of these additions are live, with this data. For few, hundreds, and none with a range in its key:
        each is asked for by its key. A missing table or set: False."""

    def elements(
        self, family: TableFamily, table: str, set_name: str
    ) -> frozenset[tuple[tuple[KeyPart, ...], tuple[Scalar, ...]]]:
        """The present (key, data) pairs of a set, as typed values."""

    def difference(
        self,
        where: tuple[TableFamily, str, str],
        elements: Collection[Element],
        bundles: Collection[Bundle] = (),
        *,
        beyond: bool = True,
    ) -> tuple[
        frozenset[tuple[tuple[KeyPart, ...], tuple[Scalar, ...]]],
        frozenset[tuple[tuple[KeyPart, ...], tuple[Scalar, ...]]],
    ]:
        """Of the set (family, table, name) the (key, data) pairs that should be in it and are not, and those that are
        and should not: none without `beyond`. Values are made of what differs alone."""

    def shape(self) -> str:
        """A digest of our tables without their elements, or "" where one is missing: equal digests, equal rules."""

    def differences(self, wanted: str) -> tuple[str, ...]:
        """What our live tables have otherwise than this text would make them, elements of endpoints left out: a line
        each; nothing where nft cannot tell. Two programs run: not for the hot path."""

    def stands(self, table: str) -> bool:
        """Whether the tables of that name are there with rules: a load leaves all of them or none."""

    def is_met(self, tables: Iterable[str], met: Met) -> bool:
        """Whether one of these tables is awake and has a floor that is filled, in both families, rules in each of
        these chains, and a hook for those of them that no rule leads to; for the others, how many do. Microseconds."""

    def chains(self, family: TableFamily, table: str) -> Mapping[str, LiveChain]:
        """The chains of a table by name, but for such as have no rule and that none leads to; nothing where the table
        is missing or asleep. Milliseconds."""

    def generation(self) -> int:
        """Which state of all tables of nftables it is: every change by anybody gives another number."""

    def drop_all(self, places: Sequence[tuple[TableFamily, str, str]], seen: int) -> bool:
        """Instead of what they have, these chains (family, table, chain) drop everything: one small transaction, of the
        generation that was `seen` or not at all. False where it is another by now."""
