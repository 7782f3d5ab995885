"""nftables: the skeleton goes in as text, everything that changes per endpoint as elements over one socket.

Owns: the long-lived nfnetlink socket of the namespace it was made in. `nft -f -` loads a ruleset (once per start or
upgrade: an exec costs 12 ms and more after a deletion, and keeps the GPL-2-only libnftables out of this process);
elements never take that way. Knows the shape of the sets by `schema`, which the engine sets to the ruleset in force.

Where this socket owns our tables, or they outlived an owner, nft only compiles: see `ownership`.

Refuses: to interpret rules. `shape` digests what the kernel holds, which tells that it changed, and not how.

The kernel numbers the states of all tables. A wall that was met in one state is met in it whoever asks again, so each
attach asks for the number alone; and a change of elements is made of that very state, or somebody has been faster, and
it is asked for whole again.
"""

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

from cellwall.adapters.netlink.nfnetlink import generation, open_netfilter_socket, run_batch
from cellwall.adapters.netlink.sockets import Closing, Message, Refusal
from cellwall.adapters.nftables.elements import (
    Pair,
    Schema,
    SetKey,
    ask_for,
    ask_for_address,
    describe,
    lookup_set,
    pack_changes,
    read_listed,
    read_pairs,
)
from cellwall.engine.contracts import PortFlows
from cellwall.errors import KernelError, Unsupported
from cellwall.model.addresses import Prefix
from cellwall.model.floor import ALWAYS_DENIED
from cellwall.ruleset.types import Element, ElementChange, Ruleset, TableFamily

if TYPE_CHECKING:
    from cellwall.engine.nftables.contracts import LiveChain, Met
    from cellwall.ruleset.edits import Edit
    from cellwall.ruleset.elements import Bundle, Change

_CHANGE = "change set elements"


class NftRules(Closing):
    """`engine.nftables.contracts.Rules` of the network namespace that the creating thread is in."""

    def __init__(self, schema: Schema | None = None) -> None:
        self.schema: Schema = schema or {}
        self._netfilter = open_netfilter_socket()
        self._works = False
        self._owning = False
        self._met: tuple[tuple[str, ...], Met] | None = None
        self._met_at: int | None = None
        self.unowned = ""

    def close(self) -> None:
        self._netfilter.close()

    def refusal(self) -> str:
        """See `Rules.refusal`."""
        # What a kernel has, it keeps; to try takes six transactions that it takes back, each after a grace period.
        if not self._works:
            from cellwall.adapters.nftables.text import refusal

            if said := refusal(self._netfilter):
                return said
            self._works = True
        return ""

    def lay(self, edits: "Sequence[Edit]") -> None:
        """See `Rules.lay`. Unsupported where nft is not installed, unless tables only go."""
        from cellwall.adapters.nftables.ownership import ORPHANED, OWNED, lay, outlived
        from cellwall.ruleset.edits import Flush, Remove, render_edits

        # a flush needs no nft to compile anything
        if self._owning or all(isinstance(edit, Flush) for edit in edits) or outlived(self._netfilter):
            lay(self._netfilter, edits, OWNED if self._owning else ORPHANED)
            return
        try:
            self.load(render_edits(edits))
        except Unsupported:
            # Nor does it take nft to remove tables, from Linux 6.3 on (NFT_MSG_DESTROYTABLE): a wall that is another
            # mechanism's by now, or that nobody wants any more, does not stay because a program is gone.
            if not all(isinstance(edit, Flush | Remove) for edit in edits):
                raise
            with suppress(KernelError):
                lay(self._netfilter, edits, ORPHANED)
                return
            raise

    def go_on(self, descriptor: int) -> bool:
        """See `Rules.go_on`."""
        from cellwall.adapters.nftables.ownership import owns, standing

        kept = open_netfilter_socket(descriptor)
        self._netfilter.close()
        self._netfilter, self._met_at = kept, None
        self._owning = bool(standing(kept)) and owns(kept)
        return self._owning

    def own(self, ruleset: Ruleset, descriptor: int | None = None) -> str:
        """See `Rules.own`."""
        from cellwall.adapters.nftables.ownership import take

        if descriptor is not None:
            self.go_on(descriptor)
        self.unowned = take(self._netfilter, ruleset)
        self._owning = not self.unowned
        return self.unowned

    def descriptor(self) -> int:
        """See `Rules.descriptor`."""
        return self._netfilter.fileno()

    def load(self, text: str) -> None:
        """One transaction from text. KernelError with the refused lines; Unsupported where nft is not installed."""
        # Imported here: the hot path starts no program, and subprocess is the larger part of all imports.
        from cellwall.adapters.nftables.text import load_text

        load_text(text)

    def apply(self, changes: "Sequence[Change]", where: "tuple[tuple[str, ...], Met] | None" = None) -> None:
        """See `Rules.apply`."""
        if where is not None and not self.schema:
            raise KernelError(errno.ENOENT, _CHANGE, "no wall is laid")
        packed = pack_changes(changes, self.schema)
        if not packed:
            return
        refusal = self._transact([entry.message for entry in packed], where)
        if refusal is not None:
            culprit = packed[refusal.position].culprit(refusal)
            raise KernelError(refusal.errno, describe(culprit), refusal.text)

    def _transact(self, messages: Sequence[Message], where: "tuple[tuple[str, ...], Met] | None") -> Refusal | None:
        """One transaction, by which the wall is met as it was before. As a rule nobody has changed anything since it
        was met last, which the transaction itself asks: then there is no other question. Who changes tables all the
        time keeps nobody from a change: the third is of any state, and whether the wall stands is asked behind it."""
        known = self._met_at is not None and where in (None, self._met)
        for asks in (False, True) if known else (True,):
            if asks:
                self._refuse_unmet(where)
            if self._met_at is None:
                break
            as_met, refusal = self._transact_at(self._met_at, messages)
            if as_met:
                return refusal
        refusal = run_batch(self._netfilter, messages, _CHANGE)
        if refusal is None:
            self._refuse_unmet(where)
        return refusal

    def _transact_at(self, state: int, messages: Sequence[Message]) -> tuple[bool, Refusal | None]:
        """One transaction of the very state in which the wall was met; False where the tables have another by now:
        then nothing has changed."""
        try:
            refusal = run_batch(self._netfilter, messages, _CHANGE, only_at=state)
        except KernelError as error:
            if error.errno != errno.ERESTART:
                raise
            self._met_at = None
            return False, None
        if refusal is None:
            self._met_at = state + 1
        return True, refusal

    def _refuse_unmet(self, where: "tuple[tuple[str, ...], Met] | None") -> None:
        if where is not None and not self.is_met(*where):
            raise KernelError(errno.ENOENT, _CHANGE, "the wall was flushed")

    def holds(self, elements: Sequence[ElementChange]) -> bool:
        """See `Rules.holds`."""
        if not elements:
            return True
        messages = ask_for(elements, self.schema)
        replies, refusals = self._netfilter.exchange(messages, len(messages) - 1, "look for set elements")
        for refusal in refusals:
            if refusal.errno != errno.ENOENT:
                raise KernelError(refusal.errno, "look for set elements", refusal.text)
        wanted = {((one.family, one.table, one.set), (one.element.key, one.element.data)) for one in elements}
        return not refusals and wanted == {found for reply in replies for found in read_pairs(reply.body, self.schema)}

    def elements(self, family: TableFamily, table: str, set_name: str) -> frozenset[Pair]:
        """See `Rules.elements`. NotFound for a set the schema does not know."""
        where = (family, table, set_name)
        described = lookup_set(where, self.schema)
        from cellwall.adapters.nftables.set_contents import read_set  # here and below, not above: no attach reads a set

        return read_listed(read_set(self._netfilter, where), described)

    def difference(
        self,
        where: SetKey,
        elements: Collection[Element],
        bundles: "Collection[Bundle]" = (),
        *,
        beyond: bool = True,
    ) -> tuple[frozenset[Pair], frozenset[Pair]]:
        """See `Rules.difference`. NotFound for a set the schema does not know."""
        from cellwall.adapters.nftables.set_contents import difference, read_set

        described = lookup_set(where, self.schema)
        return difference(read_set(self._netfilter, where), elements, bundles, described, beyond=beyond)

    def shape(self) -> str:
        """See `Rules.shape`."""
        from cellwall.adapters.nftables.shape import digest

        return digest(self._netfilter)

    def is_kept(self) -> bool:
        """See `Rules.is_kept`."""
        return not self._owning or self.is_owned()

    def is_owned(self) -> bool:
        """See `Rules.is_owned`."""
        if not self._owning:
            return False
        from cellwall.adapters.nftables.ownership import owns

        return owns(self._netfilter)

    def differences(self, wanted: str) -> tuple[str, ...]:
        """See `Rules.differences`."""
        from cellwall.adapters.nftables.differences import differences

        static = frozenset(name for (_, _, name), named in self.schema.items() if named.static)
        return differences(wanted, static=static)

    def stands(self, table: str) -> bool:
        """See `Rules.stands`."""
        from cellwall.adapters.nftables.shape import stands

        return stands(self._netfilter, table)

    def is_met(self, tables: Iterable[str], met: "Met") -> bool:
        """See `Rules.is_met`."""
        asked = (tuple(tables), met)
        state = generation(self._netfilter)
        if (self._met_at, self._met) == (state, asked):
            return True
        from cellwall.adapters.nftables.chains import is_met

        found = any(is_met(self._netfilter, table, met, _floor_of(table)) for table in asked[0])
        self._met, self._met_at = asked, state if found else None
        return found

    def chains(self, family: TableFamily, table: str) -> "Mapping[str, LiveChain]":
        """See `Rules.chains`."""
        from cellwall.adapters.nftables.chains import chains

        return chains(self._netfilter, family, table)

    def generation(self) -> int:
        """See `Rules.generation`."""
        return generation(self._netfilter)

    def drop_all(self, places: Sequence[tuple[TableFamily, str, str]], seen: int) -> bool:
        """See `Rules.drop_all`."""
        from cellwall.adapters.nftables.chains import drop_all

        return drop_all(self._netfilter, places, seen)

    def purge_flows(self, versions: Iterable[int]) -> None:
        """See `Rules.purge_flows`."""
        # Imported here: one operation in many has flows to purge.
        from cellwall.adapters.conntrack.flows import purge_flows

        purge_flows(self._netfilter, versions)

    def end_flows(self, flows: Sequence[PortFlows]) -> None:
        """See `Rules.end_flows`."""
        # here and not above: most attaches publish nothing
        from cellwall.adapters.conntrack.port_flows import end_flows

        end_flows(self._netfilter, flows)

    def end_stamped_flows(self, stamp: tuple[int, int], networks: Sequence[Prefix], keep: Collection[int]) -> None:
        """See `Rules.end_stamped_flows`."""
        # here and not above: who lays a first wall needs it
        from cellwall.adapters.conntrack.stamped_flows import end_stamped_flows

        end_stamped_flows(self._netfilter, stamp, networks, keep)


@lru_cache(maxsize=2)
def _floor_of(table: str) -> tuple[Message, ...]:
    return tuple(ask_for_address(("inet", table, f"floor{version}"), ALWAYS_DENIED[version]) for version in (4, 6))
