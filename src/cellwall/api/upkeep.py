"""The verbs of who keeps a node for long: a daemon, or a watch, which look, close, repair, own and count."""

from typing import TYPE_CHECKING

from cellwall.api.opened import Opened
from cellwall.errors import CellwallError

if TYPE_CHECKING:
    from cellwall.engine.figures import Ledger, Meters, NodeCount
    from cellwall.engine.record import Audience
    from cellwall.model.endpoint import Endpoint
    from cellwall.model.figures import TrafficReport


class UpkeepVerbs(Opened):
    """What `Wall` does for whom it is open for long. All go by the settings in force, whatever is configured by now."""

    def resume(self) -> tuple[str, ...]:
        """Take over what an earlier daemon left: finish or undo what it had begun, lay the rules anew where another
        version of the program laid them or the node changed, and repair what differs; what that was, a line each. By
        the settings in force. Nothing on a node that is not up. Idempotent."""
        from cellwall.engine.repair.reconcile import resume

        with self._caller.turn():
            if self._site.foundation() is None:
                return ()
            self._caller.take_those_to_open_by()
            return resume(self._site)

    def holds(self) -> bool:
        """Whether live is what is desired, for who asks over and over: without the lock, for which attaches would wait.
        What is changing meanwhile makes it False, and a flush at once."""
        from cellwall.engine.repair.reconcile import drift_while_entire

        with self._caller.mutex:
            try:
                found, site = self._caller.take_as_laid(), self._site
                right = found is None or (
                    site.current() is not None and not any(step.drift for step in drift_while_entire(site, found))
                )
                return right and self._site.journal.in_place()
            except (CellwallError, OSError):  # a table that somebody replaces is missing for a moment
                return False

    def node_holds(self) -> bool:
        """The same of the node's part alone, which is all that damage can be of: the rules, the node's own sets, the
        bridge and its latch. It takes as long however many endpoints there are, and whatever their policies."""
        from cellwall.engine.repair.drift import seen_drift

        with self._caller.mutex:
            try:
                found = self._caller.take_as_laid()
                right = found is None or (self._site.current() is not None and not seen_drift(self._site, found))
                return right and self._site.journal.in_place()
            except (CellwallError, OSError):
                return False

    def stands(self) -> bool:
        """Whether what a flush takes away is there: milliseconds, and without the lock. True on a node that is not up,
        and where it cannot be told now."""
        with self._caller.mutex:
            try:
                return self._caller.take_as_laid() is None or self._site.backend.is_entire()
            except (CellwallError, OSError):
                return True

    def repair(self, *, unseen: bool = False, patience: float | None = None) -> tuple[str, ...]:
        """Repair the difference between live and desired, by the settings in force, whatever is configured by now; what
        it was, a line each. Nothing on a node that is not up. `unseen`: damage was seen, without a comparison first.
        `patience`: for how many seconds to wait for another writer, which is then Unavailable
        (`adapters.record.lock.Held`). Dismissed where another version of the program laid the wall, or cellwall was
        uninstalled."""
        from cellwall.engine.repair.reconcile import repair

        with self._caller.turn(patience):
            found = self._caller.take_as_laid()
            return () if found is None else repair(self._site, found, unseen=unseen)

    def close_unjudged(self) -> bool:
        """Where somebody took away what judges packets, and left the pins that vouch for frames, have these vouch for
        nobody until a repair: what a repair begins with, without the writer lock, so that whatever others do meanwhile,
        for however long, keeps nothing open. True where it was done; False, too, where another version of the program
        laid the wall, or is about to."""
        from cellwall.engine.repair.reconcile import close_unjudged

        with self._caller.mutex:
            found = self._site.foundation()
            if found is None or not self._site.journal.in_place():
                return False
            self._caller.take_those_in_force(found)
            return close_unjudged(self._site, found)

    def own(self, descriptor: int | None = None) -> str:
        """Nobody but this process writes our tables in nftables from now on: a flush of all rules passes them over, and
        who means them is refused. "" where it is so, else why it cannot be. What nft laid is drift then, for `repair`;
        until one each change of a policy looks for what others had taken out before.

        `descriptor`: the `owning_descriptor` of a process before this one, to go on with. Idempotent.
        """
        from cellwall.engine.node.owning import own_rules

        with self._caller.turn():
            self._caller.take_those_in_force(self._site.foundation())
            return own_rules(self._site, descriptor)

    def follow(self, audience: "Audience | None") -> None:
        """Have this told of every endpoint that this wall attaches, changes or closes, from now on; None: nobody."""
        self._site.in_force.audience = audience

    @property
    def owning_descriptor(self) -> int:
        """For whose life our tables are owned: a duplicate of it keeps them so beyond this process."""
        return self._site.rules.descriptor()

    def traffic(self) -> "TrafficReport":
        """What each attached endpoint has sent and received by now, and how many flows it has. Changes nothing, and
        waits for nobody who writes."""
        from cellwall.engine.figures import traffic_report

        with self._caller.mutex:
            return traffic_report(self._site)

    def counted(self) -> "NodeCount":
        """What is on record of the node: its endpoints, and how many addresses there are for how many more."""
        from cellwall.engine.figures import node_count

        with self._caller.mutex:
            self._caller.take_those_in_force(self._site.foundation())
            return node_count(self._site)

    def present_endpoints(self) -> "tuple[Endpoint, ...]":
        """Of whom who follows is told: what is attached, and sandboxes that stand ready."""
        with self._caller.mutex:
            return self._site.journal.endpoints("attached")

    def ready_links(self) -> frozenset[int]:
        """The indices of the host ends of sandboxes that stand ready."""
        with self._caller.mutex:
            return frozenset(endpoint.host_index for endpoint in self._site.journal.pooled())

    def meters(self) -> "Meters":
        """The kernel's own figures of this node."""
        return self._site.meters()

    def keep_figures(self, ledger: "Ledger") -> None:
        """Have this told of endpoints that this wall closes, from now on, while their links are there to be read."""
        self._caller.keep_figures(ledger)
