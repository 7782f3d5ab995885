"""`engine.backend.Backend` over iptables and ipset.

ipset has no transaction over several sets, and rules of published ports are another program's. So a change goes in the
order in which it opens last, and what fails half way is taken back as far as it opened anything: what was closed stays
closed, and the caller has all endpoints compared.

Hot path: an attach or a detach without published ports is a handful of messages over one socket; no program runs.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress

from cellwall.engine.backend import BackendName, Holder, Laid, Laying, Settled, Shut, Wanted
from cellwall.engine.iptables.host import Host, recorded_form
from cellwall.engine.iptables.published import publish, withdraw
from cellwall.engine.iptables.remnants import close_unjudged, is_entire, stands
from cellwall.errors import CellwallError, KernelError
from cellwall.lower.xt.endpoints import Holdings, changes, holdings
from cellwall.model.endpoint import Endpoint
from cellwall.model.facts import NodeFacts
from cellwall.model.settings import Settings


class IptablesBackend:
    """The chains named `B9-…` and the sets named `b9…` of one network namespace. Holds nothing but the adapters."""

    __slots__ = ("_host",)
    name: BackendName = "iptables"

    def __init__(self, host: Host) -> None:
        self._host = host

    def refusal(self, settings: Settings) -> str:
        """See `Backend.refusal`."""
        from cellwall.engine.iptables.form import refusal

        return refusal(self._host.tables, settings)

    def holder(self, laid: Laid) -> Holder:
        """See `Backend.holder`."""
        form = recorded_form(laid)
        return Holder(self.name, "" if form is None else form.variant)

    def marks_frames(self, laid: Laid) -> bool:
        """See `Backend.marks_frames`."""
        form = recorded_form(laid)
        return form is not None and form.features.frames

    def carries_ipv6(self, facts: NodeFacts, laid: Laid) -> bool:
        """See `Backend.carries_ipv6`."""
        return self._host.pins[6] is not None

    def plan(self, wanted: Wanted, attached: Sequence[Endpoint], before: Laid | None) -> Laying | None:
        """See `Backend.plan`."""
        from cellwall.engine.iptables.laying import plan

        return plan(self._host, wanted, attached, before)

    def take(self, settings: Settings, laid: Laid) -> None:
        """See `Backend.take`."""
        form = recorded_form(laid)
        if form is None:  # another version of the program wrote what this one cannot read: closing goes on
            from cellwall.engine.iptables.form import choose_form

            form = choose_form(self._host.tables, settings, None)
        self._host.take(settings.network.subnet4, form, laid.usage.policies)

    def take_remains(self) -> None:
        """See `Backend.take_remains`: a laying leaves nothing beside the wall."""

    def shape(self) -> str:
        """See `Backend.shape`."""
        from cellwall.engine.iptables.live import shape

        return shape(self._host)

    def is_kept(self) -> bool:
        """See `Backend.is_kept`: nothing of iptables can be anybody's alone."""
        return True

    def is_owned(self) -> bool:
        """See `Backend.is_owned`, and `is_kept`."""
        return False

    def stands(self) -> bool:
        """See `Backend.stands`."""
        return stands(self._host)

    def is_entire(self) -> bool:
        """See `Backend.is_entire`."""
        return is_entire(self._host)

    def close_unjudged(
        self, laid: Laid, *, ours: bool = True, settled: Settled | None = None, shut: Shut | None = None
    ) -> bool:
        """See `Backend.close_unjudged`: ebtables vouches for all frames, whatever becomes of the other tables."""
        form = recorded_form(laid)
        return form is not None and close_unjudged(self._host, form, settled, shut)

    def differences(self, wanted: Wanted) -> tuple[str, ...]:
        """See `Backend.differences`."""
        from cellwall.engine.iptables.differences import differences

        return differences(self._host, wanted)

    def remove(self, wanted: Wanted, *, beside: bool = False) -> None:
        """See `Backend.remove`."""
        from cellwall.engine.iptables.laying import remove

        remove(self._host)

    def change(self, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> None:
        """See `Backend.change`."""
        was, will = self._held(before), self._held(after)
        change = changes(was, will)
        # A claim adds nothing as a rule: no entry is made of whose a sandbox is.
        claims = bool(after) and any(endpoint.key.pooled for endpoint in before)
        if (change.added or change.renewed or claims) and not stands(self._host):
            raise KernelError(errno.ENOENT, "change endpoints", "the wall was flushed")
        try:
            self._host.sets.apply(change.added, ())
            publish(self._host, change.rules_added)
        except CellwallError:
            # What is left of it in spite of this is found by whoever compares all endpoints.
            back = changes(will, was)
            with suppress(CellwallError):
                self._host.sets.apply(back.added, back.removed)
            with suppress(CellwallError):
                withdraw(self._host, change.rules_added)
            raise
        try:
            self._host.sets.apply((), change.removed)
            self._host.sets.apply(change.renewed, ())
        finally:  # what is closed already leads nobody any more
            withdraw(self._host, change.rules_removed)

    def drift(self, attached: Sequence[Endpoint]) -> tuple[str, ...]:
        """See `Backend.drift`."""
        from cellwall.engine.iptables.live import drift

        return drift(self._host, self._held(attached))

    def missing(self, endpoints: Sequence[Endpoint], former: Sequence[Endpoint] = ()) -> tuple[str, ...]:
        """See `Backend.missing`."""
        from cellwall.engine.iptables.live import missing

        return missing(self._host, self._held(endpoints))

    def repair(self, attached: Sequence[Endpoint], *, rules: bool = True) -> tuple[str, ...]:
        """See `Backend.repair`."""
        from cellwall.engine.iptables.live import repair

        whole = stands(self._host)
        return repair(self._host, self._held(attached), rules=rules and whole, opens=whole)

    def _held(self, endpoints: Sequence[Endpoint]) -> Holdings:
        return holdings(endpoints, self._host.pins)
